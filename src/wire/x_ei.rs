//! Synthflow's X-EI header (facts.md §2.1): `S.<synthflow call id>;E.<external id>;O.<diversion>;`.

use std::fmt;

/// What an X-EI can carry. A value has no `;`, no control character and no blank at its ends, and is not empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct XEi {
    /// Synthflow's own call id.
    pub s: Option<String>,
    /// The caller's id: the contact id.
    pub e: Option<String>,
    /// Who diverted the call.
    pub o: Option<String>,
}

/// What keeps a text from being an X-EI, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum XEiDefect {
    Empty,
    NotText,
    /// The last token has no `;`.
    Unclosed(String),
    /// `;;`, or a `;` in front.
    EmptyToken,
    /// Not `S.`, `E.` or `O.` in front.
    UnknownToken(String),
    /// `s.`, `e.`, `o.`.
    LowerCase(String),
    NoValue(char),
    Repeated(char),
    /// A blank beside a token or a value.
    Blank(String),
    Control(char),
}

impl fmt::Display for XEiDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XEiDefect::Empty => f.write_str("it is empty"),
            XEiDefect::NotText => f.write_str("it is not UTF-8 text"),
            XEiDefect::Unclosed(token) => write!(f, "no ';' after {token:?}"),
            XEiDefect::EmptyToken => f.write_str("there is nothing before a ';'"),
            XEiDefect::UnknownToken(token) => write!(f, "{token:?} is none of S., E. and O."),
            XEiDefect::LowerCase(token) => write!(f, "the letter of {token:?} must be upper case"),
            XEiDefect::NoValue(letter) => write!(f, "{letter}. has no value"),
            XEiDefect::Repeated(letter) => write!(f, "{letter}. is there twice"),
            XEiDefect::Blank(token) => write!(f, "a blank beside {token:?}"),
            XEiDefect::Control(letter) => write!(f, "a control character in the value of {letter}."),
        }
    }
}

impl XEi {
    /// The strict grammar, tokens in any order.
    pub fn parse(text: &[u8]) -> Result<XEi, XEiDefect> {
        let text = std::str::from_utf8(text).map_err(|_| XEiDefect::NotText)?;
        if text.is_empty() {
            return Err(XEiDefect::Empty);
        }
        let mut x = XEi::default();
        for piece in text.split_inclusive(';') {
            let token = piece.strip_suffix(';').ok_or_else(|| XEiDefect::Unclosed(short(piece)))?;
            let (letter, value) = strict_token(token)?;
            x.put(letter, value)?;
        }
        Ok(x)
    }

    /// The tokens that are sound in a malformed text, and what was wrong with it. Blanks round a token, a missing last `;` and a lower
    /// case letter are repaired; of two tokens with one letter the first counts; everything else is left out.
    pub fn salvage(text: &[u8]) -> (XEi, Vec<String>) {
        if let Ok(sound) = XEi::parse(text) {
            return (sound, Vec::new());
        }
        let mut x = XEi::default();
        let mut wrong = Vec::new();
        let mut note = |defect: XEiDefect| {
            if wrong.len() < XEI_DEFECTS_MAX {
                wrong.push(defect.to_string());
            }
        };
        if text.is_empty() {
            note(XEiDefect::Empty);
        }
        for piece in text.split_inclusive(|&b| b == b';') {
            let Ok(piece) = std::str::from_utf8(piece) else {
                note(XEiDefect::NotText);
                continue;
            };
            let token = piece.strip_suffix(';').unwrap_or(piece);
            if token.len() == piece.len() && !token.trim().is_empty() {
                note(XEiDefect::Unclosed(short(token)));
            }
            let sound = strict_token(token).or_else(|defect| {
                note(defect);
                repaired_token(token).ok_or(())
            });
            if let Ok((letter, value)) = sound {
                x.put(letter, value).unwrap_or_else(&mut note);
            }
        }
        (x, wrong)
    }

