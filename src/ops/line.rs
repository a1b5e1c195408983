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
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::facts::samples;

    fn printed(format: LogFormat) -> String {
        samples::all().iter().map(|e| of_event(format, e, &Redactor::off()) + "\n").collect()
    }

    #[test]
    fn every_event_prints_as_version_1_of_the_format_says() {
        assert_eq!(printed(LogFormat::Pretty), include_str!("golden/pretty.txt"));
        assert_eq!(printed(LogFormat::Logfmt), include_str!("golden/logfmt.txt"));
        assert_eq!(printed(LogFormat::Json), include_str!("golden/json.txt"));
    }

    #[test]
    fn every_json_line_is_json_with_the_same_fields() {
        for event in samples::all() {
            let line = of_event(LogFormat::Json, &event, &Redactor::off());
            let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
            let fields = facts::fields(&event, &Redactor::off());
            assert_eq!(read.len(), fields.len() + 4, "{line}");
            for (name, value) in fields {
                match value {
                    Value::Text(text) => assert_eq!(read[name.as_ref()], text.as_ref()),
                    Value::Number(n) => assert_eq!(read[name.as_ref()], n),
                    Value::Bool(b) => assert_eq!(read[name.as_ref()], b),
                }
            }
        }
    }

    #[test]
    fn a_value_cannot_end_the_line_nor_forge_a_field() {
        let at = Time::from_micros(0);
        let fields =
            vec![("why".into(), Value::Text("x\r\n\u{1b}[2J by=\"me\" \\ \u{202e}".into())), ("none".into(), Value::Text("".into()))];
        let line = of_fields(LogFormat::Pretty, at, Level::Error, "a\nb", &fields);
        assert_eq!(line, r#"1970-01-01T00:00:00.000Z E a\nb why="x\r\n\u001b[2J by=\"me\" \\ \u202e" none="""#);
        let read: serde_json::Value = serde_json::from_str(&of_fields(LogFormat::Json, at, Level::Error, "a", &fields)).unwrap();
        assert_eq!(read["why"], "x\r\n\u{1b}[2J by=\"me\" \\ \u{202e}");
    }

    #[test]
    fn one_byte_over_the_bound_is_cut_between_characters() {
        let at = Time::from_micros(0);
        let print =
            |text: &str| of_fields(LogFormat::Logfmt, at, Level::Info, "x", &vec![("v".into(), Value::Text(text.to_owned().into()))]);
        let whole = "y".repeat(LOG_VALUE_BYTES_MAX);
        assert!(print(&whole).ends_with(&format!("v={whole}")));
        let over = "y".repeat(LOG_VALUE_BYTES_MAX - 1) + "é";
        assert!(print(&over).ends_with("y…\""));
        assert!(!print(&over).contains('é'));
    }

    #[test]
    fn redaction_hides_the_numbers_and_leaves_the_contact_id() {
        let redactor = Redactor::new(true, "bc-1");
        let all: String = samples::all().iter().map(|e| of_event(LogFormat::Json, e, &redactor) + "\n").collect();
        assert!(!all.contains("2065550123") && !all.contains("2065551234"), "{all}");
        assert_eq!(all.matches("\"contact\":\"48812\"").count(), samples::all().len());
        assert!(all.contains("E.48812;"));
    }
}
