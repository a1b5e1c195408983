//! URIs as borrowed views (RFC 3261 §19.1, RFC 3966).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use compact_str::CompactString;
use compact_str::format_compact;
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

    /// The user part without its `;` parameters, escapes undone: a number to show or to compare.
    pub fn number(&self) -> Option<Cow<'a, [u8]>> {
        let user = self.user()?;
        Some(unescape(&user[..memchr(b';', user).unwrap_or(user.len())]))
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

    /// `hname=hvalue` after the `?`, escapes as they came (RFC 3261 §19.1.1).
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.headers.unwrap_or_default().split(|&b| b == b'&').filter(|h| !h.is_empty()).map(|header| {
            let at = memchr(b'=', header).unwrap_or(header.len());
            (&header[..at], header.get(at + 1..).unwrap_or_default())
        })
    }

    /// The first URI header of that name, any case, escapes undone: `Replaces` in a Refer-To (RFC 3891 §3).
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.headers().find(|(n, _)| unescape(n).eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| unescape(value))
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

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// An address as a URI or a Via has it: IPv6 in brackets.
pub fn print_host(ip: IpAddr) -> CompactString {
    format_compact!("{}", Host::Ip(ip))
}

/// Address and port as a URI or a Via has them.
pub fn host_port(addr: SocketAddr) -> CompactString {
    format_compact!("{}:{}", Host::Ip(addr.ip()), addr.port())
}

/// Text as the user part of a URI: what is neither `unreserved` nor `user-unreserved` is escaped (RFC 3261 §25.1).
pub fn escape_user(text: &[u8]) -> CompactString {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = CompactString::with_capacity(text.len());
    for &b in text {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b) {
            out.push(char::from(b));
        } else {
            out.extend([b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]].map(char::from));
        }
    }
    out
}

/// `%HH` undone (RFC 3986 §2.1); what is no escape stays.
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(units(text).map(|(b, _)| b).collect())
}

/// Bytes with their escapes undone, and whether each was escaped.
fn units(text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let b = *text.get(at)?;
        let hex = |i: usize| text.get(i).and_then(|&h| char::from(h).to_digit(16));
        let escaped = if b == b'%' { hex(at + 1).zip(hex(at + 2)).and_then(|(hi, lo)| u8::try_from(hi << 4 | lo).ok()) } else { None };
        at += if escaped.is_some() { 3 } else { 1 };
        Some((escaped.unwrap_or(b), escaped.is_some()))
    })
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
    format_compact!("{head}::{tail}").parse().ok()
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

/// URIs with more parameters or headers than this equal none: comparing them costs their square.
const COMPARED_PARTS_MAX: usize = 64;

/// Whether two URIs are equivalent (RFC 3261 §19.1.4, RFC 3966 §4). This is no transitive relation.
pub fn same(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    match (a, b) {
        (Uri::Sip(a), Uri::Sip(b)) => same_sip(a, b),
        (Uri::Tel { number: a, params: x }, Uri::Tel { number: b, params: y }) => same_tel(a, b) && same_tel_params(x, y),
        (Uri::Other { scheme: a, rest: x }, Uri::Other { scheme: b, rest: y }) => a.eq_ignore_ascii_case(b) && x == y,
        _ => false,
    }
}

fn same_sip(a: &SipUri<'_>, b: &SipUri<'_>) -> bool {
    let user_info = |x: Option<&[u8]>, y: Option<&[u8]>| match (x, y) {
        (Some(x), Some(y)) => same_text(x, y, false),
        (x, y) => x.is_none() && y.is_none(),
    };
    a.secure == b.secure
        && user_info(a.user, b.user)
        && user_info(a.password, b.password)
        && same_host(&a.host, &b.host)
        && a.port == b.port
        && few(a)
        && few(b)
        && same_params(&a.params, &b.params)
        && same_params(&b.params, &a.params)
        && a.headers().count() == b.headers().count()
        && a.headers().all(|(name, x)| b.headers().any(|(n, y)| same_text(name, n, true) && same_text(x, y, true)))
}

fn few(uri: &SipUri<'_>) -> bool {
    uri.params.iter().take(COMPARED_PARTS_MAX + 1).count() <= COMPARED_PARTS_MAX
        && uri.headers().take(COMPARED_PARTS_MAX + 1).count() <= COMPARED_PARTS_MAX
}

fn same_host(a: &Host<'_>, b: &Host<'_>) -> bool {
    match (a, b) {
        (Host::Name(a), Host::Name(b)) => a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.')),
        (Host::Ip(a), Host::Ip(b)) => a == b,
        _ => false,
    }
}

/// "A URI omitting any component with a default value will not match a URI explicitly containing that component": these five never
/// match when only one URI has them; any other is ignored then.
fn same_params(a: &Params<'_>, b: &Params<'_>) -> bool {
    const DECISIVE: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
    let find = |name: &[u8]| b.iter().find(|(n, _)| same_text(n, name, true)).map(|(_, value)| value.unwrap_or_default());
    a.iter().all(|(name, value)| match find(name) {
        Some(other) => same_text(value.unwrap_or_default(), other, true),
        None => !DECISIVE.iter().any(|d| same_text(name, d.as_bytes(), true)),
    })
}

