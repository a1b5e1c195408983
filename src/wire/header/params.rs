//! `;name=value`.

use std::borrow::Cow;

use crate::wire::header::scan::find_bare;
use crate::wire::header::scan::is_blank;
use crate::wire::header::scan::quoted_len;
use crate::wire::header::scan::trim;
use crate::wire::header::scan::unquote;

/// `;name=value` parameters (RFC 3261 §25.1), LWS and quotes respected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params<'a>(pub &'a [u8]);

impl<'a> Params<'a> {
    /// `None`: absent. `Some(b"")`: there without a value. A quoted string comes with its quotes: see [`Params::text`].
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.unwrap_or_default())
    }

    /// As `get`, a quoted string without its quotes and escapes.
    pub fn text(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.get(name).map(unquote)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// In order, empty ones left out, names and values trimmed.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        segments(self.0).filter(|s| !s.is_empty()).map(split)
    }

    /// Every parameter has a name, and a value that is one quoted string or has no blank, quote, bracket or comma in it.
    /// `empty_too`: `;;` is tolerated, as many user agents write it.
    pub(crate) fn is_sound(&self, empty_too: bool) -> bool {
        let mut segments = segments(self.0);
        segments.next().is_none_or(|first| first.is_empty()) && segments.all(|s| if s.is_empty() { empty_too } else { is_sound(s) })
    }
}

fn split(segment: &[u8]) -> (&[u8], Option<&[u8]>) {
    match find_bare(segment, |b| b == b'=') {
        Some(at) => (trim(&segment[..at]), Some(trim(&segment[at + 1..]))),
        None => (segment, None),
    }
}

fn is_sound(segment: &[u8]) -> bool {
    let (name, value) = split(segment);
    let plain = |text: &[u8]| text.iter().all(|&b| b > b' ' && b != 0x7f && !b"\"<>,".contains(&b));
    let quoted = |text: &[u8]| quoted_len(text) == Some(text.len()) && text.iter().all(|&b| b >= b' ' || is_blank(b));
    !name.is_empty() && plain(name) && value.is_none_or(|v| plain(v) || quoted(v))
}

/// What stands between the semicolons, trimmed; the first one is what stands before any.
fn segments(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = find_bare(text, |b| b == b';');
        rest = end.map(|end| &text[end + 1..]);
        Some(trim(&text[..end.unwrap_or(text.len())]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_with_blanks_round_the_separators() {
        let p = Params(b" ; TAG = a:b ;\tlr;x=\"q;\\\"=,\" ; y = [::1]:5060/z=;e=");
        assert_eq!(p.get("tag"), Some(&b"a:b"[..]));
        assert_eq!(p.get("LR"), Some(&b""[..]));
        assert_eq!(p.get("x"), Some(&br#""q;\"=,""#[..]));
        assert_eq!(p.text("x").as_deref(), Some(&br#"q;"=,"#[..]));
        assert_eq!(p.get("y"), Some(&b"[::1]:5060/z="[..]));
        assert_eq!(p.get("e"), Some(&b""[..]));
        assert_eq!(p.get("absent"), None);
        assert!(p.is_sound(false));
    }

    #[test]
    fn the_first_of_two_counts_and_order_is_kept() {
        let p = Params(b";a=1;b;A=2");
        assert_eq!(p.get("a"), Some(&b"1"[..]));
        assert_eq!(p.iter().collect::<Vec<_>>(), [(&b"a"[..], Some(&b"1"[..])), (b"b", None), (b"A", Some(b"2"))]);
    }

    #[test]
    fn unsound_ones_are_known() {
        for bad in [&b"x;a"[..], b";=1", b";a=b c", b";a b", b";a=\"x", b";a=\"x\"y", b";a=b,c", b";a=<b>", b";a=\x01", b";a=\"\x01\""] {
            assert!(!Params(bad).is_sound(true), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(Params(b";;a;").is_sound(true));
        assert!(!Params(b";;a").is_sound(false));
        assert!(!Params(b";a;").is_sound(false));
        assert!(Params(b"").is_sound(false));
    }
}
