//! The mocks' own session descriptions. Written apart from `wire::sdp` on purpose: a mock that shared the code under test could not
//! contradict it.

use std::fmt::Write;
use std::net::IpAddr;
use std::net::SocketAddr;

use bytes::Bytes;

/// Streams that are looked at; every further one makes the description unusable.
const SDP_STREAMS_MAX: usize = 16;

/// The payload type of PCMU (RFC 3551 table 4).
const PCMU: &str = "0";

/// Where one end of a call wants its audio, and the numbers of its `o=` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalAudio {
    pub addr: SocketAddr,
    /// Session id and first version of `o=` (RFC 8866 §5.2).
    pub session: u64,
}

/// An offer of PCMU and telephone-event.
pub fn offer(local: LocalAudio) -> Bytes {
    let mut text = head(local);
    let _ = write!(text, "m=audio {} RTP/AVP 0 101\r\n", local.addr.port());
    text.push_str("a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n");
    text.into()
}

/// The answer to an offer (RFC 3264 §6): its first audio stream in PCMU, every other stream refused. `None` when no stream has PCMU.
pub fn answer(offer: &[u8], local: LocalAudio) -> Option<Bytes> {
    let streams = streams(offer)?;
    let taken = streams.iter().position(|s| s.is_audio() && s.formats().any(|f| f == PCMU))?;
    let mut text = head(local);
    for (i, stream) in streams.iter().enumerate() {
        if i != taken {
            let _ = write!(text, "m={} 0 {}\r\n", stream.media, stream.rest);
            continue;
        }
        let event = stream.event_type();
        let (space, event) = (if event.is_some() { " " } else { "" }, event.unwrap_or_default());
        let _ = write!(text, "m=audio {} RTP/AVP 0{space}{event}\r\na=rtpmap:0 PCMU/8000\r\n", local.addr.port());
        if !event.is_empty() {
            let _ = write!(text, "a=rtpmap:{event} telephone-event/8000\r\na=fmtp:{event} 0-16\r\n");
        }
        // RFC 3264 §6.1: what the offerer only sends, we only receive.
        let direction = match stream.direction {
            Some("sendonly") => "recvonly",
            Some("recvonly") => "sendonly",
            Some("inactive") => "inactive",
            _ => "sendrecv",
        };
        let _ = write!(text, "a=ptime:20\r\na={direction}\r\n");
    }
    Some(text.into())
}

/// Where the first accepted audio stream of a description wants its packets.
pub fn audio_addr(body: &[u8]) -> Option<SocketAddr> {
    let streams = streams(body)?;
    let audio = streams.iter().find(|s| s.is_audio())?;
    Some(SocketAddr::new(audio.address?, audio.port))
}

fn head(local: LocalAudio) -> String {
    let ip = local.addr.ip();
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let session = local.session;
    format!("v=0\r\no=- {session} {session} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

/// One `m=` line and what matters of its attributes.
struct Stream<'a> {
    media: &'a str,
    port: u16,
    /// Protocol and formats.
    rest: &'a str,
    address: Option<IpAddr>,
    direction: Option<&'a str>,
    event_type: Option<&'a str>,
}

impl<'a> Stream<'a> {
    fn is_audio(&self) -> bool {
        self.media == "audio" && self.port != 0
    }

    fn formats(&self) -> impl Iterator<Item = &'a str> {
        self.rest.split(' ').skip(1)
    }

    fn event_type(&self) -> Option<&'a str> {
        self.event_type.filter(|event| self.formats().any(|f| f == *event))
    }
}

/// `None` when it is no description, or one that no mock should meet.
fn streams(body: &[u8]) -> Option<Vec<Stream<'_>>> {
    let text = std::str::from_utf8(body).ok()?;
    let (mut address, mut direction) = (None, None);
    let mut streams: Vec<Stream<'_>> = Vec::new();
    for line in text.lines() {
        let (kind, value) = line.split_once('=')?;
        if kind == "m" && streams.len() == SDP_STREAMS_MAX {
            return None;
        }
        match (kind, streams.last_mut()) {
            ("m", _) => {
                let mut words = value.splitn(3, ' ');
                let (media, port, rest) = (words.next()?, words.next()?, words.next()?);
                let port = port.split('/').next()?.parse().ok()?;
                streams.push(Stream { media, port, rest, address, direction, event_type: None });
            }
            ("c", None) => address = connection(value),
            ("c", Some(stream)) => stream.address = connection(value),
            ("a", None) => direction = as_direction(value).or(direction),
            ("a", Some(stream)) => {
                stream.direction = as_direction(value).or(stream.direction);
                if let Some((number, "telephone-event/8000")) = value.strip_prefix("rtpmap:").and_then(|v| v.split_once(' ')) {
                    stream.event_type = Some(number);
                }
            }
            _ => {}
        }
    }
    Some(streams)
}

fn connection(value: &str) -> Option<IpAddr> {
    value.split(' ').nth(2)?.split('/').next()?.parse().ok()
}

fn as_direction(value: &str) -> Option<&str> {
    ["sendrecv", "sendonly", "recvonly", "inactive"].contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> LocalAudio {
        LocalAudio { addr: ([127, 0, 0, 1], 4000).into(), session: 7 }
    }

    #[test]
    fn an_offer_is_answered_and_both_say_where_audio_goes() {
        let offered = offer(LocalAudio { addr: ([192, 0, 2, 1], 5000).into(), session: 1 });
        assert_eq!(audio_addr(&offered), Some(([192, 0, 2, 1], 5000).into()));
        let answered = answer(&offered, local()).unwrap();
        assert_eq!(audio_addr(&answered), Some(([127, 0, 0, 1], 4000).into()));
        let text = String::from_utf8(answered.to_vec()).unwrap();
        assert!(text.contains("m=audio 4000 RTP/AVP 0 101\r\n") && text.ends_with("a=sendrecv\r\n"), "{text}");
    }

    #[test]
    fn a_stream_that_is_not_ours_is_refused_in_its_place() {
        let offered = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=video 6000 RTP/AVP 31\r\nm=audio 5000 RTP/AVP 8 0 96\r\n\
            c=IN IP4 192.0.2.9\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n";
        assert_eq!(audio_addr(offered), Some(([192, 0, 2, 9], 5000).into()));
        let text = String::from_utf8(answer(offered, local()).unwrap().to_vec()).unwrap();
        // RFC 3264 §6: "For each "m=" line in the offer, there MUST be a corresponding "m=" line in the answer."
        assert!(text.contains("m=video 0 RTP/AVP 31\r\nm=audio 4000 RTP/AVP 0 96\r\n"), "{text}");
        assert!(text.ends_with("a=recvonly\r\n"), "{text}");
    }

    #[test]
    fn without_pcmu_there_is_no_answer() {
        let opus = b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\n";
        assert_eq!(answer(opus, local()), None);
        assert_eq!(answer(b"hello", local()), None);
        let many = format!("v=0\r\n{}", "m=audio 5000 RTP/AVP 0\r\n".repeat(SDP_STREAMS_MAX + 1));
        assert_eq!(answer(many.as_bytes(), local()), None);
    }
}
