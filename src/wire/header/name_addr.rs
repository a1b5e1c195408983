//! name-addr and addr-spec.

use std::borrow::Cow;

use memchr::memchr;

use crate::wire::header::Params;
use crate::wire::header::scan::is_blank;
use crate::wire::header::scan::quoted_len;
use crate::wire::header::scan::trim;
use crate::wire::header::scan::trim_start;
use crate::wire::header::scan::unquote;
use crate::wire::method::is_token;
use crate::wire::uri::Uri;

/// name-addr or addr-spec with header parameters: From, To, Contact, Route, Refer-To, Diversion …
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameAddr<'a> {
    /// As it came, quotes included; `None` when there is none.
    pub display: Option<&'a [u8]>,
    /// Between the angle brackets.
    pub uri: &'a [u8],
    /// After the closing bracket, or after the addr-spec.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// One value, not a list (RFC 3261 §25.1 `name-addr`, `addr-spec`). An unquoted display name is tokens; bytes beyond ASCII are
    /// let through in it, since names come in UTF-8 without quotes.
    pub fn parse(value: &'a [u8]) -> Option<NameAddr<'a>> {
        let value = trim(value);
        if value.first() == Some(&b'"') {
            let (quoted, rest) = value.split_at(quoted_len(value)?);
            return in_brackets(Some(quoted), trim_start(rest));
        }
        let at = value.iter().position(|b| b"<;\"".contains(b));
        match at.map(|at| (at, value[at])) {
            Some((at, b'<')) => {
                let name = trim(&value[..at]);
                let sound = name.split(|&b| is_blank(b)).all(|word| word.is_empty() || is_name_word(word));
                sound.then(|| in_brackets((!name.is_empty()).then_some(name), &value[at..]))?
            }
            _ => bare(value),
        }
    }

    /// `None` when absent or not a token (RFC 3261 §25.1 `tag-param`).
    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").filter(|tag| is_token(tag)).and_then(|tag| std::str::from_utf8(tag).ok())
    }

    pub fn parsed_uri(&self) -> Option<Uri<'a>> {
        Uri::parse(self.uri)
    }

    /// The user part of the URI, or the number of a tel URI: whom a Diversion (RFC 5806) or a P-Asserted-Identity names.
    pub fn user(&self) -> Option<&'a [u8]> {
        self.parsed_uri()?.user()
    }

    /// As `user`, without its `;` parameters and escapes: a number to show, to compare, or to put into X-EI.
    pub fn number(&self) -> Option<Cow<'a, [u8]>> {
        self.parsed_uri()?.number()
    }

    /// The display name without quotes and escapes.
    pub fn name(&self) -> Option<Cow<'a, [u8]>> {
        self.display.map(unquote)
    }
}

/// `*` of a Contact that removes all bindings (RFC 3261 §10.2.2).
pub fn is_star(value: &[u8]) -> bool {
    trim(value) == b"*"
}

fn is_name_word(word: &[u8]) -> bool {
    word.iter().all(|&b| !b.is_ascii() || is_token(&[b]))
}

fn in_brackets<'a>(display: Option<&'a [u8]>, rest: &'a [u8]) -> Option<NameAddr<'a>> {
    let rest = rest.strip_prefix(b"<")?;
    let end = memchr(b'>', rest)?;
    let params = trim_start(&rest[end + 1..]);
    finish(display, &rest[..end], params)
}

/// RFC 3261 §20.10: without brackets, parameters belong to the header, and the URI must hold no comma or question mark.
fn bare(value: &[u8]) -> Option<NameAddr<'_>> {
    let end = value.iter().position(|&b| b == b';' || is_blank(b)).unwrap_or(value.len());
    let (uri, params) = value.split_at(end);
    let ambiguous = uri.iter().any(|b| b"?,".contains(b));
    (!ambiguous).then(|| finish(None, uri, trim_start(params)))?
}

