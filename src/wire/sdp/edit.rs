//! The pen: another party's description with our addresses, and descriptions of our own.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use compact_str::CompactString;

use super::Direction;
use super::MediaLine;
use super::Origin;
use super::OurMedia;
use super::Sdp;
use super::attribute;
use super::codec;
use super::codec::Format;
use super::leak::Hosts;
use super::words;

/// Attributes that hold addresses, keys or bundles of streams that we do not carry: ICE (RFC 8839), its forerunners, SDES (RFC 4568),
/// MIKEY (RFC 4567), DTLS (RFC 5763), ZRTP (RFC 6189), rtcp-mux (RFC 5761), BUNDLE (RFC 9143), source filters (RFC 4570).
const REMOVED: [&str; 18] = [
    "candidate",
    "remote-candidates",
    "end-of-candidates",
    "alt",
    "altc",
    "crypto",
    "key-mgmt",
    "fingerprint",
    "identity",
    "setup",
    "connection",
    "tls-id",
    "dtls-id",
    "zrtp-hash",
    "rtcp-mux",
    "rtcp-mux-only",
    "bundle-only",
    "source-filter",
];

/// See `Sdp::rewrite`.
pub(super) fn rewrite(sdp: &Sdp, ours: OurMedia, origin: Origin, names: &[CompactString]) -> Option<Bytes> {
    let formats = match &sdp.audio {
        Some(_) => codec::selected(sdp, names)?,
        None if names.is_empty() && sdp.refused => Vec::new(),
        None => return None,
    };
    let kept = formats.iter().fold(0u128, |all, f| all | 1 << f.payload_type);
    let mut editor = Editor {
        ours,
        origin,
        hosts: Hosts::of(sdp),
        audio: sdp.audio.as_ref().map(|a| a.index),
        formats: payload_types(formats.iter()),
        removed: sdp.payload_types() & !kept,
        held: sdp.held_direction(),
        section: Section::Session,
        streams: 0,
        connected: false,
        out: Pen(Vec::with_capacity(sdp.raw.len() + 128)),
    };
    for (kind, value) in sdp.lines() {
        editor.line(kind, value);
    }
    editor.end_section();
    Some(editor.out.0.into())
}

/// Whose lines are being copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Session,
    Audio {
        /// A direction attribute was printed.
        directed: bool,
    },
    /// A stream that leaves with port 0.
    Refused,
}

struct Editor<'a> {
    ours: OurMedia,
    origin: Origin,
    hosts: Hosts<'a>,
    audio: Option<usize>,
    /// The audio stream's new format list.
    formats: Vec<u8>,
    removed: u128,
    held: Option<Direction>,
    section: Section,
    streams: usize,
    /// This section's `c=` was printed: further ones (RFC 8866 §5.7 allows them for layered groups) would say the same.
    connected: bool,
    out: Pen,
}

impl Editor<'_> {
    fn line(&mut self, kind: u8, value: &[u8]) {
        match kind {
            b'o' => self.out.origin(self.origin, self.ours.ip),
            b'c' if !self.connected => {
                self.connected = true;
                self.out.connection(self.ours.ip);
            }
            b'm' => self.stream(value),
            b'a' => self.attribute(value),
            b's' if self.hosts.show_in(value) => self.out.text(format_args!("s=-")),
            // RFC 8866 §5.6: contact lines are of no use to a call, and §5.12: keys are obsolete. All of them tell where the peer is.
            b'c' | b'u' | b'e' | b'p' | b'k' => {}
            _ => self.copy(kind, value),
        }
    }

    fn copy(&mut self, kind: u8, value: &[u8]) {
        if !self.hosts.show_in(value) {
            self.out.line(kind, &[value]);
        }
    }

    fn stream(&mut self, value: &[u8]) {
        self.end_section();
        self.connected = false;
        let Ok(line) = MediaLine::parse(value) else {
            return;
        };
        let carried = self.audio == Some(self.streams);
        self.streams += 1;
        self.section = if carried { Section::Audio { directed: false } } else { Section::Refused };
        if carried {
            self.out.media(line, self.ours.rtp_port, &self.formats);
        } else {
            let line = self.hosts.out_of(line);
            self.out.media(line, 0, line.formats);
        }
    }

    fn end_section(&mut self) {
        if let (Section::Audio { directed: false }, Some(held)) = (self.section, self.held) {
            self.out.text(format_args!("a={}", held.as_str()));
        }
    }

    fn attribute(&mut self, whole: &[u8]) {
        let (name, value) = attribute(whole);
        if is_removed(name, value) {
            return;
        }
        if name.eq_ignore_ascii_case(b"rtcp") {
            if matches!(self.section, Section::Audio { .. }) {
                self.out.rtcp(self.ours, words(value).count() > 1);
            }
            return;
        }
        if let Section::Audio { directed } = &mut self.section {
            if Direction::parse(name).is_some() {
                *directed = true;
                if let Some(held) = self.held {
                    return self.out.text(format_args!("a={}", held.as_str()));
                }
            }
            if codec::bound_to(name, value).is_some_and(|pt| pt < 128 && self.removed & (1 << pt) != 0) {
                return;
            }
        }
        self.copy(b'a', whole);
    }
}

