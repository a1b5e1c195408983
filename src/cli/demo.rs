//! `backchannel demo`

use crate::cli::EXIT_FAILED;

/// One call between built-in mocks, escalated.
pub fn run_demo() -> u8 {
    eprintln!("backchannel demo: not built");
    EXIT_FAILED
}
