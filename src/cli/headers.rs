//! `backchannel headers`

use std::sync::Arc;

use bytes::Bytes;

use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::cli::HeadersArgs;
use crate::config::Config;
use crate::ops::dry_run::dry_run;

/// What an INVITE would become, and why.
pub fn run_headers(args: &HeadersArgs, config: Config) -> u8 {
    match answer(args, config) {
        Ok(text) => {
            println!("{text}");
            EXIT_OK
        }
        Err(why) => {
            eprintln!("backchannel headers: {}: {why}", args.file.display());
            EXIT_FAILED
        }
    }
}

fn answer(args: &HeadersArgs, config: Config) -> Result<String, String> {
    let raw = std::fs::read(&args.file).map_err(|e| e.to_string())?;
    let run = dry_run(&Arc::new(config), Bytes::from(raw))?;
    if args.json { run.json() } else { Ok(run.text().trim_end().to_owned()) }
}