fn finish<'a>(display: Option<&'a [u8]>, uri: &'a [u8], params: &'a [u8]) -> Option<NameAddr<'a>> {
    let params = Params(params);
    let sound = !uri.is_empty() && uri.iter().all(|&b| b > b' ' && b != 0x7f && b != b'<' && b != b'>');
    (sound && params.is_sound(true)).then_some(NameAddr { display, uri, params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(value: &str) -> Option<(Option<&str>, &str, &str)> {
        fn text(t: &[u8]) -> &str {
            std::str::from_utf8(t).unwrap()
        }
        NameAddr::parse(value.as_bytes()).map(|n| (n.display.map(text), text(n.uri), text(n.params.0)))
    }

    #[test]
    fn display_names_quoted_unquoted_and_none() {
        assert_eq!(parts(r#""A \"<B>\", C" <sip:a@b>;tag=1"#), Some((Some(r#""A \"<B>\", C""#), "sip:a@b", ";tag=1")));
        assert_eq!(parts("caller<sip:a@b> ;tag=1"), Some((Some("caller"), "sip:a@b", ";tag=1")));
        assert_eq!(parts("  J.  Random \t<sip:a@b>"), Some((Some("J.  Random"), "sip:a@b", "")));
        assert_eq!(parts(r#""n"<sip:a@b>"#), Some((Some(r#""n""#), "sip:a@b", "")));
        assert_eq!(parts("Jürgen <sip:a@b>"), Some((Some("Jürgen"), "sip:a@b", "")));
        assert_eq!(parts("<sip:a@b;lr?x=y>"), Some((None, "sip:a@b;lr?x=y", "")));
        assert_eq!(NameAddr::parse(b"\"a\\\\\" <sip:x>").unwrap().name().as_deref(), Some(&b"a\\"[..]));
    }

    /// RFC 3261 §20.10: "If the URI is not enclosed in angle brackets, any semicolon-delimited parameters are header-parameters".
    #[test]
    fn parameters_of_an_addr_spec_belong_to_the_header() {
        assert_eq!(parts("sip:a@b;tag=1"), Some((None, "sip:a@b", ";tag=1")));
        assert_eq!(parts("sip:a@b ; tag = 1;x=\"<y>\""), Some((None, "sip:a@b", "; tag = 1;x=\"<y>\"")));
        assert_eq!(NameAddr::parse(b"sip:a@b ; tag = 1").unwrap().tag(), Some("1"));
        assert_eq!(parts("sip:a@b?Route=%3Csip:c%3E"), None);
        assert_eq!(parts("sip:a@b, sip:c@d"), None);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            "<>",
            "\"Watson, Thomas\" < sip:t@example.org >",
            "Watson, Thomas <sip:t@example.org>",
            "\"Mr. J. User <sip:j@example.com>",
            "\"a\\\" <sip:j@example.com>",
            "\"a\" b <sip:j@example.com>",
            "\"a\"",
            "\"a\" sip:b@c",
            "<sip:a@b",
            "sip:a@b>",
            "<sip:a<b>",
            "<sip:a@b> x",
            "<sip:a@b>;tag=1, <sip:c@d>",
            "<sip:a@b>;tag=\"x",
            "sip:a@b c",
            "a <sip:a@b> <sip:c@d>",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tag_is_a_token() {
        assert_eq!(NameAddr::parse(b"<sip:a@b>;TAG=ab.c").unwrap().tag(), Some("ab.c"));
        for none in
            [&b"<sip:a@b>"[..], b"<sip:a@b;tag=1>", b"<sip:a@b>;tag", b"<sip:a@b>;tag=", b"<sip:a@b>;tag=\"q\"", b"<sip:a@b>;tag=a@b"]
        {
            assert_eq!(NameAddr::parse(none).unwrap().tag(), None);
        }
    }

    /// RFC 5806 §4.
    #[test]
    fn a_diversion_names_a_number() {
        let d = NameAddr::parse(b"<sip:%2B15550100;tgrp=x@gw.example;user=phone>;reason=unconditional;counter=1").unwrap();
        assert_eq!((d.user(), d.number().as_deref()), (Some(&b"%2B15550100;tgrp=x"[..]), Some(&b"+15550100"[..])));
        assert_eq!(d.params.get("Reason"), Some(&b"unconditional"[..]));
        assert_eq!(NameAddr::parse(b"tel:+1-555;x=y").unwrap().number().as_deref(), Some(&b"+1-555"[..]));
        assert_eq!(NameAddr::parse(b"<urn:x>").unwrap().user(), None);
    }

    #[test]
    fn a_star_is_no_address() {
        assert!(is_star(b" * "));
        assert!(!is_star(b"<*>"));
    }
}
