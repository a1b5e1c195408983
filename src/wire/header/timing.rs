//! Headers that hold seconds: Retry-After, Session-Expires, Min-SE, Expires.

use crate::wire::header::Params;
use crate::wire::header::scan::number;
use crate::wire::header::scan::trim;
use crate::wire::header::scan::trim_start;
use crate::wire::header::value_and_params;

/// `delta-seconds` alone: Expires, Min-Expires (RFC 3261 §25.1).
pub fn delta_seconds(value: &[u8]) -> Option<u32> {
    u32::try_from(number(trim(value), u64::from(u32::MAX))?).ok()
}

/// Retry-After (RFC 3261 §20.33): seconds, a comment, parameters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryAfter<'a> {
    pub seconds: u32,
    /// Between the brackets, as it came.
    pub comment: Option<&'a [u8]>,
    pub params: Params<'a>,
}

impl<'a> RetryAfter<'a> {
    pub fn parse(value: &'a [u8]) -> Option<RetryAfter<'a>> {
        let value = trim(value);
        let (digits, rest) = value.split_at(value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len()));
        let seconds = delta_seconds(digits)?;
        let rest = trim_start(rest);
        let (comment, params) = match comment_len(rest) {
            Some(len) => (Some(&rest[1..len - 1]), trim_start(&rest[len..])),
            None => (None, rest),
        };
        let params = Params(params);
        params.is_sound(true).then_some(RetryAfter { seconds, comment, params })
    }
}

/// Comments nest, and a backslash escapes (RFC 3261 §25.1 `comment`).
fn comment_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'(') {
        return None;
    }
    let (mut depth, mut at) = (1u32, 1);
    loop {
        match text.get(at)? {
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
}

/// Who refreshes the session (RFC 4028 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresher {
    Uac,
    Uas,
}

/// Session-Expires (RFC 4028 §4). Min-SE has the same form without a refresher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionExpires {
    pub seconds: u32,
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// `None` too for a refresher that is neither `uac` nor `uas`.
    pub fn parse(value: &[u8]) -> Option<SessionExpires> {
        let (seconds, params) = value_and_params(value)?;
        let refresher = match params.get("refresher") {
            None => None,
            Some(r) if r.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(r) if r.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            Some(_) => return None,
        };
        Some(SessionExpires { seconds: delta_seconds(seconds)?, refresher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_with_comment_and_parameters() {
        let r = RetryAfter::parse(b"18000 (a \\) (nested; one)) ;duration=3600").unwrap();
        assert_eq!((r.seconds, r.comment), (18000, Some(&b"a \\) (nested; one)"[..])));
        assert_eq!(r.params.get("duration"), Some(&b"3600"[..]));
        assert_eq!(RetryAfter::parse(b" 5 ").unwrap().seconds, 5);
        assert_eq!(RetryAfter::parse(b"5;duration=7").unwrap().params.get("duration"), Some(&b"7"[..]));
        for bad in [&b""[..], b"soon", b"-1", b"5 x", b"5 (open", b"5 )", b"4294967296"] {
            assert_eq!(RetryAfter::parse(bad), None);
        }
    }

    #[test]
    fn session_expires_names_its_refresher() {
        let parse = |v: &str| SessionExpires::parse(v.as_bytes()).map(|s| (s.seconds, s.refresher));
        assert_eq!(parse("1800"), Some((1800, None)));
        assert_eq!(parse(" 90 ; Refresher = UAS"), Some((90, Some(Refresher::Uas))));
        assert_eq!(parse("90;refresher=uac;x"), Some((90, Some(Refresher::Uac))));
        assert_eq!(parse("90;refresher=me"), None);
        assert_eq!(parse("x"), None);
        assert_eq!(delta_seconds(b" 4294967295 "), Some(u32::MAX));
        assert_eq!(delta_seconds(b"4294967296"), None);
    }
}
