//! `backchannel serve`

use std::sync::Arc;
use std::time::SystemTime;

use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::config::Config;
use crate::edge::serve;
use crate::edge::serve::ServeOptions;
use crate::edge::sip::certificate;

/// Carries calls until it is told to stop.
pub fn run_serve(config: Config, warnings: &[String]) -> u8 {
    for warning in warnings.iter().chain(&certificate::warnings(&config, SystemTime::now())) {
        eprintln!("warning: {warning}");
    }
    let options = ServeOptions { signals: true, ..ServeOptions::default() };
    match serve::run(Arc::new(config), options) {
        Ok(()) => EXIT_OK,
        Err(e) => {
            eprintln!("backchannel: {e}");
            EXIT_FAILED
        }
    }
}
