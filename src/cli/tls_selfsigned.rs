//! `backchannel tls-selfsigned`: a certificate and its key for a lab.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use clap::Args;

use crate::cli::EXIT_FAILED;
use crate::cli::EXIT_OK;
use crate::ops::selfsigned::SelfSigned;
use crate::ops::selfsigned::self_signed;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

#[derive(Args, Clone, Debug)]
pub struct TlsSelfsignedArgs {
    /// A host name or address that peers connect to; repeat it for several
    #[arg(long, value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub name: Vec<String>,
    /// The folder for cert.pem and key.pem; made if missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// How long it is good for, in days
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Overwrite files that are there
    #[arg(long)]
    pub force: bool,
}

/// Writes both files, or says why not.
pub fn run_tls_selfsigned(args: &TlsSelfsignedArgs) -> u8 {
    match make(args) {
        Ok((certificate, key)) => {
            let _ = writeln!(
                io::stdout(),
                "{} (ECDSA P-256 for {}, {} days; peers trust it by this file)\n{} (its key: keep it to yourself)",
                certificate.display(),
                args.name.join(", "),
                args.days,
                key.display()
            );
            EXIT_OK
        }
        Err(why) => {
            eprintln!("backchannel tls-selfsigned: {why}");
            EXIT_FAILED
        }
    }
}

fn make(args: &TlsSelfsignedArgs) -> Result<(PathBuf, PathBuf), String> {
    let (certificate, key) = (args.out.join(CERTIFICATE_FILE), args.out.join(KEY_FILE));
    // Both before either: half a pair is worse than none.
    if let Some(there) = [&certificate, &key].into_iter().find(|p| !args.force && p.symlink_metadata().is_ok()) {
        return Err(format!("{} is there already; --force overwrites it", there.display()));
    }
    let made = self_signed(&args.name, SystemTime::now(), DAY * args.days)?;
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{}: {e}", args.out.display()))?;
    write_pair(&made, &certificate, &key, args.force)?;
    Ok((certificate, key))
}

fn write_pair(made: &SelfSigned, certificate: &Path, key: &Path, force: bool) -> Result<(), String> {
    for (path, text, mode) in [(key, &made.key, 0o600), (certificate, &made.certificate, 0o644)] {
        write(path, text, mode, force).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// A new file: the mode of an old one would stay, and a link would lead elsewhere.
fn write(path: &Path, text: &str, mode: u32, force: bool) -> io::Result<()> {
    if force {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_for_its_owner_and_nothing_is_overwritten_unless_told() {
        let out = std::env::temp_dir().join(format!("backchannel-selfsigned-{}", std::process::id()));
        let mut args = TlsSelfsignedArgs { name: vec!["sip.example".into()], out: out.clone(), days: 1, force: false };
        let (certificate, key) = make(&args).unwrap();
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read_to_string(&certificate).unwrap();
        assert!(make(&args).unwrap_err().contains("--force"));
        std::fs::remove_file(&certificate).unwrap();
        assert!(make(&args).unwrap_err().contains("key.pem is there"));
        args.force = true;
        make(&args).unwrap();
        assert_ne!(std::fs::read_to_string(&certificate).unwrap(), first);
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&out).unwrap();
    }
}
