//! What is wrong with a configuration file: where, which key, what was expected, the nearest valid name.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One thing that is wrong. It never holds a secret's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub file: PathBuf,
    /// From 1; 0 when the file could not be read at all.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// As a user writes it, sections included; empty for a syntax error.
    pub key: String,
    pub problem: String,
    /// What would be right; may be empty.
    pub expected: String,
    /// The nearest valid name.
    pub nearest: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        match &self.nearest {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong with one file, in the file's order. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            writeln!(f, "{error}")?;
        }
        let (count, noun) = (self.0.len(), if self.0.len() == 1 { "error" } else { "errors" });
        write!(f, "{count} {noun}; nothing was started. The config.toml that comes with backchannel explains every key.")
    }
}

impl std::error::Error for ConfigErrors {}

/// A value that does not do, before it is known where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bad {
    pub problem: String,
    pub expected: String,
    pub nearest: Option<String>,
}

impl Bad {
    pub fn new(problem: impl Into<String>, expected: impl Into<String>) -> Bad {
        Bad { problem: problem.into(), expected: expected.into(), nearest: None }
    }

    /// A feature that the contract knows and this version has not.
    pub fn not_yet(what: &str, expected: impl Into<String>) -> Bad {
        Bad::new(format!("not in this version: {what}"), expected)
    }

    pub fn near(mut self, nearest: Option<String>) -> Bad {
        self.nearest = nearest;
        self
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; expected {}", self.problem, self.expected)
    }
}

impl std::error::Error for Bad {}

/// Line and column, both from 1, of a byte offset; a column counts characters.
pub fn position(text: &str, at: &Range<usize>) -> (usize, usize) {
    let mut offset = at.start.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The valid name nearest to `name`, when it is near enough to be what was meant.
pub fn nearest<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    valid
        .into_iter()
        .map(|v| (strsim::damerau_levenshtein(&lower, &v.to_ascii_lowercase()), v))
        .filter(|(distance, v)| *distance <= (v.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, v)| v.to_owned())
}

/// `"a", "b" or "c"`, for an `expected`.
pub fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|n| format!("\"{n}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_from_one_and_columns_in_characters() {
        assert_eq!(position("ab\nc=1", &(0..1)), (1, 1));
        assert_eq!(position("ab\r\n\n  c=1", &(7..8)), (3, 3));
        assert_eq!(position("ü = 1", &(5..6)), (1, 5));
        assert_eq!(position("ü", &(1..1)), (1, 1), "inside a character");
        assert_eq!(position("a", &(99..100)), (1, 2), "past the end");
    }

    #[test]
    fn a_typo_finds_its_name_and_nonsense_finds_none() {
        let names = ["max_calls", "max_cps", "name", "e", "o"];
        assert_eq!(nearest("max_call", names).as_deref(), Some("max_calls"));
        assert_eq!(nearest("Nmae", names).as_deref(), Some("name"));
        assert_eq!(nearest("zebra", names), None);
    }

    #[test]
    fn an_error_names_file_line_column_key_expectation_and_nearest() {
        let error = ConfigError {
            file: "c.toml".into(),
            line: 3,
            column: 7,
            key: "sip.t1".into(),
            problem: "bad".into(),
            expected: "good".into(),
            nearest: Some("\"x\"".into()),
        };
        assert_eq!(error.to_string(), "c.toml:3:7: sip.t1: bad; expected good; did you mean \"x\"?");
        assert_eq!(one_of(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
