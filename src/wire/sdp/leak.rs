//! Does a line show an address of the peer that wrote it? No address of one side may show on the other (product.md §2), and
//! addresses turn up in the oddest attributes.

use std::net::IpAddr;

use super::MediaLine;
use super::Sdp;
use super::attribute;
use super::words;

/// Different hosts that are remembered; further ones are still found when they are written as numbers.
const HOSTS_MAX: usize = 16;

/// The longest text of an IPv6 address, with an IPv4 tail.
const IP_TEXT_BYTES_MAX: usize = 45;

/// The hosts that a description names in `o=`, `c=` and `a=rtcp`.
pub(super) struct Hosts<'a>(Vec<&'a [u8]>);

impl<'a> Hosts<'a> {
    pub fn of(sdp: &'a Sdp) -> Hosts<'a> {
        let mut hosts: Vec<&[u8]> = Vec::new();
        for (kind, value) in sdp.lines() {
            let host = match kind {
                b'o' => words(value).nth(5),
                b'c' => words(value).nth(2),
                b'a' if attribute(value).0.eq_ignore_ascii_case(b"rtcp") => words(value).nth(3),
                _ => None,
            };
            let host = host.and_then(|h| h.split(|b| *b == b'/').next());
            // A name without a dot is a word like any other, and `::` is everybody's.
            let told = |h: &&[u8]| h.len() > 3 && h.iter().any(|b| matches!(b, b'.' | b':'));
            if let Some(host) = host.filter(told)
                && hosts.len() < HOSTS_MAX
                && !hosts.contains(&host)
            {
                hosts.push(host);
            }
        }
        Hosts(hosts)
    }

    /// An `m=` line whose words show nothing; missing formats are filled in too (RFC 8866 §5.14 wants at least one).
    pub fn out_of<'b>(&self, line: MediaLine<'b>) -> MediaLine<'b> {
        let clean = |word: &'b [u8], instead: &'b [u8]| if word.is_empty() || self.show_in(word) { instead } else { word };
        MediaLine { kind: clean(line.kind, b"x"), proto: clean(line.proto, b"x"), formats: clean(line.formats, b"0"), ..line }
    }

    /// One of the hosts, or any IP address, is in this text.
    pub fn show_in(&self, text: &[u8]) -> bool {
        self.0.iter().any(|host| text.windows(host.len()).any(|w| w.eq_ignore_ascii_case(host))) || has_address(text)
    }
}

fn has_address(text: &[u8]) -> bool {
    let inside = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':');
    text.split(|b| !inside(b)).any(|token| v4_in(token) || v6_in(token))
}

/// Four numbers with dots between letters and colons: `cname10.1.2.3:5060` shows one too.
fn v4_in(token: &[u8]) -> bool {
    let digits = |b: &u8| b.is_ascii_digit() || *b == b'.';
    token.split(|b| !digits(b)).any(|run| {
        let mut parts = run.split(|b| *b == b'.').map(|p| (1..=3).contains(&p.len()));
        let mut in_row = 0;
        parts.any(|fits| {
            in_row = if fits { in_row + 1 } else { 0 };
            in_row == 4
        })
    })
}

/// The token, or what follows one of its colons, reads as an IPv6 address.
fn v6_in(token: &[u8]) -> bool {
    let colons = token.iter().filter(|b| **b == b':').count();
    if colons < 2 {
        return false;
    }
    let starts = std::iter::once(0).chain(token.iter().enumerate().filter(|(_, b)| **b == b':').map(|(at, _)| at + 1));
    starts.filter_map(|at| token.get(at..)).any(is_v6)
}

fn is_v6(text: &[u8]) -> bool {
    let text = text.strip_suffix(b".").unwrap_or(text);
    let long_enough = (3..=IP_TEXT_BYTES_MAX).contains(&text.len());
    long_enough && std::str::from_utf8(text).is_ok_and(|t| matches!(t.parse::<IpAddr>(), Ok(IpAddr::V6(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_wherever_they_hide() {
        let shown: [&[u8]; 8] = [
            b"X-nat:10.1.2.3",
            b"ssrc:1 cname:bob@10.1.2.3",
            b"x-loc 10.1.2.3:5060;y",
            b"cname10.1.2.3.",
            b"msid:2001:db8::1",
            b"x [2001:DB8:0:0:0:0:0:1]:5060",
            b"a fe80::1%eth0",
            b"q=\"192.168.100.200\"",
        ];
        for text in shown {
            assert!(has_address(text), "{}", String::from_utf8_lossy(text));
        }
        let clean: [&[u8]; 9] = [
            b"rtpmap:111 opus/48000/2",
            b"fmtp:111 minptime=10;useinbandfec=1",
            b"fmtp:101 0-16,66.70",
            b"extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            b"ptime:20",
            b"AS:64",
            b"tool:x 1.2.3",
            b"x 12:34:56",
            b"silenceSupp:off - - - -",
        ];
        for text in clean {
            assert!(!has_address(text), "{}", String::from_utf8_lossy(text));
        }
    }
}
