//! Via.

use std::net::IpAddr;

use memchr::memchr;

use crate::wire::header::Params;
use crate::wire::header::scan::elements;
use crate::wire::header::scan::is_blank;
use crate::wire::header::scan::number;
use crate::wire::header::scan::trim;
use crate::wire::header::scan::trim_start;
use crate::wire::method::is_token;
use crate::wire::uri::Host;

/// What a branch of RFC 3261 begins with (§8.1.1.7).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

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

impl<'a> Via<'a> {
    /// One value, not a list. Any version is read: whether we speak it is the start line's question.
    pub fn parse(value: &'a [u8]) -> Option<Via<'a>> {
        let (protocol, rest) = split_at_slash(trim(value))?;
        let (version, rest) = split_at_slash(rest)?;
        let rest = trim_start(rest);
        let (transport, rest) = rest.split_at(rest.iter().position(|&b| is_blank(b))?);
        let rest = trim_start(rest);
        let (sent_by, params) = rest.split_at(memchr(b';', rest).unwrap_or(rest.len()));
        let (sent_by, params) = (trim(sent_by), Params(params));
        let (host, port) = split_port(sent_by)?;
        let sound = protocol.eq_ignore_ascii_case(b"SIP") && is_token(version) && is_token(transport) && params.is_sound(false);
        sound.then_some(Via { transport, host, sent_by, port, params })
    }

    pub fn branch(&self) -> Option<&'a [u8]> {
        self.params.get("branch").filter(|branch| !branch.is_empty())
    }

    /// A branch that names its transaction by itself (RFC 3261 §17.2.3): the cookie in any case, and something behind it.
    pub fn unique_branch(&self) -> Option<&'a [u8]> {
        self.branch().filter(|branch| match branch.split_at_checked(MAGIC_COOKIE.len()) {
            Some((cookie, rest)) => cookie.eq_ignore_ascii_case(MAGIC_COOKIE) && !rest.is_empty(),
            None => false,
        })
    }

    /// Where the request really came from, as the next hop noted it (RFC 3261 §18.2.1); with or without brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.params.get("received")?;
        let bare = value.strip_prefix(b"[").and_then(|v| v.strip_suffix(b"]")).unwrap_or(value);
        std::str::from_utf8(bare).ok()?.parse().ok()
    }

    /// RFC 3581: `None` absent, `Some(None)` asked for, `Some(Some(port))` filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        match self.params.get("rport")? {
            b"" => Some(None),
            port => Some(number(port, u64::from(u16::MAX)).and_then(|n| u16::try_from(n).ok())),
        }
    }
}

/// The values of one Via line; `None` for one that cannot be read.
pub fn vias(value: &[u8]) -> impl Iterator<Item = Option<Via<'_>>> {
    elements(value).map(Via::parse)
}

fn split_at_slash(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b'/', text)?;
    Some((trim(&text[..at]), &text[at + 1..]))
}

/// `host [COLON port]`, blanks allowed round the colon.
fn split_port(sent_by: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    let host_len = if sent_by.first() == Some(&b'[') { memchr(b']', sent_by)? + 1 } else { memchr(b':', sent_by).unwrap_or(sent_by.len()) };
    let (host, rest) = sent_by.split_at(host_len);
    let host = Host::parse(trim(host))?;
    match trim(rest) {
        b"" => Some((host, None)),
        rest => {
            let port = number(trim_start(rest.strip_prefix(b":")?), u64::from(u16::MAX))?;
            Some((host, u16::try_from(port).ok()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_usual_one() {
        let v = Via::parse(b"SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa;rport").unwrap();
        assert_eq!((v.transport, v.sent_by, v.port), (&b"UDP"[..], &b"192.0.2.1:5062"[..], Some(5062)));
        assert_eq!(v.host, Host::Ip("192.0.2.1".parse().unwrap()));
        assert_eq!(v.branch(), Some(&b"z9hG4bKa"[..]));
        assert!(v.unique_branch().is_some());
        assert_eq!(v.rport(), Some(None));
        assert_eq!(v.received(), None);
    }

    /// RFC 3261 §25.1: SLASH, COLON, SEMI and EQUAL all stand between SWS.
    #[test]
    fn blanks_are_allowed_round_every_separator() {
        let v =
            Via::parse(b"  SIP /\t2.0 / TCP  edge.example.net\t: 5061 ; branch = z9hG4bK=1/2 ; received = 192.0.2.9 ; rport = 9").unwrap();
        assert_eq!((v.transport, v.sent_by, v.port), (&b"TCP"[..], &b"edge.example.net\t: 5061"[..], Some(5061)));
        assert_eq!(v.host, Host::Name("edge.example.net"));
        assert_eq!(v.branch(), Some(&b"z9hG4bK=1/2"[..]));
        assert_eq!(v.received(), Some("192.0.2.9".parse().unwrap()));
        assert_eq!(v.rport(), Some(Some(9)));
    }

    #[test]
    fn a_list_is_read_value_by_value() {
        let all: Vec<_> = vias(b"SIP/2.0/UDP a;branch=1 ,SIP/2.0/NEVERHEARD [2001:db8::1]:7;x=\"a,b\", nonsense").collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].unwrap().host, Host::Name("a"));
        assert_eq!((all[1].unwrap().port, all[1].unwrap().transport), (Some(7), &b"NEVERHEARD"[..]));
        assert_eq!(all[2], None);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 host",
            "HTTP/1.1/TCP host",
            "SIP/2.0/UDP ;branch=x",
            "SIP/2.0/UDP 192.0.2.15;;,;,,",
            "SIP/2.0/UDP 192.0.2.15;;",
            "SIP/2.0/UDP 192.0.2.15;branch=a,",
            "SIP/2.0/UDP a;branch=b, SIP/2.0/UDP c",
            "SIP/2.0/UDP a b;branch=c",
            "SIP/2.0/UDP a:;branch=c",
            "SIP/2.0/UDP a:65536;branch=c",
            "SIP/2.0/UDP a:x;branch=c",
            "SIP/2.0/UDP 2001:db8::1;branch=c",
            "SIP/2.0/UDP [2001:db8::1;branch=c",
            "SIP/2.0/UDP [2001:db8::1]x;branch=c",
            "SIP/2.0/U DP a;branch=c",
            "SIP/2.0/UDP a;branch=\"c",
        ] {
            assert_eq!(Via::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_bare_cookie_is_no_branch_of_rfc_3261() {
        assert!(Via::parse(b"SIP/2.0/UDP a;branch=z9hG4bK").unwrap().unique_branch().is_none());
        assert!(Via::parse(b"SIP/2.0/UDP a;branch=1").unwrap().unique_branch().is_none());
        assert_eq!(Via::parse(b"SIP/2.0/UDP a;branch=").unwrap().branch(), None);
    }
}
