//! SDP (RFC 8866), edited line by line: only what must change changes.
//!
//! Reading is tolerant (LF alone ends a line, trailing blank lines, spaces in a row), printing is not (CRLF). Two things that a peer
//! may offer end here: `a=rtcp-mux` is not passed on, because RTCP is relayed on the port above RTP, and keyed media (RTP/SAVP,
//! `a=crypto`, DTLS) is refused, because the relay carries plain RTP only.

mod codec;
mod edit;
mod leak;

use std::net::IpAddr;
use std::net::SocketAddr;

use bytes::Bytes;
use compact_str::CompactString;

pub use edit::answer_for;

/// A longer body is refused: a browser's offer with all its candidates has about 6,000.
pub const SDP_BYTES_MAX: usize = 16_384;

/// Lines in one description.
pub const SDP_LINES_MAX: usize = 512;

/// A session description that was looked through once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sdp {
    raw: Bytes,
    streams: usize,
    audio: Option<Audio>,
    /// An audio stream is there, but with port 0 (RFC 3264 §6: refused, or §8.2: ended).
    refused: bool,
}

/// The stream that we carry: the first audio stream with a port and without keys.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Audio {
    /// Its place among the `m=` lines.
    index: usize,
    port: u16,
    at: Connection,
    rtcp: Option<Rtcp>,
    /// As written, in the stream or else in the session.
    direction: Option<Direction>,
    formats: u128,
}

/// What a `c=` line says (RFC 8866 §5.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connection {
    At(IpAddr),
    /// The old hold, RFC 3264 §8.4: `0.0.0.0`, or `::`.
    Held,
    /// A name, a group, another network: nothing that we send packets to.
    Elsewhere,
}

/// `a=rtcp` (RFC 3605 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rtcp {
    port: u16,
    ip: Option<IpAddr>,
}

/// Why a body is no session description that we can carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SdpError(pub &'static str);

/// Direction attribute of a stream (RFC 8866 §6.7); `c=0.0.0.0` counts as inactive (RFC 3264 §8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn parse(name: &[u8]) -> Option<Direction> {
        let all = [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];
        all.into_iter().find(|d| d.as_str().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// What an answer says to this offer (RFC 3264 §6.1).
    pub fn mirrored(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            same @ (Direction::SendRecv | Direction::Inactive) => same,
        }
    }
}

/// A codec of the audio stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Codec {
    pub payload_type: u8,
    /// Encoding name as spelled; static types get theirs from RFC 3551.
    pub name: CompactString,
    pub clock_rate: u32,
}

/// What we put in place of the peer's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OurMedia {
    /// Advertised media address: `o=`, `c=`.
    pub ip: IpAddr,
    pub rtp_port: u16,
    pub rtcp_port: u16,
}

/// Our `o=` line: one session id a leg, a version that rises with each change (RFC 3264 §8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub session_id: u64,
    pub version: u64,
}

impl Sdp {
    pub fn parse(body: Bytes) -> Result<Sdp, SdpError> {
        if body.len() > SDP_BYTES_MAX {
            return Err(SdpError("more than 16384 bytes"));
        }
        let mut scan = Scan::default();
        let mut blank = false;
        for (number, line) in raw_lines(&body).enumerate() {
            if number >= SDP_LINES_MAX {
                return Err(SdpError("more than 512 lines"));
            }
            match line {
                [] => blank = true,
                _ if blank => return Err(SdpError("a blank line in the middle")),
                [kind @ b'a'..=b'z', b'=', value @ ..] if !value.iter().any(|b| matches!(b, 0 | b'\r')) => {
                    if (number == 0) != (*kind == b'v') {
                        return Err(SdpError("v= must be the first line, and only that"));
                    }
                    if *kind == b'v' && value.trim_ascii() != b"0" {
                        return Err(SdpError("a version that is not 0"));
                    }
                    scan.line(*kind, value)?;
                }
                _ => return Err(SdpError("a line that is not <type>=<value>")),
            }
        }
        scan.finish(body)
    }

    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// RTP address of the first accepted audio stream: `None` when it has port 0, no address, or there is none.
    pub fn rtp(&self) -> Option<SocketAddr> {
        let audio = self.audio.as_ref()?;
        match audio.at {
            Connection::At(ip) => Some(SocketAddr::new(ip, audio.port)),
            Connection::Held | Connection::Elsewhere => None,
        }
    }

