//! `backchannel headers`

use crate::cli::EXIT_FAILED;
use crate::cli::HeadersArgs;
use crate::config::Config;

/// What an INVITE would become, and why.
pub fn run_headers(_args: &HeadersArgs, _config: Config) -> u8 {
    eprintln!("backchannel headers: not built");
    EXIT_FAILED
}
