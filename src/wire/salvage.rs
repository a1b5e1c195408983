//! What is left of a request whose head is beyond our bounds: enough to answer it.

use bytes::Bytes;
use memchr::memchr;
use memchr::memmem;

use crate::wire::head::leading_crlfs;
use crate::wire::message::Message;
use crate::wire::message::SIP_MESSAGE_BYTES_MAX;
use crate::wire::name::Name;

/// What an answer repeats (RFC 3261 §8.2.6.2).
const REPEATED: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];

/// The request line and the headers that its answer repeats. `None`: it is no request, or these alone are too much.
pub fn salvage(raw: &[u8]) -> Option<Message> {
    let raw = raw.get(leading_crlfs(raw)..)?;
    let raw = raw.get(..SIP_MESSAGE_BYTES_MAX).unwrap_or(raw);
    let mut rest = raw.get(..memmem::find(raw, b"\r\n\r\n")?)?;
    let mut kept = Vec::new();
    let mut keep = true;
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(2..).unwrap_or_default();
        // A folded line belongs to the one before it.
        if !kept.is_empty() && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.get(..memchr(b':', line).unwrap_or_default()).unwrap_or_default();
            keep = REPEATED.contains(&Name::of(name.trim_ascii_end()));
        }
        if keep {
            kept.extend_from_slice(line);
            kept.extend_from_slice(b"\r\n");
        }
    }
    kept.extend_from_slice(b"\r\n");
    Message::parse(Bytes::from(kept)).ok().filter(Message::is_request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::SIP_HEADER_LINES_MAX;
    use crate::wire::message::SIP_LINE_BYTES_MAX;

    const LINES: &str = "v: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: \r\n <sip:b@h>\r\n";
    const REST: &str = "Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 4\r\n\r\nbody";

    fn request(between: &str) -> Vec<u8> {
        format!("\r\nINVITE sip:b@h SIP/2.0\r\n{LINES}{between}{REST}").into_bytes()
    }

    #[test]
    fn one_line_too_many_and_one_byte_too_many_leave_what_an_answer_repeats() {
        let many = "X-A: b\r\n".repeat(SIP_HEADER_LINES_MAX);
        let long = format!("X-A: {}\r\n b\r\n", "b".repeat(SIP_LINE_BYTES_MAX));
        for between in [many, long] {
            let raw = request(&between);
            assert!(Message::parse(Bytes::from(raw.clone())).is_err());
            let message = salvage(&raw).unwrap();
            assert_eq!(message.check(), Ok(()));
            assert_eq!(message.lines().count(), 5);
            assert_eq!((message.call_id(), message.value(Name::To)), (Ok("x"), Some(&b"<sip:b@h>"[..])));
        }
    }

    #[test]
    fn what_cannot_be_answered_is_not_salvaged() {
        let vias = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n".repeat(SIP_HEADER_LINES_MAX);
        assert!(salvage(&request(&vias)).is_none(), "the answer would be as long");
        for raw in [
            &b""[..],
            b"\r\n",
            b"junk",
            b"junk\r\n\r\n",
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n",
            b"INVITE sip:b@h SIP/2.0\r\nVia: h",
        ] {
            assert!(salvage(raw).is_none(), "{raw:?}");
        }
    }
}
