//! Single values as a user writes them: durations, addresses, CIDR, SIP targets, port ranges, URLs.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use compact_str::CompactString;

use crate::call::rules::Lookup;
use crate::call::rules::TargetName;
use crate::call::rules::TargetSpec;
use crate::call::rules::Transport;
use crate::config::Allow;
use crate::config::Listen;
use crate::config::errors::Bad;
use crate::wire::method::is_token;

const DNS_PORT: u16 = 53;
/// RFC 1035 §2.3.4.
const HOST_NAME_BYTES_MAX: usize = 253;
const HOST_LABEL_BYTES_MAX: usize = 63;
/// User part of a Request-URI; E.164 has 15 digits, internal numbers are a little longer.
const NUMBER_BYTES_MAX: usize = 64;
/// Ports of one call: RTP and RTCP, for each of two legs.
pub const PORTS_PER_CALL: usize = 4;
/// Below are the well-known ports, which an unprivileged process cannot bind.
const MEDIA_PORT_MIN: u16 = 1024;

/// "500ms", "4s", "30m", "1h"; "0" alone is zero.
pub fn duration(text: &str) -> Result<Duration, Bad> {
    let bad = || Bad::new(format!("{text:?} is not a duration"), "a whole number and a unit, as in \"500ms\", \"4s\", \"30m\" or \"1h\"");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(bad)
}

/// A duration as a user would write it.
pub fn print_duration(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// `udp://0.0.0.0:5060`, `tcp://[::]:5060`, `tls://0.0.0.0:5061`. A host name would make the address that serves depend on DNS: refused.
pub fn listen(text: &str) -> Result<Listen, Bad> {
    let expected = "udp://ADDRESS:PORT, tcp://ADDRESS:PORT or tls://ADDRESS:PORT, as in \"udp://0.0.0.0:5060\"";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Bad::new(format!("{text:?} has no transport"), expected));
    };
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        _ => return Err(Bad::new(format!("{scheme:?} is not a transport"), expected)),
    };
    match rest.parse::<SocketAddr>() {
        Ok(addr) if addr.ip().is_multicast() => {
            Err(Bad::new(format!("{} is a multicast address", addr.ip()), "an address of this machine"))
        }
        Ok(addr) => Ok(Listen { transport, addr }),
        Err(_) => {
            let host = rest.rsplit_once(':').map_or(rest, |(h, _)| h);
            let problem = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(ip) if ip.is_ipv6() && !host.starts_with('[') => format!("the IPv6 address in {text:?} needs brackets"),
                Ok(_) => format!("{text:?} has no valid port"),
                Err(_) => format!("{host:?} is not an IP address"),
            };
            Err(Bad::new(problem, expected))
        }
    }
}

/// An address for peers to send to: no wildcard, no multicast.
pub fn advertised(text: &str) -> Result<IpAddr, Bad> {
    let expected = "an address that the peers reach, as in \"203.0.113.10\"";
    let ip: IpAddr = text.parse().map_err(|_| Bad::new(format!("{text:?} is not an IP address"), expected))?;
    let ip = ip.to_canonical();
    if ip.is_unspecified() {
        return Err(Bad::new(format!("the wildcard {ip} cannot be advertised"), expected));
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(Bad::new(format!("{ip} is not a unicast address"), expected));
    }
    Ok(ip)
}

/// An address of this machine to bind; a wildcard is fine.
pub fn bind(text: &str) -> Result<IpAddr, Bad> {
    let ip: IpAddr =
        text.parse().map_err(|_| Bad::new(format!("{text:?} is not an IP address"), "an address of this machine, as in \"0.0.0.0\""))?;
    Ok(ip.to_canonical())
}

