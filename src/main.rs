//! Arguments → command.

use std::process::ExitCode;

fn main() -> ExitCode {
    backchannel::cli::run()
}
