//! `backchannel headers`

use std::io;
use std::io::Write;
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
        Ok(text) => said(writeln!(io::stdout().lock(), "{text}")),
        Err(why) => {
            eprintln!("backchannel headers: {}: {why}", args.file.display());
            EXIT_FAILED
        }
    }
}

/// A reader that has seen enough (`| head`) is no failure; a full disk is one.
fn said(written: io::Result<()>) -> u8 {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("backchannel headers: standard output: {e}");
            EXIT_FAILED
        }
        _ => EXIT_OK,
    }
}

fn answer(args: &HeadersArgs, config: Config) -> Result<String, String> {
    let raw = std::fs::read(&args.file).map_err(|e| e.to_string())?;
    let run = dry_run(&Arc::new(config), Bytes::from(raw))?;
    if args.json { run.json() } else { Ok(run.text().trim_end().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_failure_and_a_reader_that_left_is_none() {
        assert_eq!(said(Err(io::ErrorKind::StorageFull.into())), EXIT_FAILED);
        assert_eq!(said(Err(io::ErrorKind::BrokenPipe.into())), EXIT_OK);
        assert_eq!(said(Ok(())), EXIT_OK);
    }
}