/// `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1:5060`, `10.0.0.0/8:5060`, `2001:db8::/32`, `[2001:db8::1]:5060`, `[2001:db8::]/32:5060`.
pub fn allow(text: &str) -> Result<Allow, Bad> {
    let bad = |why: String| Bad::new(why, "an address or CIDR, perhaps with a port, as in \"216.20.235.160/28\" or \"10.0.0.5:5060\"");
    let (ip_text, rest) = match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']').ok_or_else(|| bad(format!("{text:?} has no closing bracket")))?,
        None if text.parse::<Ipv6Addr>().is_ok() => (text, ""),
        None => match text.split_once('/') {
            Some((ip, _)) => (ip, text.get(ip.len()..).unwrap_or_default()),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        },
    };
    let ip: IpAddr = ip_text.parse().map_err(|_| bad(format!("{ip_text:?} is not an IP address")))?;
    let (prefix_text, port_text) = match rest.strip_prefix('/') {
        Some(p) => p.split_once(':').map_or((Some(p), None), |(p, port)| (Some(p), Some(port))),
        None if rest.is_empty() => (None, None),
        None => (None, Some(rest.strip_prefix(':').ok_or_else(|| bad(format!("{rest:?} after the address")))?)),
    };
    let bits: u8 = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix_text {
        Some(p) => digits(p).filter(|n| *n <= u64::from(bits)).and_then(|n| u8::try_from(n).ok()),
        None => Some(bits),
    }
    .ok_or_else(|| bad(format!("/{} is not a prefix of 0 to {bits} bits", prefix_text.unwrap_or_default())))?;
    let port = port_text.map(|p| port(p).ok_or_else(|| bad(format!("{p:?} is not a port")))).transpose()?;
    let network = masked(ip, prefix);
    if network != ip {
        return Err(bad(format!("{ip} has bits beyond its /{prefix}")).near(Some(format!("\"{network}/{prefix}\""))));
    }
    // RFC 4291 §2.5.5.2: an IPv4-mapped range counts as IPv4, as sources do.
    match ip.to_canonical() {
        v4 if v4 != ip && prefix >= 96 => Ok(Allow { network: v4, prefix: prefix - 96, port }),
        _ => Ok(Allow { network: ip, prefix, port }),
    }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
        }
    }
}

/// Digits only: `u16::from_str` would also take a sign.
fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn port(text: &str) -> Option<u16> {
    digits(text).and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

/// `sip:host[:port][;transport=udp|tcp|tls]` or `sips:host[:port]`. Without a port a name is looked up as RFC 3263 §4 says; what that
/// leaves open is UDP and 5060, of `sips:` TLS and 5061. A name for TLS is looked up as A and AAAA.
pub fn sip_target(text: &str) -> Result<TargetSpec, Bad> {
    let expected = "sip:HOST[:PORT][;transport=udp|tcp|tls] or sips:HOST[:PORT], as in \"sip:sip.us.synthflow.ai:32681;transport=tcp\"";
    let bad = |why: String| Bad::new(why, expected);
    let Some((scheme, rest)) = text.split_once(':') else { return Err(bad(format!("{text:?} is not a SIP URI"))) };
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "sip" => false,
        "sips" => true,
        _ => return Err(bad(format!("{text:?} does not begin with sip: or sips:"))),
    };
    if rest.contains('@') {
        return Err(bad("a target has no user part: the number that is called comes from the call (see synthflow.number)".to_owned()));
    }
    if rest.contains('?') {
        return Err(bad("a target has no headers".to_owned()));
    }
    let (address, params) = rest.split_once(';').map_or((rest, None), |(a, p)| (a, Some(p)));
    let named = params.map(|params| sip_transport(params, expected)).transpose()?;
    let transport = match (secure, named) {
        (false, named) => named.unwrap_or(Transport::Udp),
        (true, Some(Transport::Udp)) => return Err(Bad::new("sips: is TLS, which UDP has not".to_owned(), expected)),
        // RFC 3261 §26.2.2: with `sips:`, transport=tcp is TLS over TCP.
        (true, _) => Transport::Tls,
    };
    let (name, port) = host_port(address, transport.default_port()).map_err(bad)?;
    let has_port = !address.ends_with(']') && address.rsplit_once(':').is_some();
    let lookup = match params {
        _ if has_port || transport == Transport::Tls || name.parse::<IpAddr>().is_ok() => Lookup::Address,
        Some(_) => Lookup::Service,
        None => Lookup::Naptr,
    };
    Ok(TargetSpec { name: TargetName(name), port, transport, lookup })
}

