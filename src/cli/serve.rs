//! `backchannel serve`

use std::sync::Arc;

use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::config::Config;
use crate::edge::serve;
use crate::edge::serve::ServeOptions;

/// Carries calls until it is told to stop.
pub fn run_serve(config: Config, warnings: &[String]) -> u8 {
    for warning in warnings {
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
