//! What a log line may show of a person: the last two digits of a number and a keyed hash, so that one caller can still be followed.

use std::borrow::Cow;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// Digits in a row that look like a telephone number (E.164 has at most 15).
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// Hides numbers, names and X- values (`log.redact`). The contact id always stays: it is what people correlate by.
#[derive(Clone, Debug)]
pub struct Redactor {
    key: Option<String>,
}

impl Redactor {
    /// `node` keys the hash: stable over restarts of one node.
    pub fn new(on: bool, node: &str) -> Redactor {
        Redactor { key: on.then(|| node.to_owned()) }
    }

    /// Shows everything.
    pub fn off() -> Redactor {
        Redactor { key: None }
    }

    /// A value that is a person's number or name as a whole.
    pub fn person<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.key {
            Some(key) if !text.is_empty() => Cow::Owned(masked(key, text)),
            _ => Cow::Borrowed(text),
        }
    }

    /// Free text: what looks like a telephone number in it, and the values of `X-…:` headers. `contact` is never touched.
    pub fn text<'a>(&self, text: &'a str, contact: Option<&str>) -> Cow<'a, str> {
        let Some(key) = &self.key else { return Cow::Borrowed(text) };
        let hidden = hide_x_values(key, text, contact);
        match hide_numbers(key, &hidden, contact) {
            Some(out) => Cow::Owned(out),
            None => hidden,
        }
    }
}

/// `…34#a1b2c3`; without digits `#a1b2c3`.
fn masked(key: &str, text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    text.hash(&mut hasher);
    let hash = hasher.finish() & 0xff_ffff;
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits < 4 {
        return format!("#{hash:06x}");
    }
    let tail: Vec<char> = text.chars().filter(char::is_ascii_digit).skip(digits - 2).collect();
    format!("…{}#{hash:06x}", tail.iter().collect::<String>())
}

fn hide_numbers(key: &str, text: &str, contact: Option<&str>) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut kept, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let plus = at > 0 && bytes[at - 1] == b'+';
        let start = if plus { at - 1 } else { at };
        let alone = (start == 0 || !is_word(bytes[start - 1])) && bytes.get(end).is_none_or(|b| !is_word(*b));
        if alone && NUMBER_DIGITS.contains(&(end - at)) && contact != Some(&text[at..end]) {
            out.push_str(&text[kept..start]);
            out.push_str(&masked(key, &text[start..end]));
            kept = end;
        }
        at = end;
    }
    (kept > 0).then(|| {
        out.push_str(&text[kept..]);
        out
    })
}

/// What makes a run of digits a part of something longer: a Call-ID, a token, a masked value.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'#') || byte >= 0x80
}

/// `X-Name: value` up to the end of the line or the next `, X-`; X-EI is the product's own and only loses its numbers.
fn hide_x_values<'a>(key: &str, text: &'a str, contact: Option<&str>) -> Cow<'a, str> {
    let mut out = String::new();
    let (mut kept, mut from) = (0, 0);
    while let Some((start, end)) = next_x_value(text, from) {
        from = end.max(start + 1);
        let value = text[start..end].trim();
        if value.is_empty() || contact == Some(value) {
            continue;
        }
        out.push_str(&text[kept..start]);
        out.push_str(&masked(key, value));
        kept = end;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

/// The span of the next X- header's value at or after `from`.
fn next_x_value(text: &str, mut from: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    while from < bytes.len() {
        let at = from + memchr::memchr2(b'X', b'x', &bytes[from..])?;
        from = at + 1;
        if bytes.get(at + 1) != Some(&b'-') || (at > 0 && is_word(bytes[at - 1])) {
            continue;
        }
        let name = at + bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')).count();
        if bytes.get(name) != Some(&b':') || text[at..name].eq_ignore_ascii_case("x-ei") {
            continue;
        }
        let start = name + 1 + bytes[name + 1..].iter().take_while(|b| **b == b' ').count();
        let end = bytes[start..].iter().position(|b| matches!(b, b'\r' | b'\n')).map_or(bytes.len(), |n| start + n);
        let end = text[start..end].find(", X-").map_or(end, |n| start + n);
        return Some((start, end));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_two_digits_and_a_hash_that_follows_the_caller() {
        let r = Redactor::new(true, "bc-1");
        let shown = r.person("+12065551234").into_owned();
        assert!(shown.starts_with("…34#"), "{shown}");
        assert_eq!(shown.chars().count(), 10);
        assert_eq!(shown, r.person("+12065551234"));
        assert_ne!(shown, r.person("+12065559934"));
        assert_ne!(shown, Redactor::new(true, "bc-2").person("+12065551234"));
    }

    #[test]
    fn a_name_shows_nothing_of_itself() {
        let r = Redactor::new(true, "bc-1");
        assert!(r.person("Alice Smith").starts_with('#'));
        assert_eq!(r.person(""), "");
        assert_eq!(Redactor::off().person("Alice"), "Alice");
    }

    #[test]
    fn numbers_in_free_text_go_and_the_contact_id_stays() {
        let r = Redactor::new(true, "bc-1");
        let shown = r.text("INVITE sip:+12065551234@192.0.2.10:5060 SIP/2.0 contact 4881200", Some("4881200")).into_owned();
        assert!(!shown.contains("2065551234") && shown.contains("…34#"), "{shown}");
        assert!(shown.contains("@192.0.2.10:5060 SIP/2.0 contact 4881200"), "{shown}");
    }

    #[test]
    fn digits_inside_a_call_id_stay() {
        let r = Redactor::new(true, "bc-1");
        assert_eq!(r.text("call 1234567890a-1234567 not found", None), "call 1234567890a-1234567 not found");
    }

    #[test]
    fn x_values_are_hidden_but_not_x_ei_nor_the_contact_id() {
        let r = Redactor::new(true, "bc-1");
        let shown = r.text("dropped X-Customer: Alice Smith", None).into_owned();
        assert!(shown.starts_with("dropped X-Customer: #") && !shown.contains("Alice"), "{shown}");
        assert_eq!(r.text("X-EI: E.48812;", None), "X-EI: E.48812;");
        assert_eq!(r.text("X-ContactID: 48812", Some("48812")), "X-ContactID: 48812");
        let two = r.text("X-A: secret, X-B: other", None).into_owned();
        assert!(two.contains(", X-B: #") && !two.contains("secret") && !two.contains("other"), "{two}");
    }
}
