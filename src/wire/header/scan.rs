//! What all views need: blanks, quoted strings, comma lists (RFC 3261 §7.3.1, §25.1).

use std::borrow::Cow;

use memchr::memchr;

/// Blanks of a value that is already unfolded.
pub fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// Without blanks at both ends.
pub fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    let end = text.iter().rposition(|&b| !is_blank(b)).map_or(0, |i| i + 1);
    &text[..end]
}

/// Without blanks in front.
pub fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| !is_blank(b)).unwrap_or(text.len());
    &text[start..]
}

/// How long the quoted string at the start of `text` is, both quotes included; `None` when it never ends or there is none.
pub fn quoted_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The first byte outside quoted strings that `stop` accepts. A quote that never closes swallows the rest.
pub fn find_bare(text: &[u8], stop: impl Fn(u8) -> bool) -> Option<usize> {
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        if stop(b) {
            return Some(at);
        }
        at += if b == b'"' { quoted_len(&text[at..])? } else { 1 };
    }
    None
}

/// The content of a quoted string with its escapes undone; other text as it is (RFC 3261 §25.1 `quoted-pair`).
pub fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    if quoted_len(text) != Some(text.len()) {
        return Cow::Borrowed(text);
    }
    let inner = &text[1..text.len() - 1];
    if memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&b) = bytes.next() {
        match b {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(b),
        }
    }
    Cow::Owned(out)
}

/// List elements: split at commas outside quotes and angle brackets, trimmed, empty ones left out (RFC 3261 §7.3.1).
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    Elements { rest: value }
}

struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = element_len(self.rest);
            let element = trim(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

/// A quote or a bracket that never closes swallows the rest: it cannot be said what a later comma would mean.
fn element_len(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        let step = match b {
            b',' => return at,
            b'"' => quoted_len(&text[at..]),
            b'<' => memchr(b'>', &text[at..]).map(|i| i + 1),
            _ => Some(1),
        };
        match step {
            Some(step) => at += step,
            None => return text.len(),
        }
    }
    text.len()
}

/// Digits only, at least one, at most `max`.
pub fn number(text: &[u8], max: u64) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut n = 0u64;
    for &b in text {
        let digit = (b as char).to_digit(10)?;
        n = n.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (n <= max).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(value: &str) -> Vec<&str> {
        elements(value.as_bytes()).map(|e| std::str::from_utf8(e).unwrap()).collect()
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        assert_eq!(split(r#""a,\",b" <sip:x,y@h>;p="1,2" , <sip:c@d>"#), [r#""a,\",b" <sip:x,y@h>;p="1,2""#, "<sip:c@d>"]);
        assert_eq!(split(" a ,,\tb , "), ["a", "b"]);
        assert_eq!(split(""), [""; 0]);
        assert_eq!(split(",;,"), [";"]);
    }

    #[test]
    fn what_never_closes_swallows_the_rest() {
        assert_eq!(split(r#""a, b"#), [r#""a, b"#]);
        assert_eq!(split(r#""a\"#), [r#""a\"#]);
        assert_eq!(split("<a, b"), ["<a, b"]);
    }

    #[test]
    fn a_quote_inside_brackets_means_nothing() {
        assert_eq!(split(r#"<sip:a"b@c>, <sip:d>"#), [r#"<sip:a"b@c>"#, "<sip:d>"]);
    }

    #[test]
    fn quoted_pairs_are_undone() {
        assert_eq!(unquote(br#""a\"b\\c""#).as_ref(), br#"a"b\c"#);
        assert_eq!(unquote(b"\"\"").as_ref(), b"");
        assert_eq!(unquote(b"plain").as_ref(), b"plain");
        assert_eq!(unquote(b"\"open").as_ref(), b"\"open");
        assert_eq!(unquote(b"\"").as_ref(), b"\"");
    }

    #[test]
    fn numbers_are_digits_within_a_bound() {
        assert_eq!(number(b"007", 7), Some(7));
        assert_eq!(number(b"8", 7), None);
        for bad in [&b""[..], b"-1", b"+1", b"1 ", b"99999999999999999999999"] {
            assert_eq!(number(bad, u64::MAX), None);
        }
    }
}
