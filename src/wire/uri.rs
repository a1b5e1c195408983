//! URIs as borrowed views (RFC 3261 §19.1, RFC 3966).

use std::net::IpAddr;

use crate::wire::header::Params;

/// Host part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

/// `sip:` or `sips:`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SipUri<'a> {
    pub secure: bool,
    /// Escapes as they came; user parameters (`;tgrp=…`) included.
    pub user: Option<&'a [u8]>,
    pub host: Host<'a>,
    pub port: Option<u16>,
    pub params: Params<'a>,
    /// After `?`.
    pub headers: Option<&'a [u8]>,
}

/// Any URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uri<'a> {
    Sip(SipUri<'a>),
    /// Number and parameters.
    Tel {
        number: &'a [u8],
        params: Params<'a>,
    },
    /// Another scheme.
    Other {
        scheme: &'a [u8],
        rest: &'a [u8],
    },
}

#[allow(unused_variables, clippy::todo)]
impl<'a> Uri<'a> {
    pub fn parse(text: &'a [u8]) -> Option<Uri<'a>> {
        todo!()
    }
    /// The user part of a SIP URI or the number of a tel URI.
    pub fn user(&self) -> Option<&'a [u8]> {
        todo!()
    }
}