    /// `a=rtcp` (RFC 3605), else RTP port + 1. Also of a peer that offers rtcp-mux: we never agree to it, and then the offerer must
    /// listen where it would without (RFC 5761 §5.1.1).
    pub fn rtcp(&self) -> Option<SocketAddr> {
        let rtp = self.rtp()?;
        match self.audio.as_ref()?.rtcp {
            Some(Rtcp { port, ip }) => Some(SocketAddr::new(ip.unwrap_or(rtp.ip()), port)),
            None => Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)),
        }
    }

    pub fn direction(&self) -> Direction {
        match &self.audio {
            Some(Audio { at: Connection::Held, .. }) => Direction::Inactive,
            Some(audio) => audio.direction.unwrap_or(Direction::SendRecv),
            None => Direction::Inactive,
        }
    }

    /// Codecs of the first audio stream, in order.
    pub fn codecs(&self) -> Vec<Codec> {
        codec::codecs(self)
    }

    /// The audio stream's formats, one bit for each payload type.
    pub fn payload_types(&self) -> u128 {
        self.audio.as_ref().map_or(0, |a| a.formats)
    }

    /// The `m=` lines as they came, for whoever must say why none of them would do.
    pub fn media_lines(&self) -> Vec<String> {
        self.lines().filter(|(kind, _)| *kind == b'm').map(|(_, value)| format!("m={}", String::from_utf8_lossy(value))).collect()
    }

    /// Number of `m=` lines; an answer must have as many as its offer (RFC 3264 §6).
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// The same description with our addresses: `o= c= m= a=rtcp` of the audio stream rewritten, every other stream refused with port 0
    /// (RFC 3264 §6), ICE candidates and other address-bearing lines removed, codecs filtered and ordered to `codecs` (encoding
    /// names in lower case; empty: all, as they are, which is what an answer needs). `None` when no codec is left (488); with
    /// `codecs` empty a description that itself refuses its audio with port 0 goes on as that.
    ///
    /// The old hold (RFC 3264 §8.4) keeps its meaning, though our address is no `0.0.0.0`: `a=sendrecv` becomes `a=sendonly`,
    /// `a=recvonly` becomes `a=inactive`, and without an attribute `a=inactive` is added.
    pub fn rewrite(&self, ours: OurMedia, origin: Origin, codecs: &[CompactString]) -> Option<Bytes> {
        edit::rewrite(self, ours, origin, codecs)
    }

    /// Whether `rewrite` with these codecs would leave one to speak.
    pub fn has_common(&self, codecs: &[CompactString]) -> bool {
        self.audio.is_some() && codec::selected(self, codecs).is_some()
    }

    /// Type and value of each line.
    fn lines(&self) -> impl Iterator<Item = (u8, &[u8])> {
        raw_lines(&self.raw).filter_map(|line| match line {
            [kind, b'=', value @ ..] => Some((*kind, value)),
            _ => None,
        })
    }

    /// The audio stream's lines, its `m=` first.
    fn audio_lines(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let index = self.audio.as_ref().map_or(usize::MAX, |a| a.index);
        let mut streams = 0;
        self.lines()
            .skip_while(move |(kind, _)| {
                streams += usize::from(*kind == b'm');
                streams != index.saturating_add(1)
            })
            .enumerate()
            .take_while(|(n, (kind, _))| *n == 0 || *kind != b'm')
            .map(|(_, line)| line)
    }

    /// The direction that our version of the stream must state, when it is held by its address.
    fn held_direction(&self) -> Option<Direction> {
        let audio = self.audio.as_ref().filter(|a| a.at == Connection::Held)?;
        Some(match audio.direction {
            Some(Direction::SendRecv | Direction::SendOnly) => Direction::SendOnly,
            Some(Direction::RecvOnly | Direction::Inactive) | None => Direction::Inactive,
        })
    }
}

fn raw_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// `name:value`, or a property alone.
fn attribute(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|b| *b == b':') {
        Some(colon) => (&value[..colon], &value[colon + 1..]),
        None => (value, b""),
    }
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    // `parse` would take a sign.
    let digits = word.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| digits)?.parse().ok()
}

/// An `m=` line (RFC 8866 §5.14).
#[derive(Clone, Copy, Debug)]
struct MediaLine<'a> {
    kind: &'a [u8],
    port: u16,
    proto: &'a [u8],
    /// As written; empty for a peer that left them out.
    formats: &'a [u8],
}

impl<'a> MediaLine<'a> {
    fn parse(value: &'a [u8]) -> Result<MediaLine<'a>, SdpError> {
        let (kind, rest) = first_word(value);
        let (ports, rest) = first_word(rest);
        let (proto, formats) = first_word(rest);
        if proto.is_empty() {
            return Err(SdpError("an m= line without media, port and protocol"));
        }
        let port = ports.split(|b| *b == b'/').next().and_then(number).ok_or(SdpError("an m= line with a bad port"))?;
        Ok(MediaLine { kind, port, proto, formats })
    }

    /// Audio that the relay can carry, RFC 3551 and RFC 4585.
    fn is_plain_audio(&self) -> bool {
        self.is_audio() && (self.proto.eq_ignore_ascii_case(b"RTP/AVP") || self.proto.eq_ignore_ascii_case(b"RTP/AVPF"))
    }

    fn is_audio(&self) -> bool {
        self.kind.eq_ignore_ascii_case(b"audio")
    }

    /// The payload types, each once, in order; what is none is left out.
    fn payload_types(&self) -> impl Iterator<Item = u8> {
        let mut seen = 0u128;
        words(self.formats).filter_map(number).filter(move |pt: &u8| {
            let new = *pt < 128 && seen & (1 << pt) == 0;
            seen |= if new { 1 << pt } else { 0 };
            new
        })
    }
}

/// A word, and what follows it without the blanks around.
fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii();
    let end = text.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii())
}

