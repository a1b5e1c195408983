//! Standard headers that cross from one leg to the other (product.md §2): which ones, and what must change in them so that no address
//! of one side ever shows on the other.

use std::ops::Range;

use bytes::Bytes;

use crate::call::rules::Carried;
use crate::wire::message::Line;
use crate::wire::message::Name;

/// What happens to one standard header line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// It goes on; `changed` when a host in it was replaced.
    Passed { line: Carried, changed: bool },
    /// It cannot be read well enough to be sure that no address is in it.
    Unreadable,
    /// Rebuilt by us on the other leg, or not ours to pass on.
    NotPassed,
}

/// How a header is treated, and the long form of its name (RFC 3261 §7.3.3: the compact one means the same).
enum Treatment {
    AsIs(&'static str),
    Addresses(&'static str),
    AlertInfo,
    /// Of responses only.
    RetryAfter,
    /// Of responses only.
    Warning,
}

/// One line of a message (`response`: of a response) on its way to the other side. `our_host` stands in for the hosts in its
/// addresses, `node` for the warn-agent.
pub fn cross(line: Line<'_>, response: bool, our_host: &str, node: &str) -> Crossing {
    let (name, value) = match treatment(line.name) {
        Some(Treatment::AsIs(name)) => (name, Some(line.value.to_vec())),
        Some(Treatment::Addresses(name)) => (name, with_hosts(line.value, our_host)),
        Some(Treatment::AlertInfo) => ("Alert-Info", alert_info(line.value, our_host)),
        Some(Treatment::RetryAfter) if response => ("Retry-After", Some(line.value.to_vec())),
        Some(Treatment::Warning) if response => ("Warning", with_agent(line.value, node)),
        _ => return Crossing::NotPassed,
    };
    match value {
        Some(value) if is_printable(&value) => {
            let changed = value != line.value;
            Crossing::Passed { line: Carried { name: Bytes::from_static(name.as_bytes()), value: Bytes::from(value) }, changed }
        }
        _ => Crossing::Unreadable,
    }
}

/// No control character but the tab: nothing that could end the line or confuse the next hop (RFC 3261 §25.1, TEXT-UTF8char).
pub fn is_printable(value: &[u8]) -> bool {
    !value.iter().any(|&b| b.is_ascii_control() && b != b'\t')
}

fn treatment(name: Name) -> Option<Treatment> {
    Some(match name {
        Name::PAssertedIdentity => Treatment::Addresses("P-Asserted-Identity"),
        Name::RemotePartyId => Treatment::Addresses("Remote-Party-ID"),
        Name::Diversion => Treatment::Addresses("Diversion"),
        Name::HistoryInfo => Treatment::Addresses("History-Info"),
        Name::AlertInfo => Treatment::AlertInfo,
        Name::Privacy => Treatment::AsIs("Privacy"),
        Name::Reason => Treatment::AsIs("Reason"),
        Name::UserToUser => Treatment::AsIs("User-to-User"),
        Name::Subject => Treatment::AsIs("Subject"),
        Name::SessionId => Treatment::AsIs("Session-ID"),
        // RFC 8224: a signature over what we do not change; touching it would break it.
        Name::Identity => Treatment::AsIs("Identity"),
        Name::RetryAfter => Treatment::RetryAfter,
        Name::Warning => Treatment::Warning,
        _ => return None,
    })
}

/// A comma list of addresses with the host and port of every SIP URI replaced, everything else byte for byte. `None` when an element
/// is no address, or of a scheme whose host we cannot replace.
pub fn with_hosts(value: &[u8], our_host: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + our_host.len());
    for (i, element) in split_list(value).into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let element = &value[element];
        let uri = uri_range(element)?;
        out.extend_from_slice(&element[..uri.start]);
        out.extend_from_slice(&uri_with_host(&element[uri.clone()], our_host)?);
        out.extend_from_slice(&element[uri.end..]);
    }
    Some(out)
}

