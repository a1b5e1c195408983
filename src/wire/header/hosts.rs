//! Header values with the hosts in them replaced, everything else byte for byte: what goes from one network to another.

use std::ops::Range;

use crate::wire::header::scan::quoted_len;

/// A comma list of addresses with the host and port of every SIP URI replaced, everything else byte for byte. `None` when an element
/// is no address, or of a scheme whose host we cannot replace.
pub fn with_hosts(value: &[u8], our_host: &str) -> Option<Vec<u8>> {
    edited(value, b",", |element, out| {
        let uri = uri_range(element)?;
        let replaced = uri_with_host(&element[uri.clone()], our_host)?;
        out.extend([&element[..uri.start], &replaced, &element[uri.end..]].concat());
        Some(())
    })
}

/// Alert-Info: a `urn:alert:` (RFC 7462) says nothing about anybody's network; a web address by name is public; one by number, or a
/// SIP URI, belongs to a side.
pub fn alert_info(value: &[u8], our_host: &str) -> Option<Vec<u8>> {
    edited(value, b",", |element, out| {
        let uri = uri_range(element)?;
        match uri_with_host(&element[uri.clone()], our_host) {
            Some(replaced) => out.extend([&element[..uri.start], &replaced, &element[uri.end..]].concat()),
            None if authority_is_name(&element[uri]) => out.extend_from_slice(element),
            None => return None,
        }
        Some(())
    })
}

/// A comma list whose elements `edit` writes anew, or refuses.
fn edited(value: &[u8], comma: &[u8], edit: impl Fn(&[u8], &mut Vec<u8>) -> Option<()>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() + value.len() / 2);
    for (i, element) in split_list(value).into_iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(comma);
        }
        edit(&value[element], &mut out)?;
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
pub fn with_agent(value: &[u8], node: &str) -> Option<Vec<u8>> {
    let ours = agent_token(node);
    edited(value, b", ", |element, out| {
        let (code, rest) = element.trim_ascii().split_at_checked(3)?;
        let rest = rest.strip_prefix(b" ")?.trim_ascii_start();
        let agent = rest.iter().position(|&b| b == b' ')?;
        let text = rest[agent..].trim_ascii();
        if !code.iter().all(u8::is_ascii_digit) || !text.starts_with(b"\"") {
            return None;
        }
        out.extend([code, b" ", ours.as_bytes(), b" ", text].concat());
        Some(())
    })
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
    open + quoted_len(&value[open..]).unwrap_or(value.len() - open) - 1
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
