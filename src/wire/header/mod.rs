//! Borrowed views of header values.

use crate::wire::uri::Host;
use crate::wire::uri::Uri;

/// `;name=value` parameters (RFC 3261 §25.1), LWS and quotes respected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params<'a>(pub &'a [u8]);

#[allow(unused_variables, clippy::todo)]
impl<'a> Params<'a> {
    /// `None`: absent. `Some(b"")`: there without a value.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        todo!()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        std::iter::empty()
    }
}

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

#[allow(unused_variables, clippy::todo)]
impl<'a> NameAddr<'a> {
    pub fn parse(value: &'a [u8]) -> Option<NameAddr<'a>> {
        todo!()
    }
    pub fn tag(&self) -> Option<&'a str> {
        todo!()
    }
    pub fn parsed_uri(&self) -> Option<Uri<'a>> {
        todo!()
    }
}

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, or anything else, as spelled.
    pub transport: &'a [u8],
    pub host: Host<'a>,
    /// As spelled, for keys.
    pub sent_by: &'a [u8],
    pub port: Option<u16>,
    pub params: Params<'a>,
}

#[allow(unused_variables, clippy::todo)]
impl<'a> Via<'a> {
    pub fn parse(value: &'a [u8]) -> Option<Via<'a>> {
        todo!()
    }
    pub fn branch(&self) -> Option<&'a [u8]> {
        todo!()
    }
}

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeq<'a> {
    pub number: u32,
    pub method: &'a [u8],
}