/// Alert-Info: a `urn:alert:` (RFC 7462) says nothing about anybody's network; a web address by name is public; one by number, or a
/// SIP URI, belongs to a side.
fn alert_info(value: &[u8], our_host: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    for (i, element) in split_list(value).into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let element = &value[element];
        let uri = uri_range(element)?;
        match uri_with_host(&element[uri.clone()], our_host) {
            Some(replaced) => {
                out.extend_from_slice(&element[..uri.start]);
                out.extend_from_slice(&replaced);
                out.extend_from_slice(&element[uri.end..]);
            }
            None if authority_is_name(&element[uri]) => out.extend_from_slice(element),
            None => return None,
        }
    }
    Some(out)
}

/// Whether the URI's authority (`//host`) is a host name; a URI without one has nothing to hide.
fn authority_is_name(uri: &[u8]) -> bool {
    let text = String::from_utf8_lossy(uri);
    let Some((_, rest)) = text.split_once("//") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    !host.starts_with('[') && host.parse::<std::net::Ipv4Addr>().is_err()
}

/// `399 agent "text"` (RFC 3261 §20.43) with every warn-agent replaced by the node's name.
fn with_agent(value: &[u8], node: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + node.len());
    for (i, element) in split_list(value).into_iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        let element = value[element].trim_ascii();
        let (code, rest) = element.split_at_checked(3)?;
        let rest = rest.strip_prefix(b" ")?.trim_ascii_start();
        let agent = rest.iter().position(|&b| b == b' ')?;
        let text = rest[agent..].trim_ascii();
        if !code.iter().all(u8::is_ascii_digit) || !text.starts_with(b"\"") {
            return None;
        }
        out.extend_from_slice(code);
        out.push(b' ');
        out.extend_from_slice(agent_token(node).as_bytes());
        out.push(b' ');
        out.extend_from_slice(text);
    }
    Some(out)
}

/// A node's name as a warn-agent: a pseudonym is a token (RFC 3261 §20.43).
pub fn agent_token(node: &str) -> String {
    let token: String = node.chars().map(|c| if c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c) { c } else { '-' }).collect();
    if token.is_empty() { "backchannel".to_owned() } else { token }
}

/// Elements of a comma list, commas inside quotes and angle brackets left alone.
fn split_list(value: &[u8]) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    let (mut start, mut bracket) = (0, false);
    let mut at = 0;
    while at < value.len() {
        match value[at] {
            b'"' if !bracket => at = quote_end(value, at),
            b'<' => bracket = true,
            b'>' => bracket = false,
            b',' if !bracket => {
                elements.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    elements.push(start..value.len());
    elements
}

/// The index of the closing quote of the string that opens at `open`; the last index when it never closes.
fn quote_end(value: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 1,
            b'"' => return at,
            _ => {}
        }
        at += 1;
    }
    value.len().saturating_sub(1).max(open)
}

/// Where the URI of a name-addr or addr-spec stands. A display name with a `:` or `@` outside quotes is none: it may be an address.
fn uri_range(element: &[u8]) -> Option<Range<usize>> {
    let (mut at, mut address) = (0, false);
    while at < element.len() {
        match element[at] {
            b'"' => at = quote_end(element, at),
            b'<' if address => return None,
            b'<' => {
                let len = element[at..].iter().position(|&b| b == b'>')?;
                return Some(at + 1..at + len);
            }
            b':' | b'@' => address = true,
            _ => {}
        }
        at += 1;
    }
    // RFC 3261 §20: without brackets, what follows a semicolon are header parameters.
    let start = element.iter().position(|b| !b.is_ascii_whitespace())?;
    let end = element.iter().position(|&b| b == b';').unwrap_or(element.len());
    let uri = element.get(start..end)?.trim_ascii_end();
    (!uri.is_empty() && !uri.contains(&b'"')).then(|| start..start + uri.len())
}

