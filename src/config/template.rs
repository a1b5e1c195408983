//! Templates and the names of headers that we write.

use crate::config::NamePattern;
use crate::config::Piece;
use crate::config::Template;
use crate::config::errors::Bad;
use crate::config::errors::nearest;
use crate::wire::method::is_token;

/// The text that one template may hold.
const TEMPLATE_BYTES_MAX: usize = 1024;

const WORDS: [(&str, Piece); 10] = [
    ("contact_id", Piece::ContactId),
    ("call_id", Piece::CallId),
    ("node", Piece::Node),
    ("from", Piece::From),
    ("to", Piece::To),
    ("diversion", Piece::Diversion),
    ("queue", Piece::Queue),
    ("reason", Piece::Reason),
    ("signal_id", Piece::SignalId),
    ("referred_to", Piece::ReferredTo),
];

const WORDS_EXPECTED: &str =
    "{contact_id} {call_id} {node} {from} {to} {diversion} {queue} {reason} {signal_id} {referred_to} or {header.NAME}";

impl Template {
    /// Text with `{words}`. CR, LF and NUL would write further header lines: refused, as is every other control character.
    pub fn parse(text: &str) -> Result<Template, Bad> {
        plain_text(text, TEMPLATE_BYTES_MAX)?;
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(open);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let Some((word, after)) = from_brace.strip_prefix('{').and_then(|r| r.split_once('}')) else {
                return Err(Bad::new("a brace without its partner", WORDS_EXPECTED));
            };
            pieces.push(word_piece(word)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// Whether it holds a word that only an escalation gives a value to.
    pub fn has_escalation_word(&self) -> bool {
        self.0.iter().any(|p| matches!(p, Piece::Queue | Piece::Reason | Piece::SignalId | Piece::ReferredTo))
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Header(name) => write!(f, "{{header.{name}}}")?,
                word => {
                    let name = WORDS.iter().find(|(_, p)| p == word).map_or("", |(n, _)| n);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

fn word_piece(word: &str) -> Result<Piece, Bad> {
    if let Some((_, piece)) = WORDS.iter().find(|(name, _)| *name == word) {
        return Ok(piece.clone());
    }
    match word.strip_prefix("header.") {
        Some(name) if is_token(name.as_bytes()) => Ok(Piece::Header(name.to_owned())),
        Some(name) => Err(Bad::new(format!("{name:?} is not a header name"), "{header.NAME}, as in {header.X-Queue}")),
        None => {
            let near = nearest(word, WORDS.iter().map(|(name, _)| *name)).map(|n| format!("{{{n}}}"));
            Err(Bad::new(format!("unknown word {{{}}}", word.escape_debug()), WORDS_EXPECTED).near(near))
        }
    }
}

/// No control character but TAB, at most so many bytes.
pub fn plain_text(text: &str, bytes_max: usize) -> Result<(), Bad> {
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\t') {
        let name = match c {
            '\r' => "CR".to_owned(),
            '\n' => "LF".to_owned(),
            '\0' => "NUL".to_owned(),
            c => format!("control character U+{:04X}", u32::from(c)),
        };
        return Err(Bad::new(format!("the text holds {name}"), "one line of text"));
    }
    if text.len() > bytes_max {
        return Err(Bad::new(format!("{} bytes are too many", text.len()), format!("at most {bytes_max} bytes")));
    }
    Ok(())
}

/// A header that we may write: Synthflow's rule `^X-[A-Za-z0-9_-]+$` (facts.md §2.2). It keeps every header that forms a
/// dialog or frames a message out of reach.
pub fn written_header(name: &str) -> Result<String, Bad> {
    let expected = "a name that matches ^X-[A-Za-z0-9_-]+$, as in \"X-Queue\"";
    let rest_ok = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match name.strip_prefix("X-") {
        // The builder of X-EI alone keeps its grammar (facts.md §2.1).
        Some(rest) if rest.eq_ignore_ascii_case("EI") => Err(Bad::new("X-EI is built from [x_ei]", "another header")),
        Some(rest) if rest_ok(rest) => Ok(name.to_owned()),
        Some(_) => Err(Bad::new(format!("{name:?} is not a name that Synthflow takes"), expected)),
        None if name.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("x-")) => {
            let near = name.get(2..).map(|rest| format!("\"X-{rest}\""));
            Err(Bad::new(format!("{name:?} does not begin with a capital X-"), expected).near(near))
        }
        None => Err(Bad::new(format!("{name:?} may not be written: only X- headers may"), expected)),
    }
}

/// A source of `rename`: any X- header.
pub fn renamed_header(name: &str) -> Result<String, Bad> {
    let is_x = name.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("x-"));
    if is_x && name.len() > 2 && is_token(name.as_bytes()) {
        return Ok(name.to_owned());
    }
    Err(Bad::new(format!("{name:?} is not the name of an X- header"), "an X- header, as in \"X-Foo.Bar\""))
}

/// An exact name or a prefix with a trailing `*`.
pub fn name_pattern(text: &str) -> Result<NamePattern, Bad> {
    let prefix = text.strip_suffix('*').unwrap_or(text);
    // `*` is itself a token character, so only a second one needs a word.
    let ok = !prefix.contains('*') && (text == "*" || is_token(prefix.as_bytes()));
    if ok {
        return Ok(NamePattern(text.to_owned()));
    }
    Err(Bad::new(format!("{text:?} is not a header name"), "a header's name, perhaps with a trailing *, as in \"X-Foo\" or \"X-*\""))
}

/// A pattern of `headers.pass`: what else may pass is not the configuration's to say (product.md §2).
pub fn passed_pattern(text: &str) -> Result<NamePattern, Bad> {
    let pattern = name_pattern(text)?;
    if text.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("x-")) {
        return Ok(pattern);
    }
    Err(Bad::new(format!("{text:?} is not an X- header"), "X- headers, as in \"X-*\"; all others are passed or rebuilt by rule"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Template::parse(text).unwrap_err().problem
    }

    #[test]
    fn a_template_prints_as_it_was_written() {
        for text in [
            "",
            "plain",
            "{contact_id}",
            "a{from}b{to}{header.X-Foo.Bar}c",
            "{queue}{reason}{signal_id}{referred_to}{node}{call_id}{diversion}",
        ] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Template::parse("x{header.X-Q}").unwrap(), Template(vec![Piece::Text("x".into()), Piece::Header("X-Q".into())]));
    }

    #[test]
    fn an_unknown_word_names_the_nearest() {
        let bad = Template::parse("{contactid}").unwrap_err();
        assert_eq!((bad.problem.as_str(), bad.nearest.as_deref()), ("unknown word {contactid}", Some("{contact_id}")));
        assert!(problem("{}").contains("unknown word"));
        assert!(problem("{header.}").contains("not a header name"));
        assert!(problem("{header.X Y}").contains("not a header name"));
        assert!(problem("{from").contains("brace"));
        assert!(problem("from}").contains("brace"));
    }

    #[test]
    fn a_template_never_writes_a_line_end() {
        // RFC 3261 §7.3.1: a header field ends at CRLF, so one inside a value would start another.
        for (text, name) in [("a\rb", "CR"), ("a\nb", "LF"), ("a\0b", "NUL"), ("a\u{7f}b", "U+007F"), ("a\u{85}b", "U+0085")] {
            assert!(problem(text).contains(name), "{text:?}");
        }
        assert!(Template::parse("a\tb").is_ok());
        assert!(Template::parse(&"a".repeat(TEMPLATE_BYTES_MAX)).is_ok());
        assert!(problem(&"a".repeat(TEMPLATE_BYTES_MAX + 1)).contains("too many"));
    }

    #[test]
    fn only_x_headers_may_be_written() {
        assert_eq!(written_header("X-Foo_Bar-1").as_deref(), Ok("X-Foo_Bar-1"));
        for name in [
            "Via",
            "From",
            "To",
            "Call-ID",
            "CSeq",
            "Contact",
            "Route",
            "Record-Route",
            "Content-Length",
            "Content-Type",
            "Max-Forwards",
            "Require",
            "Supported",
            "Allow",
            "v",
            "f",
            "t",
            "i",
            "m",
            "l",
            "c",
            "k",
            "X-",
            "X-Foo.Bar",
            "X-Fo o",
            "x-foo",
            "X-EI",
            "X-ei",
            "",
            "X-Foo:",
            "X-Foo\r\nVia",
            "P-Asserted-Identity",
        ] {
            assert!(written_header(name).is_err(), "{name:?}");
        }
        assert_eq!(written_header("x-foo").unwrap_err().nearest.as_deref(), Some("\"X-foo\""));
    }

    #[test]
    fn patterns_are_names_or_prefixes() {
        for text in ["X-*", "X-Foo", "*", "X-Foo.Bar"] {
            assert!(name_pattern(text).is_ok(), "{text}");
        }
        for text in ["", "X-*-Y", "X-**", "X Y", "*X"] {
            assert!(name_pattern(text).is_err(), "{text}");
        }
        assert!(passed_pattern("x-foo*").is_ok());
        for text in ["*", "Via", "V*", "X"] {
            assert!(passed_pattern(text).is_err(), "{text}");
        }
        assert!(renamed_header("X-Foo.Bar").is_ok());
        assert!(renamed_header("Via").is_err());
        assert!(renamed_header("X-").is_err());
    }
}