fn sip_transport(params: &str, expected: &str) -> Result<Transport, Bad> {
    let (name, value) = params.split_once('=').unwrap_or((params, ""));
    if !name.eq_ignore_ascii_case("transport") || value.contains(';') {
        return Err(Bad::new(format!("{params:?} is not understood"), expected));
    }
    match value.to_ascii_lowercase().as_str() {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "tls" => Ok(Transport::Tls),
        _ => Err(Bad::new(format!("{value:?} is not a transport"), "transport=udp, transport=tcp or transport=tls")),
    }
}

/// The host in lower case, an IPv6 address without its brackets.
fn host_port(text: &str, default_port: u16) -> Result<(CompactString, u16), String> {
    let (host, port_text, bracketed) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']').ok_or_else(|| format!("{text:?} has no closing bracket"))?;
            let port =
                if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(|| format!("{rest:?} after the address"))?) };
            (host, port, true)
        }
        None if text.parse::<Ipv6Addr>().is_ok() => return Err(format!("the IPv6 address {text} needs brackets")),
        None => text.split_once(':').map_or((text, None, false), |(h, p)| (h, Some(p), false)),
    };
    let port = match port_text {
        Some(p) => port(p).ok_or_else(|| format!("{p:?} is not a port"))?,
        None => default_port,
    };
    match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv6() != bracketed => return Err(format!("{text:?} has brackets that belong to IPv6 only")),
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => return Err(format!("{ip} is not an address that can be called")),
        Ok(_) => {}
        Err(_) if bracketed => return Err(format!("{host:?} is not an IPv6 address")),
        Err(_) if !is_host_name(host) => return Err(format!("{host:?} is neither a host name nor an address")),
        Err(_) => {}
    }
    Ok((CompactString::from(host.to_ascii_lowercase()), port))
}

/// RFC 1123 §2.1, and the underscore that private zones use. The last label is not a number, else it is a broken IPv4 address.
fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label_ok = |l: &str| {
        (1..=HOST_LABEL_BYTES_MAX).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= HOST_NAME_BYTES_MAX
        && host.split('.').all(label_ok)
        && host.rsplit('.').next().is_some_and(|l| !l.bytes().all(|b| b.is_ascii_digit()))
}

