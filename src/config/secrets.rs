//! Secrets: `file:PATH`, `env:NAME` or the text itself. What is said about one never holds its text.

use std::io;
use std::path::Path;

use crate::config::Secret;
use crate::config::errors::Bad;

/// Longer than any key, shorter than a file that was meant to be another.
const SECRET_BYTES_MAX: usize = 16 * 1024;

/// Reads a secret. A relative path starts at `base`, the folder of the configuration file; line ends at its end go.
pub fn read_secret(
    text: &str,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Secret, Bad> {
    let (found, place) = if let Some(path) = text.strip_prefix("file:") {
        let path = base.join(path);
        let expected = "a file that this user can read";
        let found = read(&path).map_err(|e| Bad::new(format!("cannot read {}: {e}", path.display()), expected))?;
        (found.trim_end_matches(['\r', '\n']).to_owned(), format!("{}", path.display()))
    } else if let Some(name) = text.strip_prefix("env:") {
        let missing = || Bad::new(format!("the environment has no variable {name}"), "a variable that is set");
        (env(name).ok_or_else(missing)?, format!("the variable {name}"))
    } else if text.is_empty() {
        return Ok(Secret::default());
    } else {
        (text.to_owned(), "the secret".to_owned())
    };
    if found.is_empty() {
        return Err(Bad::new(format!("{place} is empty"), "a secret"));
    }
    if found.len() > SECRET_BYTES_MAX {
        return Err(Bad::new(format!("{place} is longer than a secret"), format!("at most {SECRET_BYTES_MAX} bytes")));
    }
    if found.chars().any(char::is_control) {
        return Err(Bad::new(format!("{place} holds a line end or another control character"), "a secret in one line"));
    }
    Ok(Secret(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(text: &str, content: &str) -> Result<Secret, Bad> {
        let content = content.to_owned();
        read_secret(text, Path::new("/etc/bc"), &|n| (n == "SET").then(|| content.clone()), &|p| match p.to_str() {
            Some("/etc/bc/here" | "/abs/here") => Ok(content.clone()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn a_secret_comes_from_a_file_the_environment_or_the_text() {
        assert_eq!(read_with("literal", ""), Ok(Secret("literal".into())));
        assert_eq!(read_with("", ""), Ok(Secret::default()));
        assert_eq!(read_with("env:SET", "e"), Ok(Secret("e".into())));
        assert_eq!(read_with("file:here", "f\r\n\n"), Ok(Secret("f".into())));
        assert_eq!(read_with("file:/abs/here", "f"), Ok(Secret("f".into())));
    }

    #[test]
    fn what_is_wrong_with_a_secret_never_shows_it() {
        for (text, content) in
            [("file:gone", ""), ("env:UNSET", ""), ("env:SET", ""), ("file:here", "\n"), ("file:here", "canary\nx"), ("canary\u{7}", "")]
        {
            let bad = read_with(text, content).unwrap_err();
            assert!(!format!("{bad:?}").contains("canary"), "{bad:?}");
        }
        assert!(read_with("env:SET", &"x".repeat(SECRET_BYTES_MAX)).is_ok());
        assert!(read_with("env:SET", &"x".repeat(SECRET_BYTES_MAX + 1)).is_err());
    }
}
