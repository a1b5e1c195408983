//! Content-Type.

use crate::wire::header::Params;
use crate::wire::header::scan::trim;
use crate::wire::header::value_and_params;
use crate::wire::method::is_token;

/// `type/subtype;params` (RFC 3261 §20.15), as spelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaType<'a> {
    pub kind: &'a [u8],
    pub subtype: &'a [u8],
    pub params: Params<'a>,
}

impl<'a> MediaType<'a> {
    pub fn parse(value: &'a [u8]) -> Option<MediaType<'a>> {
        let (media_type, params) = value_and_params(value)?;
        let slash = memchr::memchr(b'/', media_type)?;
        let (kind, subtype) = (trim(&media_type[..slash]), trim(&media_type[slash + 1..]));
        (is_token(kind) && is_token(subtype)).then_some(MediaType { kind, subtype, params })
    }

    /// `type/subtype`, any case.
    pub fn is(&self, media_type: &str) -> bool {
        media_type.split_once('/').is_some_and(|(kind, subtype)| {
            self.kind.eq_ignore_ascii_case(kind.as_bytes()) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_subtype_and_parameters() {
        let m = MediaType::parse(b" Multipart / Mixed ; boundary=\"a;b\" ;flag").unwrap();
        assert!(m.is("multipart/mixed"));
        assert!(!m.is("multipart/related"));
        assert_eq!(m.params.text("Boundary").as_deref(), Some(&b"a;b"[..]));
        assert!(m.params.has("flag"));
        for bad in [&b""[..], b"sdp", b"/sdp", b"application/", b"a/b/c", b"a b/c", b"a/b;x=\"", b";a/b"] {
            assert_eq!(MediaType::parse(bad), None);
        }
    }
}