/// An `http://` or `https://` URL without user, query and fragment; a trailing slash goes.
pub fn http_url(text: &str) -> Result<String, Bad> {
    let expected = "a URL as in \"https://cxone.niceincontact.com\"";
    let bad = |why: String| Bad::new(why, expected);
    let Some((scheme, rest)) = text.split_once("://") else { return Err(bad(format!("{text:?} is not a URL"))) };
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return Err(bad(format!("{scheme:?} is neither https nor http"))),
    };
    if rest.contains('@') {
        return Err(bad("credentials do not belong into a URL".to_owned()));
    }
    if rest.contains(['?', '#']) {
        return Err(bad("a query or fragment does not belong here".to_owned()));
    }
    if !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad("the URL has a blank, a control or a non-ASCII character".to_owned()));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    host_port(authority, default_port).map_err(bad)?;
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// `http://` to another machine: credentials would travel in clear.
pub fn is_clear_and_remote(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = host_port(authority, 80).map(|(h, _)| h).unwrap_or_default();
    host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// `10000-29999`: whole pairs, RTP even and RTCP the odd one above (RFC 3550 §11), for at least one call.
pub fn ports(text: &str) -> Result<RangeInclusive<u16>, Bad> {
    let bad = |why: String| Bad::new(why, "an even first and an odd last port, at least four ports, as in \"10000-29999\"");
    let (low_text, high_text) = text.split_once('-').ok_or_else(|| bad(format!("{text:?} is not a range")))?;
    let low = port(low_text.trim()).ok_or_else(|| bad(format!("{low_text:?} is not a port")))?;
    let high = port(high_text.trim()).ok_or_else(|| bad(format!("{high_text:?} is not a port")))?;
    if low > high {
        return Err(bad(format!("{low} is above {high}")).near(Some(format!("\"{high}-{low}\""))));
    }
    if low < MEDIA_PORT_MIN {
        return Err(bad(format!("{low} is below {MEDIA_PORT_MIN}")));
    }
    if low % 2 != 0 {
        return Err(bad(format!("the first port {low} is odd")));
    }
    if high % 2 == 0 {
        return Err(bad(format!("the last port {high} is even")));
    }
    if usize::from(high - low) + 1 < PORTS_PER_CALL {
        return Err(bad(format!("{low}-{high} has no room for one call")));
    }
    Ok(low..=high)
}

/// An address, perhaps with a port.
pub fn dns_server(text: &str) -> Result<SocketAddr, Bad> {
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    match bare.or_else(|_| text.parse::<SocketAddr>()) {
        Ok(addr) if addr.port() != 0 && !addr.ip().is_unspecified() => Ok(addr),
        _ => {
            Err(Bad::new(format!("{text:?} is not an address"), "an address, perhaps with a port, as in \"10.0.0.2\" or \"10.0.0.2:5353\""))
        }
    }
}

/// The user part that Synthflow is called with.
pub fn number(text: &str) -> Result<String, Bad> {
    let ok = (1..=NUMBER_BYTES_MAX).contains(&text.len())
        && text.bytes().enumerate().all(|(i, b)| b.is_ascii_alphanumeric() || b"._*-".contains(&b) || (b == b'+' && i == 0));
    if ok { Ok(text.to_owned()) } else { Err(Bad::new(format!("{text:?} is not a number"), "digits as in \"+12065551234\"")) }
}

/// Any header name (RFC 3261 §25.1: a token).
pub fn header_name(text: &str) -> Result<String, Bad> {
    if is_token(text.as_bytes()) {
        Ok(text.to_owned())
    } else {
        Err(Bad::new(format!("{text:?} is not a header name"), "a header's name, as in \"X-Queue\""))
    }
}

/// `v30.0`
pub fn api_version(text: &str) -> Result<String, Bad> {
    let numbers = text.strip_prefix('v').and_then(|n| n.split_once('.'));
    if numbers.is_some_and(|(a, b)| digits(a).is_some() && digits(b).is_some()) {
        return Ok(text.to_owned());
    }
    Err(Bad::new(format!("{text:?} is not a version"), "a version of the API, as in \"v30.0\""))
}

/// Not reachable from the Internet: RFC 1918, RFC 6598, RFC 4193, loopback and link-local.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, _, _] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, ms) in [("500ms", 500), ("4s", 4_000), ("30m", 1_800_000), ("1h", 3_600_000), ("0s", 0), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "4", "4 s", "-1s", "+1s", "1.5s", "1d", "4S", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        for text in ["500ms", "4s", "30m", "1h", "90s", "0s"] {
            assert_eq!(duration(text).map(print_duration).as_deref(), Ok(if text == "90s" { "90s" } else { text }));
        }
    }

    #[test]
    fn a_listener_is_a_transport_and_an_address_never_a_name() {
        assert_eq!(listen("udp://0.0.0.0:5060"), Ok(Listen { transport: Transport::Udp, addr: "0.0.0.0:5060".parse().unwrap() }));
        assert_eq!(listen("tls://0.0.0.0:5061"), Ok(Listen { transport: Transport::Tls, addr: "0.0.0.0:5061".parse().unwrap() }));
        assert_eq!(listen("TCP://[::]:5061"), Ok(Listen { transport: Transport::Tcp, addr: "[::]:5061".parse().unwrap() }));
        for (text, problem) in [
            ("udp://localhost:5060", "\"localhost\" is not an IP address"),
            ("0.0.0.0:5060", "has no transport"),
            ("sctp://0.0.0.0:5060", "\"sctp\" is not a transport"),
            ("udp://::1:5060", "needs brackets"),
            ("udp://0.0.0.0", "has no valid port"),
            ("udp://0.0.0.0:65536", "has no valid port"),
            ("udp://224.0.0.1:5060", "multicast"),
        ] {
            let got = listen(text).unwrap_err().problem;
            assert!(got.contains(problem), "{text}: {got}");
        }
    }

    #[test]
    fn an_allow_entry_is_an_address_or_cidr_perhaps_with_a_port() {
        let a = |network: &str, prefix, port| Ok(Allow { network: network.parse().unwrap(), prefix, port });
        assert_eq!(allow("10.0.0.1"), a("10.0.0.1", 32, None));
        assert_eq!(allow("10.0.0.0/8"), a("10.0.0.0", 8, None));
        assert_eq!(allow("10.0.0.1:5060"), a("10.0.0.1", 32, Some(5060)));
        assert_eq!(allow("10.0.0.0/8:5060"), a("10.0.0.0", 8, Some(5060)));
        assert_eq!(allow("0.0.0.0/0"), a("0.0.0.0", 0, None));
        assert_eq!(allow("2001:db8::1"), a("2001:db8::1", 128, None));
        assert_eq!(allow("2001:db8::/32"), a("2001:db8::", 32, None));
        assert_eq!(allow("[2001:db8::1]:5060"), a("2001:db8::1", 128, Some(5060)));
        assert_eq!(allow("[2001:db8::]/32:5060"), a("2001:db8::", 32, Some(5060)));
        assert_eq!(allow("::ffff:10.0.0.0/104"), a("10.0.0.0", 8, None));
        for text in [
            "",
            "x",
            "10.0.0.1/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.1:0",
            "10.0.0.1:",
            "10.0.0.1:65536",
            "::/129",
            "[::1",
            "[::1]x",
            "sip.example.com",
        ] {
            assert!(allow(text).is_err(), "{text:?}");
        }
        assert_eq!(allow("10.1.2.3/8").unwrap_err().nearest.as_deref(), Some("\"10.0.0.0/8\""));
    }

    #[test]
    fn a_target_has_a_host_and_defaults_to_udp_on_5060() {
        let found = |name: &str, port, transport, lookup| Ok(TargetSpec { name: TargetName(name.into()), port, transport, lookup });
        let t = |name: &str, port, transport| found(name, port, transport, Lookup::Address);
        // RFC 3263 §4.1: with no transport parameter and a numeric host, or without NAPTR and SRV, UDP.
        assert_eq!(sip_target("sip:10.0.0.1"), t("10.0.0.1", 5060, Transport::Udp));
        assert_eq!(sip_target("sip:SIP.us.synthflow.ai:32681;transport=TCP"), t("sip.us.synthflow.ai", 32681, Transport::Tcp));
        // RFC 3261 §19.1.2, §26.2.2.
        for text in ["sips:a.example", "sip:a.example;transport=tls", "SIPS:a.example;transport=tcp", "sip:a.example:5061;transport=TLS"] {
            assert_eq!(sip_target(text), t("a.example", 5061, Transport::Tls), "{text}");
        }
        assert_eq!(sip_target("sip:[2001:db8::1]:5070;transport=udp"), t("2001:db8::1", 5070, Transport::Udp));
        assert_eq!(sip_target("sip:[2001:db8::1]"), t("2001:db8::1", 5060, Transport::Udp));
        assert_eq!(sip_target("sip:example.com"), found("example.com", 5060, Transport::Udp, Lookup::Naptr));
        assert_eq!(sip_target("sip:example.com;transport=tcp"), found("example.com", 5060, Transport::Tcp, Lookup::Service));
        assert_eq!(sip_target("sip:example.com:5060"), t("example.com", 5060, Transport::Udp));
        for (text, problem) in [
            ("sip:bot@example.com", "no user part"),
            ("sips:example.com;transport=udp", "which UDP has not"),
            ("sip:example.com;transport=sctp", "is not a transport"),
            ("sip:example.com;lr", "not understood"),
            ("sip:example.com;transport=tcp;lr", "not understood"),
            ("sip:example.com?X=1", "no headers"),
            ("tel:+1206", "does not begin with sip:"),
            ("example.com", "not a SIP URI"),
            ("sip:", "neither a host name"),
            ("sip:exa mple.com", "neither a host name"),
            ("sip:10.0.0.256", "neither a host name"),
            ("sip:example.com:0", "not a port"),
            ("sip:example.com:+5060", "not a port"),
            ("sip:::1", "needs brackets"),
            ("sip:[example.com]", "not an IPv6 address"),
            ("sip:[10.0.0.1]", "IPv6 only"),
            ("sip:0.0.0.0", "not an address that can be called"),
        ] {
            let got = sip_target(text).unwrap_err().problem;
            assert!(got.contains(problem), "{text}: {got}");
        }
        assert!(sip_target(&format!("sip:{}.example", "a".repeat(HOST_LABEL_BYTES_MAX))).is_ok());
        assert!(sip_target(&format!("sip:{}.example", "a".repeat(HOST_LABEL_BYTES_MAX + 1))).is_err());
        let name = |bytes: usize| format!("sip:{}a", "a.".repeat(bytes / 2));
        assert!(sip_target(&name(HOST_NAME_BYTES_MAX)).is_ok());
        assert!(sip_target(&name(HOST_NAME_BYTES_MAX + 2)).is_err());
    }

    #[test]
    fn a_media_range_holds_whole_pairs_for_at_least_one_call() {
        assert_eq!(ports("10000-29999"), Ok(10000..=29999));
        assert_eq!(ports("10000-10003"), Ok(10000..=10003));
        for text in
            ["10000-10001", "10001-20000", "10000-20000", "20000-10001", "10000", "a-b", "0-3", "1022-2001", "10000-65536", "10000-+20001"]
        {
            assert!(ports(text).is_err(), "{text}");
        }
        assert_eq!(ports("1024-65535"), Ok(1024..=65535));
    }

    #[test]
    fn a_url_is_http_or_https_without_credentials_and_query() {
        assert_eq!(http_url("https://api-na1.niceincontact.com/").as_deref(), Ok("https://api-na1.niceincontact.com"));
        assert_eq!(http_url("HTTP://127.0.0.1:8090/x").as_deref(), Ok("http://127.0.0.1:8090/x"));
        for text in [
            "",
            "https://",
            "ftp://x",
            "cxone.niceincontact.com",
            "https://u:p@x",
            "https://x?y",
            "https://x#y",
            "https://x y",
            "https://x:0",
        ] {
            assert!(http_url(text).is_err(), "{text:?}");
        }
        assert!(is_clear_and_remote("http://10.0.0.1:80/x"));
        assert!(!is_clear_and_remote("http://127.0.0.1:8090"));
        assert!(!is_clear_and_remote("http://[::1]:8090"));
        assert!(!is_clear_and_remote("http://localhost"));
        assert!(!is_clear_and_remote("https://example.com"));
    }

    #[test]
    fn an_advertised_address_is_one_that_a_peer_can_send_to() {
        assert!(advertised("203.0.113.10").is_ok());
        assert_eq!(advertised("::ffff:203.0.113.10"), advertised("203.0.113.10"));
        for text in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "example.com", ""] {
            assert!(advertised(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_versions_and_dns_servers_are_checked() {
        assert!(number("+12065551234").is_ok());
        assert!(number(&"1".repeat(NUMBER_BYTES_MAX)).is_ok());
        for text in [String::new(), "1".repeat(NUMBER_BYTES_MAX + 1), "1+2".into(), "a@b".into(), "1 2".into(), "1\r\n".into()] {
            assert!(number(&text).is_err(), "{text:?}");
        }
        assert!(api_version("v30.0").is_ok());
        for text in ["30.0", "v30", "v30.", "v30.0/../x"] {
            assert!(api_version(text).is_err(), "{text}");
        }
        assert_eq!(dns_server("10.0.0.2"), Ok("10.0.0.2:53".parse().unwrap()));
        assert_eq!(dns_server("[::1]:5353"), Ok("[::1]:5353".parse().unwrap()));
        assert!(dns_server("dns.example").is_err());
    }

    #[test]
    fn private_addresses_are_those_that_the_internet_cannot_reach() {
        for ip in [
            "10.1.1.1",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.0.1",
            "fd00::1",
            "fe80::1",
            "::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["203.0.113.10", "34.1.1.1", "100.128.0.1", "2001:db8::1"] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }
}
