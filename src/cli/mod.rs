//! The command line (product.md §1). Exit codes: 0 ok, 1 failed, 2 usage or configuration.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Parser;
use clap::Subcommand;

use crate::config::Config;
use crate::config::Loaded;

mod check;
mod demo;
mod headers;
pub mod mock;
mod probe;
mod serve;
mod tls_selfsigned;

/// Done.
pub const EXIT_OK: u8 = 0;
/// It was tried and failed.
pub const EXIT_FAILED: u8 = 1;
/// Wrong usage or configuration: nothing was tried.
pub const EXIT_USAGE: u8 = 2;

/// SIP back-to-back user agent between a NICE CXone carrier trunk and Synthflow voice AI.
#[derive(Parser, Debug)]
#[command(name = "backchannel", version, arg_required_else_help = true)]
#[command(after_help = "Example: backchannel check -c config.toml && backchannel serve -c config.toml\n\n\
                        Exit codes: 0 ok, 1 failed, 2 usage or configuration.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Carry calls: the main job
    #[command(after_help = "Example: backchannel serve -c /etc/backchannel/config.toml")]
    Serve(ConfigArg),
    /// Carry and escalate one call between built-in mocks on loopback, and print its ladder
    #[command(after_help = "Example: backchannel demo")]
    Demo,
    /// Read the configuration and say what serve would do with it, and what would keep it from starting
    #[command(after_help = "Example: backchannel check -c config.toml --json\n\n\
                            Exit codes: 0 serve would start, 1 something keeps it from starting, 2 the configuration is wrong.")]
    Check(CheckArgs),
    /// The two far ends, for a laptop or a test
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example: backchannel mock synthflow --refer billing --after 5s")]
    Mock(mock::MockCommand),
    /// What would this INVITE become? The outgoing INVITE, and why each header is there
    #[command(after_help = "Example: backchannel headers invite.sip -c config.toml")]
    Headers(HeadersArgs),
    /// Make a self-signed certificate (ECDSA P-256) and its key, for a lab
    #[command(after_help = "Example: backchannel tls-selfsigned --name sip.lab.example --out /etc/backchannel")]
    TlsSelfsigned(tls_selfsigned::TlsSelfsignedArgs),
}

/// `-c`
#[derive(Args, Clone, Debug)]
pub struct ConfigArg {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "config.toml")]
    pub config: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct HeadersArgs {
    /// A file that holds one INVITE as CXone sends it
    #[arg(value_name = "FILE.sip")]
    pub file: PathBuf,
    #[command(flatten)]
    pub config: ConfigArg,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments → command. Wrong arguments end the process with 2, `--help` with 0.
pub fn run() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Serve(args) => with_config(&args.config, |loaded| serve::run_serve(loaded.config, &loaded.warnings)),
        Command::Demo => demo::run_demo(),
        Command::Check(args) => check::run_check(&args),
        Command::Mock(mock::MockCommand::Cxone(args)) => mock::run_mock_cxone(&args),
        Command::Mock(mock::MockCommand::Synthflow(args)) => mock::run_mock_synthflow(&args),
        Command::TlsSelfsigned(args) => tls_selfsigned::run_tls_selfsigned(&args),
        Command::Headers(args) => with_config(&args.config.config, |loaded| headers::run_headers(&args, loaded.config)),
    };
    ExitCode::from(code)
}

/// Errors go to standard error, and nothing is done.
fn with_config(path: &Path, run: impl FnOnce(Loaded) -> u8) -> u8 {
    match Config::load(path) {
        Ok(loaded) => run(loaded),
        Err(errors) => {
            eprintln!("{errors}");
            EXIT_USAGE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_is_config_toml_unless_told() {
        let Command::Serve(args) = Cli::try_parse_from(["backchannel", "serve"]).unwrap().command else { panic!() };
        assert_eq!(args.config, Path::new("config.toml"));
        let Command::Check(args) = Cli::try_parse_from(["backchannel", "check", "-c", "x.toml", "--json"]).unwrap().command else {
            panic!()
        };
        assert_eq!((args.config.config.as_path(), args.json), (Path::new("x.toml"), true));
    }
}