/// The address field of `c=`, `o=` and `a=rtcp` with what follows `IN IP4`.
fn connection(value: &[u8]) -> Option<Connection> {
    let mut words = words(value);
    let (net, _family, host) = (words.next()?, words.next()?, words.next()?);
    let address = host.split(|b| *b == b'/').next().unwrap_or_default();
    let ip = std::str::from_utf8(address).ok().and_then(|text| text.parse::<IpAddr>().ok());
    Some(match ip {
        _ if !net.eq_ignore_ascii_case(b"IN") => Connection::Elsewhere,
        Some(ip) if ip.is_unspecified() => Connection::Held,
        Some(ip) if ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) => Connection::Elsewhere,
        Some(ip) => Connection::At(ip.to_canonical()),
        None => Connection::Elsewhere,
    })
}

/// What is known so far while a description is read.
#[derive(Default)]
struct Scan {
    origin: bool,
    session_at: Option<Connection>,
    session_direction: Option<Direction>,
    streams: usize,
    /// The stream whose lines are being read, when it is the one that we carry.
    reading: Option<Candidate>,
    audio: Option<Candidate>,
    refused: bool,
}

/// The audio stream before the session's lines are applied to it.
#[derive(Default)]
struct Candidate {
    index: usize,
    port: u16,
    at: Option<Connection>,
    direction: Option<Direction>,
    rtcp: Option<Rtcp>,
    formats: u128,
}

impl Scan {
    fn line(&mut self, kind: u8, value: &[u8]) -> Result<(), SdpError> {
        match kind {
            b'o' if self.origin || self.streams > 0 => return Err(SdpError("a second o= line, or one in a stream")),
            b'o' => {
                self.origin = true;
                if words(value).count() != 6 {
                    return Err(SdpError("an o= line without its six fields"));
                }
            }
            b'm' => self.stream(MediaLine::parse(value)?),
            b'c' => {
                let at = connection(value).ok_or(SdpError("a c= line without its three fields"))?;
                let slot = match &mut self.reading {
                    Some(stream) => &mut stream.at,
                    None if self.streams == 0 => &mut self.session_at,
                    None => return Ok(()),
                };
                slot.get_or_insert(at);
            }
            b'a' => self.attribute(value),
            _ => {}
        }
        Ok(())
    }

    fn stream(&mut self, line: MediaLine<'_>) {
        let index = self.streams;
        self.streams += 1;
        self.audio = self.audio.take().or(self.reading.take());
        self.refused |= line.is_audio() && line.port == 0;
        let formats = line.payload_types().fold(0, |all, pt| all | 1 << pt);
        if self.audio.is_none() && line.is_plain_audio() && line.port != 0 && formats != 0 {
            self.reading = Some(Candidate { index, port: line.port, formats, ..Candidate::default() });
        }
    }

    fn attribute(&mut self, value: &[u8]) {
        let (name, value) = attribute(value);
        if let Some(direction) = Direction::parse(name) {
            match &mut self.reading {
                Some(stream) => stream.direction = Some(direction),
                None if self.streams == 0 => self.session_direction = Some(direction),
                None => {}
            }
        } else if name.eq_ignore_ascii_case(b"rtcp")
            && let Some(stream) = &mut self.reading
        {
            let mut rest = value.splitn(2, |b| *b == b' ');
            let port = rest.next().and_then(number).filter(|port| *port != 0);
            let ip = rest.next().and_then(connection).and_then(|at| match at {
                Connection::At(ip) => Some(ip),
                Connection::Held | Connection::Elsewhere => None,
            });
            stream.rtcp = port.map(|port| Rtcp { port, ip });
        }
    }

    fn finish(mut self, raw: Bytes) -> Result<Sdp, SdpError> {
        if !self.origin {
            return Err(SdpError("no o= line"));
        }
        let session_at = self.session_at;
        let session_direction = self.session_direction;
        let audio = match self.audio.take().or(self.reading.take()) {
            None => None,
            Some(Candidate { index, port, at, direction, rtcp, formats }) => {
                let at = at.or(session_at).ok_or(SdpError("no c= line for the audio stream"))?;
                Some(Audio { index, port, at, rtcp, direction: direction.or(session_direction), formats })
            }
        };
        Ok(Sdp { raw, streams: self.streams, audio, refused: self.refused })
    }
}

#[cfg(test)]
mod tests;