fn is_removed(name: &[u8], value: &[u8]) -> bool {
    let bundle = name.eq_ignore_ascii_case(b"group") && words(value).next().is_some_and(|w| w.eq_ignore_ascii_case(b"BUNDLE"));
    let ice = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"ice-"));
    bundle || ice || REMOVED.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(name))
}

fn payload_types<'a>(formats: impl Iterator<Item = &'a Format>) -> Vec<u8> {
    let words: Vec<String> = formats.map(|f| f.payload_type.to_string()).collect();
    words.join(" ").into_bytes()
}

/// Our own answer to an offer, for a leg that has nobody behind it: one voice codec (the first of `preferred` payload types that is
/// offered, else the first one that has a name) and the telephone-event of its clock rate, the direction mirrored (RFC 3264 §6.1), every
/// other stream refused. `None` when no voice is offered.
pub fn answer_for(offer: &Sdp, ours: OurMedia, origin: Origin, preferred: &[u8]) -> Option<Bytes> {
    let audio = offer.audio.as_ref()?;
    let formats = codec::selected(offer, &[])?;
    let voice = preferred
        .iter()
        .filter_map(|pt| formats.iter().find(|f| f.payload_type == *pt && f.is_voice()))
        .chain(formats.iter().filter(|f| f.is_voice() && f.codec.is_some()))
        .find(|f| f.codec.is_some())?;
    let rate = voice.codec.as_ref().map_or(0, |c| c.clock_rate);
    let event =
        formats.iter().find(|f| f.codec.as_ref().is_some_and(|c| c.name.eq_ignore_ascii_case("telephone-event") && c.clock_rate == rate));
    let hosts = Hosts::of(offer);
    let mut out = Pen(Vec::with_capacity(512));
    out.text(format_args!("v=0"));
    out.origin(origin, ours.ip);
    out.text(format_args!("s=-"));
    out.connection(ours.ip);
    // RFC 3264 §6: "the t= line ... MUST match that of the offer".
    let time = offer.lines().find(|(kind, value)| *kind == b't' && !hosts.show_in(value)).map_or(&b"0 0"[..], |(_, value)| value);
    out.line(b't', &[time]);
    for (index, (_, value)) in offer.lines().filter(|(kind, _)| *kind == b'm').enumerate() {
        let Ok(line) = MediaLine::parse(value) else {
            continue;
        };
        if index != audio.index {
            let line = hosts.out_of(line);
            out.media(line, 0, line.formats);
            continue;
        }
        let chosen: Vec<&Format> = std::iter::once(voice).chain(event).collect();
        out.media(line, ours.rtp_port, &payload_types(chosen.iter().copied()));
        for format in chosen {
            out.format(offer, format, &hosts);
        }
        out.text(format_args!("a=ptime:20"));
        let offered = offer.held_direction().or(audio.direction).unwrap_or(Direction::SendRecv);
        out.text(format_args!("a={}", offered.mirrored().as_str()));
    }
    Some(out.0.into())
}

/// Lines with CRLF.
struct Pen(Vec<u8>);

impl Pen {
    fn line(&mut self, kind: u8, parts: &[&[u8]]) {
        self.0.extend([kind, b'=']);
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        self.0.extend(b"\r\n");
    }

    fn text(&mut self, text: fmt::Arguments<'_>) {
        // Writing into a Vec cannot fail.
        let _ = std::io::Write::write_fmt(&mut self.0, text);
        self.0.extend(b"\r\n");
    }

    fn origin(&mut self, Origin { session_id, version }: Origin, ip: IpAddr) {
        self.text(format_args!("o=backchannel {session_id} {version} IN {} {ip}", family(ip)));
    }

    fn connection(&mut self, ip: IpAddr) {
        self.text(format_args!("c=IN {} {ip}", family(ip)));
    }

    fn media(&mut self, line: MediaLine<'_>, port: u16, formats: &[u8]) {
        self.line(b'm', &[line.kind, b" ", port.to_string().as_bytes(), b" ", line.proto, b" ", formats]);
    }

    /// RFC 3605 §2.1; the address only where the peer wrote one.
    fn rtcp(&mut self, ours: OurMedia, with_address: bool) {
        if with_address {
            self.text(format_args!("a=rtcp:{} IN {} {}", ours.rtcp_port, family(ours.ip), ours.ip));
        } else {
            self.text(format_args!("a=rtcp:{}", ours.rtcp_port));
        }
    }

    /// The offer's rtpmap and fmtp of a format, an rtpmap also where the offer relied on RFC 3551.
    fn format(&mut self, offer: &Sdp, format: &Format, hosts: &Hosts<'_>) {
        let mut mapped = false;
        let attributes = offer.audio_lines().filter(|(kind, value)| *kind == b'a' && !hosts.show_in(value));
        for (_, whole) in attributes {
            let (name, value) = attribute(whole);
            if codec::bound_to(name, value) == Some(format.payload_type) && !name.eq_ignore_ascii_case(b"rtcp-fb") {
                mapped |= name.eq_ignore_ascii_case(b"rtpmap");
                self.line(b'a', &[whole]);
            }
        }
        if let (false, Some(codec)) = (mapped, &format.codec) {
            self.text(format_args!("a=rtpmap:{} {}/{}", codec.payload_type, codec.name, codec.clock_rate));
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IP4" } else { "IP6" }
}