    /// The header's value, in the order S, E, O; empty when there is nothing to say. A value that could not stand in an X-EI is
    /// cleaned or left out, whoever put it there.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for (letter, value) in [('S', &self.s), ('E', &self.e), ('O', &self.o)] {
            let (value, _) = clean_value(value.as_deref().unwrap_or_default());
            if !value.is_empty() {
                out.extend([letter, '.']);
                out.push_str(&value);
                out.push(';');
            }
        }
        out
    }

    pub fn is_empty(&self) -> bool {
        *self == XEi::default()
    }

    fn put(&mut self, letter: char, value: &str) -> Result<(), XEiDefect> {
        let slot = match letter {
            'S' => &mut self.s,
            'E' => &mut self.e,
            _ => &mut self.o,
        };
        if slot.is_some() {
            return Err(XEiDefect::Repeated(letter));
        }
        *slot = Some(value.to_owned());
        Ok(())
    }
}

/// A value trimmed and cut at the first `;` or control character, and a warning when that changed more than blanks at its ends.
pub fn clean_value(value: &str) -> (String, Option<String>) {
    let trimmed = value.trim();
    let end = trimmed.find(|c: char| c == ';' || c.is_control()).unwrap_or(trimmed.len());
    let warning = trimmed[end..].chars().next().map(|c| match c {
        ';' => format!("{:?} cut at ';'", short(trimmed)),
        c => format!("{:?} cut at {c:?}", short(trimmed)),
    });
    (trimmed[..end].trim_end().to_owned(), warning)
}

/// More findings than this say nothing new.
const XEI_DEFECTS_MAX: usize = 8;
/// How much of a foreign text a message shows.
const SHOWN_CHARS_MAX: usize = 40;

fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn strict_token(token: &str) -> Result<(char, &str), XEiDefect> {
    if token.is_empty() {
        return Err(XEiDefect::EmptyToken);
    }
    if token.trim() != token {
        return Err(XEiDefect::Blank(short(token)));
    }
    let unknown = || XEiDefect::UnknownToken(short(token));
    let (letter, value) = token.split_once('.').ok_or_else(unknown)?;
    let letter = match letter {
        "S" => 'S',
        "E" => 'E',
        "O" => 'O',
        "s" | "e" | "o" => return Err(XEiDefect::LowerCase(short(token))),
        _ => return Err(unknown()),
    };
    if value.trim().is_empty() {
        return Err(XEiDefect::NoValue(letter));
    }
    if value.trim() != value {
        return Err(XEiDefect::Blank(short(value)));
    }
    if value.chars().any(char::is_control) {
        return Err(XEiDefect::Control(letter));
    }
    Ok((letter, value))
}

