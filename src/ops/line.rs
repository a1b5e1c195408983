//! One line per event, version 1 (`v=1` of the format): time in UTC with milliseconds, level, word, then `name=value` in a fixed
//! order. Names are only ever added, at the end. Pretty, logfmt and JSON print the same list of fields.

use std::fmt::Write;

use crate::config::LogFormat;
use crate::ops::facts;
use crate::ops::facts::Fields;
use crate::ops::facts::Value;
use crate::ops::redact::Redactor;
use crate::report::CallEvent;
use crate::report::Level;
use crate::time::Time;

/// A longer value is cut, and ends in `…`: a peer may not fill the disk with one header.
pub const LOG_VALUE_BYTES_MAX: usize = 512;

/// Version of the line's format; JSON carries it as `v`.
pub const LOG_FORMAT_VERSION: u64 = 1;

/// The line of one call event, without its newline.
pub fn of_event(format: LogFormat, event: &CallEvent, redactor: &Redactor) -> String {
    of_fields(format, event.at, event.fact.level(), event.fact.word(), &facts::fields(event, redactor))
}

/// Any line: also what is not a call's.
pub fn of_fields(format: LogFormat, at: Time, level: Level, word: &str, fields: &Fields<'_>) -> String {
    let mut out = String::with_capacity(256);
    match format {
        LogFormat::Pretty => pretty(&mut out, at, level, word, fields),
        LogFormat::Logfmt => logfmt(&mut out, at, level, word, fields),
        LogFormat::Json => json(&mut out, at, level, word, fields),
    }
    out
}

fn pretty(out: &mut String, at: Time, level: Level, word: &str, fields: &Fields<'_>) {
    let letter = match level {
        Level::Debug => 'D',
        Level::Info => 'I',
        Level::Warn => 'W',
        Level::Error => 'E',
    };
    let _ = write!(out, "{at} {letter} ");
    push_escaped(out, cut(word));
    push_pairs(out, fields);
}

fn logfmt(out: &mut String, at: Time, level: Level, word: &str, fields: &Fields<'_>) {
    let _ = write!(out, "ts={at} level={} event=", level_word(level));
    push_value(out, word);
    push_pairs(out, fields);
}

fn json(out: &mut String, at: Time, level: Level, word: &str, fields: &Fields<'_>) {
    let _ = write!(out, "{{\"v\":{LOG_FORMAT_VERSION},\"ts\":\"{at}\",\"level\":\"{}\",\"event\":", level_word(level));
    push_json(out, word);
    for (name, value) in fields {
        out.push(',');
        push_json(out, name);
        out.push(':');
        match value {
            Value::Text(text) => push_json(out, text),
            Value::Number(n) => {
                let _ = write!(out, "{n}");
            }
            Value::Bool(b) => {
                let _ = write!(out, "{b}");
            }
        }
    }
    out.push('}');
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

fn push_pairs(out: &mut String, fields: &Fields<'_>) {
    for (name, value) in fields {
        out.push(' ');
        push_escaped(out, cut(name));
        out.push('=');
        match value {
            Value::Text(text) => push_value(out, text),
            Value::Number(n) => {
                let _ = write!(out, "{n}");
            }
            Value::Bool(b) => {
                let _ = write!(out, "{b}");
            }
        }
    }
}

/// As it is, or in quotes when a reader that splits at blanks would misread it.
fn push_value(out: &mut String, text: &str) {
    let shown = cut(text);
    let quoted = shown.is_empty() || shown.chars().any(|c| c == ' ' || c == '"' || c == '=' || is_unsafe(c)) || shown.len() < text.len();
    if quoted {
        out.push('"');
    }
    push_escaped(out, shown);
    if shown.len() < text.len() {
        out.push('…');
    }
    if quoted {
        out.push('"');
    }
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// A JSON string (RFC 8259 §7), with the same cut and the same escapes.
fn push_json(out: &mut String, text: &str) {
    let shown = cut(text);
    out.push('"');
    push_escaped(out, shown);
    if shown.len() < text.len() {
        out.push('…');
    }
    out.push('"');
}

/// What could end a line, move the cursor or turn the reading direction on somebody's terminal.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn cut(text: &str) -> &str {
    if text.len() <= LOG_VALUE_BYTES_MAX {
        return text;
    }
    let mut end = LOG_VALUE_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
