//! The file as a tree with places, and typed questions to it. Every question collects what is wrong and goes on, so that all
//! errors of a file are told together.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeInteger;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::errors::Bad;
use crate::config::errors::ConfigError;
use crate::config::errors::nearest;
use crate::config::errors::one_of;
use crate::config::errors::position;
use crate::config::keys;
use crate::config::keys::Built;
use crate::config::values;

/// Bytes of the file that a span covers.
pub type At = Range<usize>;

/// A text and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    pub value: String,
    pub at: At,
}

/// The tree of one file, and what was found wrong so far.
pub struct Tree<'a> {
    text: &'a str,
    file: &'a Path,
    root: &'a DeTable<'a>,
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<String>,
}

impl<'a> Tree<'a> {
    pub fn new(text: &'a str, file: &'a Path, root: &'a DeTable<'a>) -> Tree<'a> {
        let mut tree = Tree { text, file, root, errors: Vec::new(), warnings: Vec::new() };
        tree.check_names(root, "");
        tree
    }

    pub fn bad(&mut self, at: &At, key: &str, bad: Bad) {
        let (line, column) = position(self.text, at);
        let Bad { problem, expected, nearest } = bad;
        self.errors.push(ConfigError { file: self.file.to_owned(), line, column, key: key.to_owned(), problem, expected, nearest });
    }

    /// Whether something about this key is wrong already, so that what follows from it need not be told.
    pub fn has_error(&self, key: &str) -> bool {
        self.errors.iter().any(|e| e.key == key)
    }

    /// Where a key's value stands, else its section's name, else the beginning.
    pub fn at(&self, path: &str) -> At {
        if let Some((_, value)) = self.given(path) {
            return value.span();
        }
        let mut section = path;
        while let Some((parent, _)) = section.rsplit_once('.') {
            section = parent;
            if let Some((name, _)) = self.given(section) {
                return name;
            }
        }
        0..0
    }

    fn given(&self, path: &str) -> Option<(At, &'a Spanned<DeValue<'a>>)> {
        let (mut table, mut rest) = (self.root, path);
        loop {
            let (name, below) = rest.split_once('.').map_or((rest, None), |(n, b)| (n, Some(b)));
            let (key, value) = table.iter().find(|(k, _)| k.get_ref() == name)?;
            let Some(below) = below else { return Some((key.span(), value)) };
            (table, rest) = (value.get_ref().as_table()?, below);
        }
    }

    /// Unknown names, and keys of features that this version has not.
    fn check_names(&mut self, table: &'a DeTable<'a>, section: &str) {
        for (name, value) in table.iter() {
            let path = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            if let Some(key) = keys::find(&path) {
                if let Built::Later(also) = key.built {
                    self.check_later(key, also, value);
                }
                continue;
            }
            match value.get_ref().as_table() {
                Some(below) if keys::is_section(&path) => self.check_names(below, &path),
                None if keys::is_section(&path) => {
                    self.bad(&value.span(), &path, Bad::new(format!("is a section, not {}", kind(value.get_ref())), format!("[{path}]")));
                }
                _ => self.unknown(name.get_ref(), section, &path, &name.span()),
            }
        }
    }

    fn unknown(&mut self, name: &str, section: &str, path: &str, at: &At) {
        let names = keys::names_in(section);
        let near = nearest(name, names.iter().copied()).map(|n| format!("\"{n}\""));
        let near = near.or_else(|| keys::elsewhere(name).map(|p| format!("\"{p}\"")));
        let what = if section.is_empty() { "unknown section" } else { "unknown key" };
        self.bad(at, path, Bad::new(what, one_of(names)).near(near));
    }

    fn check_later(&mut self, key: &keys::Key, also: &[&str], value: &Spanned<DeValue<'_>>) {
        let accepted = |text: &str| DeValue::parse(text).is_ok_and(|v| same(v.get_ref(), value.get_ref()));
        if accepted(key.default) || also.iter().any(|text| accepted(text)) {
            return;
        }
        let or = also.iter().map(|t| format!(" or {t}")).collect::<String>();
        self.bad(&value.span(), key.path, Bad::new("not in this version", format!("the default, {}{or}", key.default)));
    }

    /// The user's value when it is of the right kind, else the default; a wrong kind is an error.
    fn typed<T>(&mut self, path: &str, expected: &str, pick: impl Fn(&DeValue<'_>, &At) -> Option<T>) -> Option<T> {
        debug_assert!(keys::find(path).is_some_and(|k| k.built == Built::Yes), "{path} is not a built key");
        if let Some((_, value)) = self.given(path) {
            match pick(value.get_ref(), &value.span()) {
                Some(found) => return Some(found),
                None => self.bad(&value.span(), path, Bad::new(format!("is {}", kind(value.get_ref())), expected)),
            }
        }
        let default = DeValue::parse(keys::find(path)?.default).ok()?;
        pick(default.get_ref(), &self.at(path))
    }

    pub fn text(&mut self, path: &str) -> Text {
        let found = self.typed(path, "a text in quotes", |v, at| v.as_str().map(|s| Text { value: s.to_owned(), at: at.clone() }));
        found.unwrap_or_else(|| Text { value: String::new(), at: 0..0 })
    }

    pub fn flag(&mut self, path: &str) -> bool {
        self.typed(path, "true or false", |v, _| v.as_bool()).unwrap_or_default()
    }

    pub fn number(&mut self, path: &str, range: std::ops::RangeInclusive<u64>) -> u64 {
        let expected = format!("a whole number of {} to {}", range.start(), range.end());
        // A number that does not fit into 64 bits is out of any range.
        let found = self.typed(path, &expected, |v, _| v.as_integer().map(|i| integer(i).unwrap_or(i128::MAX)));
        let found = found.unwrap_or_default();
        match u64::try_from(found) {
            Ok(n) if range.contains(&n) => n,
            _ => {
                let at = self.at(path);
                self.bad(&at, path, Bad::new("is out of range", expected));
                *range.start()
            }
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, path: &str) -> Vec<Text> {
        self.list(path, "a list of texts, as in [\"a\", \"b\"]", false)
    }

    /// One text or a list of them; an empty text is none.
    pub fn text_or_texts(&mut self, path: &str) -> Vec<Text> {
        self.list(path, "a text or a list of texts", true)
    }

    fn list(&mut self, path: &str, expected: &str, single: bool) -> Vec<Text> {
        let found = self.typed(path, expected, |v, at| match v {
            DeValue::String(s) if single && s.is_empty() => Some(Vec::new()),
            DeValue::String(s) if single => Some(vec![Text { value: s.to_string(), at: at.clone() }]),
            DeValue::Array(items) => {
                items.iter().map(|i| i.get_ref().as_str().map(|s| Text { value: s.to_owned(), at: i.span() })).collect::<Option<Vec<_>>>()
            }
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// A table of texts whose names the user chooses, in the file's order.
    pub fn map(&mut self, path: &str) -> Vec<(Text, Text)> {
        let found = self.typed(path, "a table of texts, as in { \"a\" = \"b\" }", |v, _| {
            let mut pairs = Vec::new();
            for (name, value) in v.as_table()?.iter() {
                let value_text = value.get_ref().as_str()?.to_owned();
                pairs.push((Text { value: name.get_ref().to_string(), at: name.span() }, Text { value: value_text, at: value.span() }));
            }
            pairs.sort_by_key(|(name, _)| name.at.start);
            Some(pairs)
        });
        found.unwrap_or_default()
    }

    /// A text that `parse` understands.
    pub fn parsed<T>(&mut self, path: &str, fallback: T, parse: impl Fn(&str) -> Result<T, Bad>) -> T {
        let text = self.text(path);
        self.understood(path, &text, parse).unwrap_or(fallback)
    }

    /// As `parsed`; an empty text is none.
    pub fn optional<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, Bad>) -> Option<T> {
        let text = self.text(path);
        if text.value.is_empty() { None } else { self.understood(path, &text, parse) }
    }

    /// Those of the texts that `parse` understands; the others are errors.
    pub fn each<T>(&mut self, path: &str, texts: &[Text], parse: impl Fn(&str) -> Result<T, Bad>) -> Vec<T> {
        texts.iter().filter_map(|text| self.understood(path, text, &parse)).collect()
    }

    pub fn understood<T>(&mut self, path: &str, text: &Text, parse: impl Fn(&str) -> Result<T, Bad>) -> Option<T> {
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(bad) => {
                self.bad(&text.at, path, bad);
                None
            }
        }
    }

    /// One of some words.
    pub fn choice<T: Copy>(&mut self, path: &str, words: &[(&str, T)], fallback: T) -> T {
        self.parsed(path, fallback, |text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let names = || words.iter().map(|(word, _)| *word);
            found.ok_or_else(|| {
                Bad::new(format!("{text:?} is not a choice"), one_of(names())).near(nearest(text, names()).map(|n| format!("\"{n}\"")))
            })
        })
    }

    /// A duration within bounds.
    pub fn duration(&mut self, path: &str, range: std::ops::RangeInclusive<Duration>) -> Duration {
        self.bounded_duration(path, range, false)
    }

    /// A duration within bounds, or zero: off.
    pub fn duration_or_off(&mut self, path: &str, range: std::ops::RangeInclusive<Duration>) -> Duration {
        self.bounded_duration(path, range, true)
    }

    fn bounded_duration(&mut self, path: &str, range: std::ops::RangeInclusive<Duration>, off: bool) -> Duration {
        self.parsed(path, *range.start(), |text| {
            let found = values::duration(text)?;
            if range.contains(&found) || (off && found.is_zero()) {
                return Ok(found);
            }
            let (low, high) = (values::print_duration(*range.start()), values::print_duration(*range.end()));
            let or_off = if off { ", or \"0\" for off" } else { "" };
            Err(Bad::new(format!("{text:?} is out of range"), format!("\"{low}\" to \"{high}\"{or_off}")))
        })
    }
}

fn integer(i: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(i.as_str(), i.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(items) if items.iter().any(|i| !i.get_ref().is_str()) => "a list of something else",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Equal values; only kinds that a not-yet-built key's default has.
fn same(a: &DeValue<'_>, b: &DeValue<'_>) -> bool {
    match (a, b) {
        (DeValue::String(a), DeValue::String(b)) => a == b,
        (DeValue::Boolean(a), DeValue::Boolean(b)) => a == b,
        (DeValue::Array(a), DeValue::Array(b)) => a.is_empty() && b.is_empty(),
        _ => false,
    }
}