/// "Characters other than those in the reserved set are equivalent to their encoding."
fn same_text(a: &[u8], b: &[u8], any_case: bool) -> bool {
    let unit = |(b, escaped): (u8, bool)| {
        let b_cased = if any_case { b.to_ascii_lowercase() } else { b };
        (b_cased, escaped && b";/?:@&=+$,".contains(&b))
    };
    units(a).map(unit).eq(units(b).map(unit))
}

fn same_tel(a: &[u8], b: &[u8]) -> bool {
    let digits = |number: &[u8]| -> Vec<u8> { number.iter().filter(|b| !b"-.()".contains(b)).map(u8::to_ascii_lowercase).collect() };
    digits(a) == digits(b)
}

/// RFC 3966 §4: all parameters count, their order does not.
fn same_tel_params(a: &Params<'_>, b: &Params<'_>) -> bool {
    let (x, y) = (a.iter().take(COMPARED_PARTS_MAX + 1).count(), b.iter().take(COMPARED_PARTS_MAX + 1).count());
    let has = |name: &[u8], value: &[u8]| b.iter().any(|(n, v)| n.eq_ignore_ascii_case(name) && same_context(v.unwrap_or_default(), value));
    x == y && x <= COMPARED_PARTS_MAX && a.iter().all(|(name, value)| has(name, value.unwrap_or_default()))
}

