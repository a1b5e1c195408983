//! Numbers and user parts: what stands left of the `@`, made comparable and safe to print.

use crate::wire::header::NameAddr;
use crate::wire::uri::Uri;
use crate::wire::uri::unescape;

/// The user part of a URI as people mean it: escapes decoded, no password, no telephone-subscriber parameters
/// (`;phone-context=`, `;tgrp=`: they name the other side's trunks, RFC 4904 §4); a tel number without its visual separators
/// (RFC 3966 §5.1.1). `None` when there is none.
pub fn user_text(uri: &Uri<'_>) -> Option<String> {
    let user = uri.user()?;
    let bare = match uri {
        Uri::Tel { .. } => without_separators(&String::from_utf8_lossy(until(user, b';'))),
        _ => {
            let head = until(user, b';');
            let kept = if is_number(head) { head } else { user };
            String::from_utf8_lossy(&unescape(kept)).into_owned()
        }
    };
    (!bare.is_empty()).then_some(bare)
}

/// The user part of a name-addr (From, To, Diversion, Refer-To …).
pub fn user_of(address: &NameAddr<'_>) -> Option<String> {
    user_text(&address.parsed_uri()?)
}

/// The user part of an address in a header value; `None` when it is no address or has none.
pub fn user_in(value: &[u8]) -> Option<String> {
    user_of(&NameAddr::parse(value)?)
}

/// Without `-`, `.`, `(`, `)` and blanks (RFC 3966 §5.1.1).
pub fn without_separators(number: &str) -> String {
    number.chars().filter(|c| !is_separator(*c)).collect()
}

/// Whether two keys name the same thing: equal in any ASCII case, or the same `+` number written differently.
pub fn same_key(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || a.starts_with('+') && b.starts_with('+') && without_separators(a) == without_separators(b)
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '(' | ')' | ' ')
}

fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"%2B").or_else(|| text.strip_prefix(b"%2b")).unwrap_or(text);
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    digits.iter().any(u8::is_ascii_digit)
        && digits.iter().all(|&b| b.is_ascii_digit() || matches!(b, b'*' | b'#') || is_separator(char::from(b)))
}

fn until(text: &[u8], stop: u8) -> &[u8] {
    text.split(|&b| b == stop).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_part_is_what_people_mean_by_the_number() {
        for (uri, user) in [
            ("sip:+12065551234@10.0.0.1", Some("+12065551234")),
            ("sip:%2B12065551234@10.0.0.1", Some("+12065551234")),
            ("sip:+12065551234;phone-context=cxone.example;tgrp=x@10.0.0.1", Some("+12065551234")),
            ("sip:alice;day=tuesday@atlanta.example", Some("alice;day=tuesday")),
            ("sip:alice:secret@atlanta.example", Some("alice")),
            ("tel:+1-206-555-1234;ext=5", Some("+12065551234")),
            ("tel:+1(206)555.1234", Some("+12065551234")),
            ("sip:10.0.0.1", None),
            ("sip:c00000042@10.0.0.1:5060;transport=tcp", Some("c00000042")),
        ] {
            let parsed = Uri::parse(uri.as_bytes()).unwrap();
            assert_eq!(user_text(&parsed).as_deref(), user, "{uri}");
        }
    }

    #[test]
    fn plus_numbers_are_the_same_with_and_without_separators() {
        assert!(same_key("+1 (206) 555-0100", "+12065550100"));
        assert!(same_key("Billing", "billing"));
        assert!(!same_key("12065550100", "+12065550100"));
        assert!(!same_key("a-b", "ab"));
    }
}
