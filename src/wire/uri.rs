//! URIs as borrowed views (RFC 3261 §19.1, RFC 3966).

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use memchr::memchr;

use crate::wire::header::Params;
use crate::wire::header::scan::find_bare;
use crate::wire::header::scan::number;

/// RFC 1035 §2.3.4, the last dot not counted.
const HOST_NAME_BYTES_MAX: usize = 253;
const HOST_LABEL_BYTES_MAX: usize = 63;
/// `ffff:` six times, an IPv4 address of fifteen characters, and one superfluous colon.
const IPV6_TEXT_BYTES_MAX: usize = 46;

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
    /// Escapes as they came.
    pub password: Option<&'a [u8]>,
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

impl<'a> Uri<'a> {
    pub fn parse(text: &'a [u8]) -> Option<Uri<'a>> {
        let colon = memchr(b':', text)?;
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        if !is_scheme(scheme) || rest.is_empty() || !rest.iter().all(|&b| b > b' ' && b != 0x7f && b != b'<' && b != b'>') {
            return None;
        }
        match scheme {
            s if s.eq_ignore_ascii_case(b"sip") => SipUri::parse(false, rest).map(Uri::Sip),
            s if s.eq_ignore_ascii_case(b"sips") => SipUri::parse(true, rest).map(Uri::Sip),
            s if s.eq_ignore_ascii_case(b"tel") => tel(rest),
            _ => Some(Uri::Other { scheme, rest }),
        }
    }

    /// The user part of a SIP URI or the number of a tel URI.
    pub fn user(&self) -> Option<&'a [u8]> {
        match *self {
            Uri::Sip(sip) => sip.user,
            Uri::Tel { number, .. } => Some(number),
            Uri::Other { .. } => None,
        }
    }
}

impl<'a> SipUri<'a> {
    /// `rest`: printable, after the scheme. The first `@` ends the user part, for it must be escaped inside (RFC 3261 §25.1); one in
    /// URI headers is let through, since user agents write `?Replaces=a@b` unescaped.
    fn parse(secure: bool, rest: &'a [u8]) -> Option<SipUri<'a>> {
        let (user, password, rest) = match memchr(b'@', rest) {
            Some(at) => {
                let (user, password) = user_info(&rest[..at])?;
                (Some(user), password, &rest[at + 1..])
            }
            None => (None, None, rest),
        };
        let (rest, headers) = match find_bare(rest, |b| b == b'?') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let (host_port, params) = rest.split_at(memchr(b';', rest).unwrap_or(rest.len()));
        let (host, port) = split_port(host_port)?;
        Some(SipUri { secure, user, password, host, port, params: uri_params(params)?, headers })
    }
}

impl<'a> Host<'a> {
    /// A host name, an IPv4 address, or an IPv6 address in brackets (RFC 3261 §25.1 `host`); `_` is let through in names.
    pub fn parse(text: &'a [u8]) -> Option<Host<'a>> {
        if let Some(bracketed) = text.strip_prefix(b"[") {
            return ipv6(bracketed.strip_suffix(b"]")?).map(|ip| Host::Ip(IpAddr::V6(ip)));
        }
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Host::Ip(IpAddr::V4(ip)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let sound = name.len() <= HOST_NAME_BYTES_MAX && name.split('.').all(is_label);
        // RFC 3261 §25.1 `toplabel` begins with a letter: 192.0.2.256 is no name.
        let top_is_name = !name.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
        (sound && top_is_name).then_some(Host::Name(text))
    }
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(|&b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_label(label: &str) -> bool {
    (1..=HOST_LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// RFC 5118 §4.10: the grammar of RFC 3261 lets `:::` stand before an embedded IPv4 address; it means `::`.
fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= IPV6_TEXT_BYTES_MAX)?;
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let (head, tail) = text.split_once(":::")?;
    let tail = tail.parse::<Ipv4Addr>().ok()?;
    let mut fixed = compact_str::CompactString::new(head);
    fixed.push_str("::");
    fixed.push_str(&compact_str::format_compact!("{tail}"));
    fixed.parse().ok()
}

/// User and password; every `%` must begin an escape.
fn user_info(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let sound = !text.contains(&b'"') && escapes_are_sound(text);
    let (user, password) = match memchr(b':', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    (sound && !user.is_empty()).then_some((user, password))
}

fn escapes_are_sound(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(i, &b)| b != b'%' || text.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

fn split_port(text: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    let host_len = if text.first() == Some(&b'[') { memchr(b']', text)? + 1 } else { memchr(b':', text).unwrap_or(text.len()) };
    let (host, rest) = text.split_at(host_len);
    let port = match rest {
        b"" => None,
        rest => u16::try_from(number(rest.strip_prefix(b":")?, u64::from(u16::MAX))?).ok(),
    };
    Some((Host::parse(host)?, port))
}

/// Parameters of a URI: any printable text; a name is due where there is a value.
fn uri_params(text: &[u8]) -> Option<Params<'_>> {
    let params = Params(text);
    params.iter().all(|(name, _)| !name.is_empty()).then_some(params)
}

/// RFC 3966 §3: digits and visual separators; a local number also has hex digits, `*` and `#`.
fn tel(rest: &[u8]) -> Option<Uri<'_>> {
    let (number, params) = rest.split_at(memchr(b';', rest).unwrap_or(rest.len()));
    let separator = |b: &u8| b"-.()".contains(b);
    let digit = |b: &u8| if number.starts_with(b"+") { b.is_ascii_digit() } else { b.is_ascii_hexdigit() || b"*#".contains(b) };
    let digits = number.strip_prefix(b"+").unwrap_or(number);
    let sound = digits.iter().all(|b| digit(b) || separator(b)) && digits.iter().any(digit);
    sound.then_some(Uri::Tel { number, params: uri_params(params)? })
}