/// A SIP URI with another host and no port of the old one; tel and urn URIs as they are; `None` for every other scheme.
fn uri_with_host(uri: &[u8], our_host: &str) -> Option<Vec<u8>> {
    let colon = uri.iter().position(|&b| b == b':')?;
    let (scheme, rest) = (&uri[..colon], &uri[colon + 1..]);
    if scheme.eq_ignore_ascii_case(b"tel") || scheme.eq_ignore_ascii_case(b"urn") {
        return Some(uri.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
        return None;
    }
    // The first `@` ends the user part: escaped everywhere else (RFC 3261 §25.1), so what follows it is host, whatever it holds.
    let host = rest.iter().position(|&b| b == b'@').map_or(0, |at| at + 1);
    let tail = rest[host..].iter().position(|&b| b == b';' || b == b'?').map_or(rest.len(), |at| host + at);
    let mut out = Vec::with_capacity(uri.len() + our_host.len());
    out.extend_from_slice(scheme);
    out.push(b':');
    out.extend_from_slice(&rest[..host]);
    out.extend_from_slice(our_host.as_bytes());
    out.extend_from_slice(&without_addresses(&rest[tail..]));
    Some(out)
}

/// URI parameters and headers without those that hold addresses: `maddr` (RFC 3261 §19.1.1), and every header but the two that
/// History-Info has there (RFC 7044 §5).
fn without_addresses(tail: &[u8]) -> Vec<u8> {
    let question = tail.iter().position(|&b| b == b'?').unwrap_or(tail.len());
    let (params, headers) = tail.split_at(question);
    let name_of = |pair: &[u8]| pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let mut out = Vec::with_capacity(tail.len());
    for param in params.split(|&b| b == b';').skip(1) {
        if name_of(param) != b"maddr" {
            out.push(b';');
            out.extend_from_slice(param);
        }
    }
    let mut mark = b'?';
    for header in headers.get(1..).unwrap_or_default().split(|&b| b == b'&') {
        if matches!(name_of(header).as_slice(), b"reason" | b"privacy") {
            out.push(mark);
            out.extend_from_slice(header);
            mark = b'&';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Name, value: &str, response: bool) -> Option<String> {
        let line = Line { name, spelled: b"whatever", value: value.as_bytes(), raw: b"" };
        match cross(line, response, "203.0.113.10:5060", "bc 1") {
            Crossing::Passed { line, .. } => {
                Some(format!("{}: {}", String::from_utf8_lossy(&line.name), String::from_utf8_lossy(&line.value)))
            }
            _ => None,
        }
    }

    #[test]
    fn no_address_of_one_side_shows_on_the_other() {
        for (name, value, gone) in [
            (
                Name::PAssertedIdentity,
                r#""Doe, Jane <x>" <sip:+1206@10.0.0.1:5060;user=phone>, <tel:+1206>"#,
                Some(r#"P-Asserted-Identity: "Doe, Jane <x>" <sip:+1206@203.0.113.10:5060;user=phone>, <tel:+1206>"#),
            ),
            (
                Name::RemotePartyId,
                "sip:+1206@core.cxone.example;party=calling;screen=yes",
                Some("Remote-Party-ID: sip:+1206@203.0.113.10:5060;party=calling;screen=yes"),
            ),
            (
                Name::Diversion,
                "<sip:+1555@[2001:db8::1]:5070;maddr=10.9.9.9;transport=tcp>;reason=unconditional",
                Some("Diversion: <sip:+1555@203.0.113.10:5060;transport=tcp>;reason=unconditional"),
            ),
            (
                Name::HistoryInfo,
                "<sip:a@10.0.0.1?Reason=SIP%3Bcause%3D302>;index=1,<sips:b@10.0.0.2>;index=1.1",
                Some("History-Info: <sip:a@203.0.113.10:5060?Reason=SIP%3Bcause%3D302>;index=1,<sips:b@203.0.113.10:5060>;index=1.1"),
            ),
            (
                Name::HistoryInfo,
                "<sip:a@10.0.0.1?Replaces=x%4010.0.0.1&Reason=SIP&privacy=history&To=%3Csip:b@10.0.0.1%3E>;index=1",
                Some("History-Info: <sip:a@203.0.113.10:5060?Reason=SIP&privacy=history>;index=1"),
            ),
            (Name::Diversion, "sip:a@10.0.0.1?x=<sip:b@10.0.0.2>", None),
            (Name::Diversion, "\"x\" sip:a@10.0.0.1 <sip:b@10.0.0.2>", None),
            (Name::Diversion, "\"sip:x@y\" <sip:b@10.0.0.2>", Some("Diversion: \"sip:x@y\" <sip:b@203.0.113.10:5060>")),
            (Name::Diversion, "<sip:10.0.0.1>", Some("Diversion: <sip:203.0.113.10:5060>")),
            (Name::Diversion, "<sip:a@x@10.0.0.1>", Some("Diversion: <sip:a@203.0.113.10:5060>")),
            (Name::Diversion, "<h323:a@10.0.0.1>", None),
            (Name::Diversion, "<sip:a@10.0.0.1", None),
            (Name::Diversion, "nonsense", None),
            (Name::Diversion, "", None),
            (Name::AlertInfo, "<urn:alert:source:internal>", Some("Alert-Info: <urn:alert:source:internal>")),
            (Name::AlertInfo, "<http://www.example.com/ring.wav>", Some("Alert-Info: <http://www.example.com/ring.wav>")),
            (Name::AlertInfo, "<http://10.0.0.1:80/ring.wav>", None),
            (Name::AlertInfo, "<http://[2001:db8::1]/ring.wav>", None),
            (Name::AlertInfo, "<sip:ring@10.0.0.1>", Some("Alert-Info: <sip:ring@203.0.113.10:5060>")),
        ] {
            assert_eq!(text(name, value, false).as_deref(), gone, "{value}");
        }
    }

    #[test]
    fn what_names_nobody_goes_on_byte_for_byte() {
        for (name, long) in [
            (Name::Privacy, "Privacy"),
            (Name::Reason, "Reason"),
            (Name::UserToUser, "User-to-User"),
            (Name::Subject, "Subject"),
            (Name::SessionId, "Session-ID"),
            (Name::Identity, "Identity"),
        ] {
            assert_eq!(text(name, r#"x;y="a,b"  z"#, false), Some(format!(r#"{long}: x;y="a,b"  z"#)));
        }
    }

    #[test]
    fn what_is_rebuilt_or_unknown_stays_behind() {
        for name in [Name::Via, Name::From, Name::Contact, Name::Route, Name::UserAgent, Name::CallInfo, Name::Authorization, Name::Other] {
            assert_eq!(text(name, "<sip:a@b>", false), None, "{name:?}");
        }
    }

    #[test]
    fn a_warning_crosses_in_responses_under_the_nodes_name() {
        let value = r#"399 10.0.0.1:5060 "busy, really", 370 core.example "no bandwidth""#;
        assert_eq!(text(Name::Warning, value, true).as_deref(), Some(r#"Warning: 399 bc-1 "busy, really", 370 bc-1 "no bandwidth""#));
        assert_eq!(text(Name::Warning, value, false), None);
        assert_eq!(text(Name::Warning, "399 10.0.0.1", true), None);
        assert_eq!(text(Name::Warning, "39", true), None);
        assert_eq!(text(Name::RetryAfter, "18;duration=3600", true).as_deref(), Some("Retry-After: 18;duration=3600"));
        assert_eq!(text(Name::RetryAfter, "18", false), None);
    }

    #[test]
    fn a_control_character_never_crosses() {
        assert_eq!(text(Name::Subject, "a\x01b", false), None);
        assert_eq!(text(Name::Subject, "a\tb", false).as_deref(), Some("Subject: a\tb"));
    }
}
