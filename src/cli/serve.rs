//! `backchannel serve`

use crate::cli::EXIT_FAILED;
use crate::config::Config;

/// Carries calls until it is told to stop.
pub fn run_serve(_config: Config, _warnings: &[String]) -> u8 {
    eprintln!("backchannel serve: not built");
    EXIT_FAILED
}
