//! Refer-To and Replaces.

use std::borrow::Cow;

use memchr::memchr;

use crate::wire::header::NameAddr;
use crate::wire::header::Params;
use crate::wire::header::scan::is_blank;
use crate::wire::header::scan::trim;
use crate::wire::header::value_and_params;
use crate::wire::method::is_token;
use crate::wire::uri::Uri;

/// Refer-To (RFC 3515 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReferTo<'a> {
    pub display: Option<&'a [u8]>,
    pub uri: Uri<'a>,
    pub params: Params<'a>,
}

impl<'a> ReferTo<'a> {
    /// A URI with a question mark needs brackets (RFC 3261 §20.10); one without them is read as a URI to its end, because that is what
    /// its writer meant.
    pub fn parse(value: &'a [u8]) -> Option<ReferTo<'a>> {
        let value = trim(value);
        let unbracketed = !value.iter().any(|&b| b"<\" \t".contains(&b)) && memchr(b'?', value).is_some();
        if unbracketed {
            return Some(ReferTo { display: None, uri: Uri::parse(value)?, params: Params(b"") });
        }
        let NameAddr { display, uri, params } = NameAddr::parse(value)?;
        Some(ReferTo { display, uri: Uri::parse(uri)?, params })
    }

    /// `hname=hvalue` in the URI's `?` part, escapes as they came.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let sip = match self.uri {
            Uri::Sip(sip) => Some(sip),
            Uri::Tel { .. } | Uri::Other { .. } => None,
        };
        sip.into_iter().flat_map(|sip| sip.headers())
    }

    /// A header in the URI's `?` part, escapes undone.
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        match self.uri {
            Uri::Sip(sip) => sip.header(name),
            Uri::Tel { .. } | Uri::Other { .. } => None,
        }
    }

    /// Text for [`Replaces::parse`] (RFC 3891 §3).
    pub fn replaces(&self) -> Option<Cow<'a, [u8]>> {
        self.header("Replaces")
    }

    /// The method to be used, INVITE when none is named (RFC 3261 §19.1.1).
    pub fn method(&self) -> &'a [u8] {
        match self.uri {
            Uri::Sip(sip) => sip.params.get("method").unwrap_or(b"INVITE"),
            Uri::Tel { .. } | Uri::Other { .. } => b"INVITE",
        }
    }
}

/// Replaces (RFC 3891 §6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replaces<'a> {
    pub call_id: &'a str,
    pub to_tag: &'a str,
    pub from_tag: &'a str,
    pub early_only: bool,
}

impl<'a> Replaces<'a> {
    /// Each of the two tags must be there exactly once.
    pub fn parse(value: &'a [u8]) -> Option<Replaces<'a>> {
        let (call_id, params) = value_and_params(value)?;
        let tag = |name: &str| {
            let mut found = params.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
            let tag = found.next()?.1.filter(|tag| is_token(tag))?;
            found.next().is_none().then(|| std::str::from_utf8(tag).ok())?
        };
        let call_id = std::str::from_utf8(call_id).ok().filter(|id| !id.bytes().any(|b| is_blank(b) || b == b','))?;
        Some(Replaces { call_id, to_tag: tag("to-tag")?, from_tag: tag("from-tag")?, early_only: params.has("early-only") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_is_found_in_the_uri() {
        let r = ReferTo::parse(
            b"\"Q\" <sip:billing@h.example?Replaces=12345%40192.0.2.1%3Bto-tag%3D1%3Bfrom-tag%3D2%3Bearly-only&X-Queue=a%20b>",
        )
        .unwrap();
        assert_eq!(r.uri.user(), Some(&b"billing"[..]));
        assert_eq!(r.header("x-queue").as_deref(), Some(&b"a b"[..]));
        assert_eq!(r.headers().count(), 2);
        assert_eq!(r.method(), b"INVITE");
        let text = r.replaces().unwrap();
        let want = Replaces { call_id: "12345@192.0.2.1", to_tag: "1", from_tag: "2", early_only: true };
        assert_eq!(Replaces::parse(&text), Some(want));
    }

    #[test]
    fn bare_uris_are_read_with_and_without_headers() {
        assert_eq!(ReferTo::parse(b"sip:a@b;x=1").unwrap().params.get("x"), Some(&b"1"[..]));
        let r = ReferTo::parse(b" sip:a@b;method=BYE?Replaces=c@d;to-tag=1;from-tag=2 ").unwrap();
        assert_eq!((r.method(), r.replaces().as_deref()), (&b"BYE"[..], Some(&b"c@d;to-tag=1;from-tag=2"[..])));
        assert_eq!(ReferTo::parse(b"<tel:+1415>").unwrap().uri.user(), Some(&b"+1415"[..]));
        assert_eq!(ReferTo::parse(b"tel:+1415").unwrap().header("X"), None);
        for bad in [&b""[..], b"a@b", b"<sip:>", b"sip:a@b ?x", b"<sip:a@b"] {
            assert_eq!(ReferTo::parse(bad), None);
        }
    }

    /// RFC 3891 §6.1: "A Replaces header field MUST contain exactly one to-tag and exactly one from-tag".
    #[test]
    fn replaces_needs_each_tag_once() {
        for bad in [
            &b""[..],
            b"c",
            b"c;to-tag=1",
            b"c;from-tag=1",
            b"c;to-tag=1;to-tag=2;from-tag=3",
            b"c d;to-tag=1;from-tag=2",
            b"c;to-tag=;from-tag=2",
        ] {
            assert_eq!(Replaces::parse(bad), None);
        }
    }
}