/// A phone-context may itself be a number.
fn same_context(a: &[u8], b: &[u8]) -> bool {
    if a.starts_with(b"+") && b.starts_with(b"+") { same_tel(a, b) } else { same_text(a, b, true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip(text: &str) -> SipUri<'_> {
        match Uri::parse(text.as_bytes()) {
            Some(Uri::Sip(sip)) => sip,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn equal(a: &str, b: &str) -> bool {
        let (a, b) = (Uri::parse(a.as_bytes()).unwrap(), Uri::parse(b.as_bytes()).unwrap());
        assert_eq!(same(&a, &b), same(&b, &a));
        same(&a, &b)
    }

    #[test]
    fn every_part_is_found() {
        let u = sip("SIPS:al%69ce;tgrp=a/b:p%3Aw@[2001:db8::1]:5061;transport=Foo;gr=urn:x:y;lr?Subject=a%20b&x=");
        assert!(u.secure);
        assert_eq!((u.user, u.password), (Some(&b"al%69ce;tgrp=a/b"[..]), Some(&b"p%3Aw"[..])));
        assert_eq!((u.host, u.port), (Host::Ip("2001:db8::1".parse().unwrap()), Some(5061)));
        assert_eq!(
            (u.params.get("transport"), u.params.get("gr"), u.params.get("lr")),
            (Some(&b"Foo"[..]), Some(&b"urn:x:y"[..]), Some(&b""[..]))
        );
        assert_eq!(u.headers().collect::<Vec<_>>(), [(&b"Subject"[..], &b"a%20b"[..]), (b"x", b"")]);
        assert_eq!(u.header("SUBJECT").as_deref(), Some(&b"a b"[..]));
        assert_eq!(u.header("nope"), None);
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        assert_eq!(sip("sip:a_b-c.Example.COM.:1").host, Host::Name("a_b-c.Example.COM."));
        assert_eq!(sip("sip:192.0.2.7").host, Host::Ip("192.0.2.7".parse().unwrap()));
        assert_eq!(sip("sip:host").port, None);
        assert_eq!(sip("sip:host:0").port, Some(0));
        assert_eq!(sip("sip:host:65535").port, Some(65535));
        let long = "a".repeat(HOST_LABEL_BYTES_MAX);
        assert_eq!(Host::parse(long.as_bytes()), Some(Host::Name(&long)));
        assert_eq!(Host::parse(format!("a{long}").as_bytes()), None);
        let name = vec!["a"; 127].join(".");
        assert_eq!(name.len(), HOST_NAME_BYTES_MAX);
        assert!(Host::parse(name.as_bytes()).is_some());
        assert_eq!(Host::parse(format!("{name}a").as_bytes()), None);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            "sip",
            "sip:",
            ":a@b",
            "1ip:a@b",
            "s p:a@b",
            "<sip:a@b>",
            "sip:a@b garbage",
            "sip:a @b",
            "sip:a@",
            "sip:@b",
            "sip::pw@b",
            "sip:a@b@c",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:a\"b@c",
            "sip:a@b:",
            "sip:a@b:65536",
            "sip:a@b:-1",
            "sip:a@b:50x",
            "sip:a@b..c",
            "sip:a@.b",
            "sip:a@-b",
            "sip:a@b-.c",
            "sip:a@b/c",
            "sip:a@192.0.2.256",
            "sip:a@192.0.2",
            "sip:a@bö",
            "sip:a@b;=x",
            "sip:2001:db8::10",
            "sip:a@2001:db8::10",
            "sip:a@[2001:db8::10",
            "sip:a@[2001:db8::10]5060",
            "sip:a@[2001:db8::g]",
            "sip:a@[fe80::1%25eth0]",
            "sip:a@[192.0.2.1]",
            "sip:a@[]",
            "tel:",
            "tel:+",
            "tel:-()",
            "tel:+1-800-FLOWERS",
            "tel:+*1",
            "tel:1 2",
            "other:",
        ] {
            assert_eq!(Uri::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    /// RFC 3966 §3.
    #[test]
    fn telephone_numbers_keep_their_separators() {
        let Some(Uri::Tel { number, params }) = Uri::parse(b"tel:+1-(201).555-0123;ext=7;phone-context=example.com") else { panic!() };
        assert_eq!((number, params.get("ext")), (&b"+1-(201).555-0123"[..], Some(&b"7"[..])));
        assert_eq!(Uri::parse(b"TEL:*31#7aF;phone-context=+1").unwrap().user(), Some(&b"*31#7aF"[..]));
    }

    #[test]
    fn the_number_has_no_parameters_and_no_escapes() {
        let number = |uri: &'static str| Uri::parse(uri.as_bytes()).unwrap().number().map(Cow::into_owned);
        assert_eq!(number("sip:%2b1415;tgrp=x@h").as_deref(), Some(&b"+1415"[..]));
        assert_eq!(number("tel:+1415;x=y").as_deref(), Some(&b"+1415"[..]));
        assert_eq!(number("sip:h"), None);
    }

    #[test]
    fn other_schemes_are_kept() {
        assert_eq!(Uri::parse(b"urn:service:sos"), Some(Uri::Other { scheme: b"urn", rest: b"service:sos" }));
        assert_eq!(Uri::parse(b"soap.beep+x-1://h:9/p").unwrap().user(), None);
    }

    #[test]
    fn escapes_are_undone_and_made() {
        assert_eq!(unescape(b"a%40b%").as_ref(), b"a@b%");
        assert_eq!(unescape(b"%zz%4").as_ref(), b"%zz%4");
        assert_eq!(unescape(b"%00%fF").as_ref(), [0, 255]);
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
        assert_eq!(escape_user(b"+1;a=b@c:d \r\n%\xff<>\"#"), "+1;a=b%40c%3Ad%20%0D%0A%25%FF%3C%3E%22%23");
    }

    #[test]
    fn addresses_are_printed_with_brackets() {
        assert_eq!(print_host("2001:db8::1".parse().unwrap()), "[2001:db8::1]");
        assert_eq!(print_host("192.0.2.1".parse().unwrap()), "192.0.2.1");
        assert_eq!(host_port("[2001:db8::1]:5060".parse().unwrap()), "[2001:db8::1]:5060");
        assert_eq!(host_port("192.0.2.1:5060".parse().unwrap()), "192.0.2.1:5060");
    }

    /// RFC 3261 §19.1.4: "The following URIs are equivalent".
    #[test]
    fn equivalent_uris_of_the_rfc() {
        assert!(equal("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"));
        assert!(equal("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(equal("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"));
        assert!(equal("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"));
        assert!(equal(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"
        ));
        assert!(equal(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x"
        ));
    }

    /// RFC 3261 §19.1.4: "The following URIs are not equivalent".
    #[test]
    fn different_uris_of_the_rfc() {
        assert!(!equal("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"));
        assert!(!equal("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!equal("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!equal("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"));
        assert!(!equal("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
        assert!(!equal("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"));
        assert!(!equal("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
    }

    #[test]
    fn escaped_reserved_characters_stay_different() {
        assert!(!equal("sip:a%3Bb@c", "sip:a;b@c"));
        assert!(equal("sip:a%2Db@c", "sip:a-b@c"));
        assert!(!equal("sip:a@c", "sips:a@c"));
        assert!(!equal("sip:a@c", "sip:c"));
        assert!(!equal("sip:a:x@c", "sip:a:y@c"));
        assert!(equal("sip:a@[2001:db8::0:1]", "sip:a@[2001:DB8::1]"));
        assert!(!equal("sip:a@c;maddr=192.0.2.1", "sip:a@c"));
        assert!(equal("tel:+1-201-555-0123;a=b;c", "tel:+1(201)5550123;C;a=B"));
        assert!(!equal("tel:+12015550123;a=b", "tel:+12015550123"));
        assert!(equal("tel:7;phone-context=+1-2", "tel:7;phone-context=+12"));
        assert!(equal("URN:service:sos", "urn:service:sos"));
        assert!(!equal("urn:service:sos", "tel:7"));
    }

    #[test]
    fn a_uri_with_too_many_parts_equals_none() {
        let uri = |n: usize| "sip:a@b".to_owned() + &";x=1".repeat(n);
        assert!(equal(&uri(COMPARED_PARTS_MAX), &uri(COMPARED_PARTS_MAX)));
        assert!(!equal(&uri(COMPARED_PARTS_MAX + 1), &uri(COMPARED_PARTS_MAX + 1)));
    }
}
