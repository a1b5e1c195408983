//! Which codecs a stream has, and which of them are left.

use compact_str::CompactString;

use super::Codec;
use super::MediaLine;
use super::Sdp;
use super::attribute;
use super::number;
use super::words;

/// Static audio payload types and their clock rates (RFC 3551 §6, table 4).
const STATIC: [(u8, &str, u32); 17] = [
    (0, "PCMU", 8_000),
    (3, "GSM", 8_000),
    (4, "G723", 8_000),
    (5, "DVI4", 8_000),
    (6, "DVI4", 16_000),
    (7, "LPC", 8_000),
    (8, "PCMA", 8_000),
    (9, "G722", 8_000),
    (10, "L16", 44_100),
    (11, "L16", 44_100),
    (12, "QCELP", 8_000),
    (13, "CN", 8_000),
    (14, "MPA", 90_000),
    (15, "G728", 8_000),
    (16, "DVI4", 11_025),
    (17, "DVI4", 22_050),
    (18, "G729", 8_000),
];

/// What travels beside a voice but is none: RFC 4733, RFC 3389, RFC 2198.
const NO_VOICE: [&str; 3] = ["telephone-event", "CN", "red"];

/// One format of the audio stream; `codec` is `None` for a dynamic type without a usable rtpmap.
pub(super) struct Format {
    pub payload_type: u8,
    pub codec: Option<Codec>,
}

impl Format {
    /// A voice, as far as one can tell: an unnamed dynamic type counts as one.
    pub fn is_voice(&self) -> bool {
        self.codec.as_ref().is_none_or(|c| !NO_VOICE.iter().any(|n| n.eq_ignore_ascii_case(&c.name)))
    }
}

/// The formats of the audio stream in their order, each once.
pub(super) fn formats(sdp: &Sdp) -> Vec<Format> {
    let mut formats = Vec::new();
    for (kind, value) in sdp.audio_lines() {
        match kind {
            b'm' => {
                let Ok(line) = MediaLine::parse(value) else {
                    return formats;
                };
                formats.extend(line.payload_types().map(|payload_type| Format { payload_type, codec: by_number(payload_type) }));
            }
            b'a' => {
                if let Some(codec) = rtpmap(value)
                    && let Some(format) = formats.iter_mut().find(|f| f.payload_type == codec.payload_type)
                {
                    format.codec = Some(codec);
                }
            }
            _ => {}
        }
    }
    formats
}

pub(super) fn codecs(sdp: &Sdp) -> Vec<Codec> {
    formats(sdp).into_iter().filter_map(|f| f.codec).collect()
}

/// What is left of the audio stream's formats: those in `names`, in that order, else all as they are. `None` without a voice.
pub(super) fn selected(sdp: &Sdp, names: &[CompactString]) -> Option<Vec<Format>> {
    let mut formats = formats(sdp);
    if !names.is_empty() {
        let rank = |f: &Format| f.codec.as_ref().and_then(|c| names.iter().position(|n| n.eq_ignore_ascii_case(&c.name)));
        formats.retain(|f| rank(f).is_some());
        formats.sort_by_key(rank);
    }
    formats.iter().any(Format::is_voice).then_some(formats)
}

/// The payload type that `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` begin with.
pub(super) fn bound_to(name: &[u8], value: &[u8]) -> Option<u8> {
    let names: [&[u8]; 3] = [b"rtpmap", b"fmtp", b"rtcp-fb"];
    names.iter().find(|n| n.eq_ignore_ascii_case(name))?;
    words(value).next().and_then(number)
}

pub(super) fn by_number(payload_type: u8) -> Option<Codec> {
    let (_, name, clock_rate) = STATIC.iter().find(|(pt, ..)| *pt == payload_type)?;
    Some(Codec { payload_type, name: CompactString::const_new(name), clock_rate: *clock_rate })
}

/// `rtpmap:<payload type> <name>/<clock rate>[/<parameters>]` (RFC 8866 §6.6).
fn rtpmap(value: &[u8]) -> Option<Codec> {
    let (name, value) = attribute(value);
    if !name.eq_ignore_ascii_case(b"rtpmap") {
        return None;
    }
    let mut words = words(value);
    let payload_type = words.next().and_then(number)?;
    let mut parts = words.next()?.split(|b| *b == b'/');
    let name = std::str::from_utf8(parts.next()?).ok().filter(|n| !n.is_empty())?;
    let clock_rate = parts.next().and_then(number)?;
    Some(Codec { payload_type, name: CompactString::new(name), clock_rate })
}