/// A token whose only fault is blanks or the case of its letter.
fn repaired_token(token: &str) -> Option<(char, &str)> {
    let (letter, value) = token.trim().split_once('.')?;
    let letter = match letter.trim() {
        "S" | "s" => 'S',
        "E" | "e" => 'E',
        "O" | "o" => 'O',
        _ => return None,
    };
    let value = value.trim();
    let sound = !value.is_empty() && !value.chars().any(char::is_control);
    sound.then_some((letter, value))
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn x(s: &str, e: &str, o: &str) -> XEi {
        let some = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        XEi { s: some(s), e: some(e), o: some(o) }
    }

    /// facts.md §2.1: "any subset, any order", every token closed by `;`.
    #[test]
    fn sound_ones_are_read_in_any_order() {
        assert_eq!(XEi::parse(b"S.abc123;E.crm456;O.+15551234567;"), Ok(x("abc123", "crm456", "+15551234567")));
        assert_eq!(XEi::parse(b"O.a.b c;E.1;"), Ok(x("", "1", "a.b c")));
        assert_eq!(XEi::parse("E.äß;".as_bytes()), Ok(x("", "äß", "")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let why = |text: &[u8]| XEi::parse(text).unwrap_err().to_string();
        assert_eq!(why(b""), "it is empty");
        assert_eq!(why(b"E.\xff;"), "it is not UTF-8 text");
        assert_eq!(why(b"E.1"), "no ';' after \"E.1\"");
        assert_eq!(why(b";"), "there is nothing before a ';'");
        assert_eq!(why(b"E.1;;"), "there is nothing before a ';'");
        assert_eq!(why(b"T.SOS;"), "\"T.SOS\" is none of S., E. and O.");
        assert_eq!(why(b"Ex.1;"), "\"Ex.1\" is none of S., E. and O.");
        assert_eq!(why(b"E1;"), "\"E1\" is none of S., E. and O.");
        assert_eq!(why(b"e.1;"), "the letter of \"e.1\" must be upper case");
        assert_eq!(why(b"E.;"), "E. has no value");
        assert_eq!(why(b"E. ;"), "a blank beside \"E. \"");
        assert_eq!(why(b"E.1;E.2;"), "E. is there twice");
        assert_eq!(why(b"E.1; O.2;"), "a blank beside \" O.2\"");
        assert_eq!(why(b"E. 1;"), "a blank beside \" 1\"");
        assert_eq!(why(b"E.1\x00;"), "a control character in the value of E.");
        assert_eq!(why(b"E.1; "), "no ';' after \" \"");
    }

    #[test]
    fn sound_tokens_are_taken_out_of_a_malformed_one() {
        let (got, wrong) = XEi::salvage(b"S.1; e.2 ;T.SOS;O.;S.3; E.4");
        assert_eq!(got, x("1", "2", ""));
        assert_eq!(
            wrong,
            [
                "a blank beside \" e.2 \"",
                "\"T.SOS\" is none of S., E. and O.",
                "O. has no value",
                "S. is there twice",
                "no ';' after \" E.4\"",
                "a blank beside \" E.4\"",
                "E. is there twice",
            ]
        );
        assert_eq!(XEi::salvage(b"E.1;"), (x("", "1", ""), vec![]));
        assert_eq!(XEi::salvage(b"E.1\xff;O.2;"), (x("", "", "2"), vec!["it is not UTF-8 text".to_owned()]));
        assert_eq!(XEi::salvage(b""), (XEi::default(), vec!["it is empty".to_owned()]));
        assert_eq!(XEi::salvage(b";".repeat(1000).as_slice()).1.len(), XEI_DEFECTS_MAX);
    }

    #[test]
    fn values_are_trimmed_and_cut() {
        assert_eq!(clean_value(" 42 "), ("42".to_owned(), None));
        assert_eq!(clean_value("42;evil"), ("42".to_owned(), Some("\"42;evil\" cut at ';'".to_owned())));
        assert_eq!(clean_value("42 \r\nX: y"), ("42".to_owned(), Some("\"42 \\r\\nX: y\" cut at '\\r'".to_owned())));
        assert_eq!(clean_value(";"), (String::new(), Some("\";\" cut at ';'".to_owned())));
        assert_eq!(clean_value(" \t"), (String::new(), None));
    }

    #[test]
    fn no_value_can_break_the_header() {
        assert_eq!(x("1;E.9", "2\r\nX-Evil: 1", " ; ").print(), "S.1;E.2;");
        assert_eq!(XEi::default().print(), "");
    }

    proptest! {
        /// product.md §3: `parse(build(x)) = x`.
        #[test]
        fn what_is_printed_parses_back(
            s in option::of("[^;\\pC\\pZ]([^;\\pC]{0,20}[^;\\pC\\pZ])?"),
            e in option::of("[0-9A-Za-z-]{1,64}"),
            o in option::of("[+0-9.]{1,15}"),
        ) {
            let x = XEi { s, e, o };
            match x.is_empty() {
                true => prop_assert_eq!(XEi::parse(x.print().as_bytes()), Err(XEiDefect::Empty)),
                false => prop_assert_eq!(XEi::parse(x.print().as_bytes()), Ok(x)),
            }
        }

        #[test]
        fn whatever_is_salvaged_or_cleaned_prints_soundly(text in "\\PC{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for x in [XEi { s: Some(text.clone()), e: None, o: Some("1".into()) }, XEi::salvage(&bytes).0, XEi::salvage(text.as_bytes()).0] {
                let printed = x.print();
                prop_assert!(printed.is_empty() || XEi::parse(printed.as_bytes()).is_ok(), "{printed}");
            }
        }
    }
}
