//! Reason.

use std::borrow::Cow;

use crate::wire::header::Params;
use crate::wire::header::scan::elements;
use crate::wire::header::scan::number;
use crate::wire::header::value_and_params;
use crate::wire::method::is_token;

/// One value of a Reason header (RFC 3326 §2): `Q.850;cause=16;text="Terminated"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850`, …, as spelled.
    pub protocol: &'a [u8],
    pub params: Params<'a>,
}

impl<'a> Reason<'a> {
    pub fn parse(value: &'a [u8]) -> Option<Reason<'a>> {
        let (protocol, params) = value_and_params(value)?;
        is_token(protocol).then_some(Reason { protocol, params })
    }

    /// The readable ones of a list.
    pub fn all(value: &'a [u8]) -> impl Iterator<Item = Reason<'a>> {
        elements(value).filter_map(Reason::parse)
    }

    pub fn cause(&self) -> Option<u16> {
        u16::try_from(number(self.params.get("cause")?, u64::from(u16::MAX))?).ok()
    }

    /// Without quotes and escapes.
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        self.params.text("text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_protocol_cause_and_text() {
        let line = br#"SIP ;cause = 200 ;text="Call, \"completed\"; elsewhere", Q.850;cause=16, "x", X.9;cause=65536;text=plain"#;
        let all: Vec<_> = Reason::all(line).map(|r| (r.protocol, r.cause(), r.text())).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].0, all[0].1), (&b"SIP"[..], Some(200)));
        assert_eq!(all[0].2.as_deref(), Some(&br#"Call, "completed"; elsewhere"#[..]));
        assert_eq!(all[1], (&b"Q.850"[..], Some(16), None));
        assert_eq!((all[2].1, all[2].2.as_deref()), (None, Some(&b"plain"[..])));
    }
}
