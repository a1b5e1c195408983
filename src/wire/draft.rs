//! The writer: a message of ours as an edit list, lines kept or put in order, printed once.

use std::fmt;
use std::io::Write;
use std::iter;
use std::net::SocketAddr;

use bytes::Bytes;
use memchr::memchr;
use memchr::memchr3;

use crate::ids::LocalTag;
use crate::wire::header::CSeq;
use crate::wire::header::Via;
use crate::wire::header::elements;
use crate::wire::header::scan::find_bare;
use crate::wire::header::scan::is_blank;
use crate::wire::message::Line;
use crate::wire::message::Message;
use crate::wire::method::Method;
use crate::wire::name::Name;
use crate::wire::uri::Host;

/// Room for the head of a usual request; a longer one grows.
const REQUEST_HEAD_BYTES: usize = 2048;
/// Room in a response beside the lines that it copies.
const RESPONSE_EXTRA_BYTES: usize = 512;

/// A message of ours before it is printed. A request has no Via yet: the branch and transport are added at print time.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    method: Method,
    /// 0 in a request.
    status: u16,
    /// Start line and header lines in order, each with its CRLF; no Via of ours, no Content-Length.
    head: Vec<u8>,
    /// Length of the start line without its CRLF.
    start: usize,
    body: Bytes,
}

impl Draft {
    pub fn request(method: Method, uri: &[u8]) -> Draft {
        let mut head = Vec::with_capacity(REQUEST_HEAD_BYTES + uri.len());
        write_request_line(&mut head, &method, uri);
        let start = head.len();
        head.extend_from_slice(b"\r\n");
        Draft { method, status: 0, head, start, body: Bytes::new() }
    }

    /// A response to `request`: its Vias (`received` and `rport` added to the top one, RFC 3261 §18.2.1, RFC 3581 §4), From, To (with
    /// `tag` added when it has none), Call-ID, CSeq; Timestamp in a 100. `reason` empty: the standard phrase.
    pub fn response(request: &Message, source: SocketAddr, status: u16, reason: &str, tag: Option<&LocalTag>) -> Draft {
        let vias: usize = request.lines_of(Name::Via).map(|line| line.raw.len() + 2).sum();
        let mut head = Vec::with_capacity(vias + RESPONSE_EXTRA_BYTES);
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        head.extend_from_slice(b"SIP/2.0 ");
        write_number(&mut head, usize::from(status));
        head.push(b' ');
        extend_clean(&mut head, reason.as_bytes());
        let start = head.len();
        head.extend_from_slice(b"\r\n");
        let mut draft = Draft { method: request.method().clone(), status, head, start, body: Bytes::new() };
        // The first line that has a value holds the Via that the response is sent by.
        let mut top = true;
        for line in request.lines_of(Name::Via) {
            match if top { stamped(line, source) } else { None } {
                Some(stamped) => draft.line(&stamped),
                None => draft.line(line.raw),
            }
            top &= line.value.is_empty();
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq, Name::Timestamp] {
            let Some(line) = request.lines_of(name).next() else { continue };
            match (name, tag) {
                // RFC 3261 §8.2.6.1: the Timestamp goes back in the 100.
                (Name::Timestamp, _) if status != 100 => {}
                (Name::To, Some(tag)) if request.to_tag().is_none() => draft.tagged(line, tag),
                _ => draft.line(line.raw),
            }
        }
        draft
    }

    fn tagged(&mut self, line: Line<'_>, tag: &LocalTag) {
        extend_clean(&mut self.head, line.raw.get(..value_end(line)).unwrap_or_default());
        self.head.extend_from_slice(b";tag=");
        extend_clean(&mut self.head, tag.as_bytes());
        self.head.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, line: &[u8]) {
        extend_clean(&mut self.head, line);
        self.head.extend_from_slice(b"\r\n");
    }

    /// Appends a line. CR, LF and NUL in `value` become blanks: no value can end its line. Content-Length is not ours to put: `print` does.
    pub fn put(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Draft {
        if Name::of(name.as_bytes()) != Name::ContentLength {
            let from = self.head.len();
            self.head.extend_from_slice(name.as_bytes());
            self.head.extend_from_slice(b": ");
            self.head.extend_from_slice(value.as_ref());
            clean(&mut self.head, from);
            self.head.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Puts the line in the place of the one of that name (as we spell it) that is there, else at the end.
    pub fn replace(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let Some((from, to)) = self.place_of(name) else {
            self.put(name, value);
            return;
        };
        let rest = self.head.split_off(to);
        self.head.truncate(from);
        self.put(name, value);
        self.head.extend_from_slice(&rest);
    }

    /// Where the first line of that name begins, and where the next one does.
    fn place_of(&self, name: &str) -> Option<(usize, usize)> {
        let mut from = self.start + 2;
        while let Some(line) = self.head.get(from..).filter(|l| !l.is_empty()) {
            // No line of ours holds another line end.
            let to = from + memchr(b'\n', line)? + 1;
            let spelled = line.get(..name.len())?;
            if spelled.eq_ignore_ascii_case(name.as_bytes()) && line.get(name.len()) == Some(&b':') {
                return Some((from, to));
            }
            from = to;
        }
        None
    }

    /// The CSeq number of a request; 0 before it is put.
    pub fn cseq(&self) -> u32 {
        let value = self.place_of("CSeq").and_then(|(from, to)| self.head.get(from + b"CSeq:".len()..to));
        value.and_then(|v| CSeq::parse(v.trim_ascii())).map_or(0, |c| c.number)
    }

    /// The Request-URI; empty in a response.
    pub fn uri(&self) -> &[u8] {
        if self.status != 0 {
            return &[];
        }
        let uri = self.start_line().get(self.method.as_bytes().len() + 1..).unwrap_or_default();
        uri.strip_suffix(b" SIP/2.0").unwrap_or(uri)
    }

    pub fn content(&self) -> &Bytes {
        &self.body
    }

    /// Appends a received line byte for byte. A Content-Length and a line without a name stay behind.
    pub fn keep(&mut self, line: Line<'_>) -> &mut Draft {
        if line.name != Name::ContentLength && !line.spelled.is_empty() {
            self.line(line.raw);
        }
        self
    }

    /// Appends all lines of that name of a received message (Record-Route of a response that makes a dialog).
    pub fn keep_all(&mut self, message: &Message, name: Name) -> &mut Draft {
        for line in message.lines_of(name) {
            self.keep(line);
        }
        self
    }

    /// Sets the body; an empty `content_type` puts no Content-Type line.
    pub fn body(&mut self, content_type: &str, body: Bytes) -> &mut Draft {
        if !content_type.is_empty() {
            self.put("Content-Type", content_type);
        }
        self.body = body;
        self
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// 0 in a request.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Without its CRLF.
    pub fn start_line(&self) -> &[u8] {
        self.head.get(..self.start).unwrap_or_default()
    }

    /// Bytes when printed, without a Via.
    pub fn size(&self) -> usize {
        self.head.len() + self.body.len() + b"Content-Length: 00000\r\n\r\n".len()
    }

    /// Replaces the Request-URI (another target's host). A response has none.
    pub fn set_uri(&mut self, uri: &[u8]) {
        if self.status == 0 {
            let mut start = Vec::with_capacity(uri.len() + 32);
            write_request_line(&mut start, &self.method, uri);
            let length = start.len();
            self.head.splice(..self.start, start);
            self.start = length;
        }
    }

    /// The bytes. `via`: the value of our Via line, put first (`None` in responses). Content-Length is always printed.
    pub fn print(&self, via: Option<&str>) -> Bytes {
        const LENGTH: &[u8] = b"Content-Length: ";
        let via_bytes = via.map_or(0, |via| b"Via: \r\n".len() + via.len());
        let digits = self.body.len().max(1).ilog10() as usize + 1;
        // The exact size: a vector without spare room becomes `Bytes` without another allocation.
        let mut out = Vec::with_capacity(self.head.len() + via_bytes + LENGTH.len() + digits + 4 + self.body.len());
        let (start, lines) = self.head.split_at(self.start + 2);
        out.extend_from_slice(start);
        if let Some(via) = via {
            out.extend_from_slice(b"Via: ");
            extend_clean(&mut out, via.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(lines);
        out.extend_from_slice(LENGTH);
        write_number(&mut out, self.body.len());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&self.body);
        Bytes::from(out)
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("start", &String::from_utf8_lossy(self.start_line()))
            .field("head_bytes", &self.head.len())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

fn extend_clean(out: &mut Vec<u8>, text: &[u8]) {
    let from = out.len();
    out.extend_from_slice(text);
    clean(out, from);
}

/// Makes CR, LF and NUL from that place on blanks.
fn clean(out: &mut [u8], from: usize) {
    let text = out.get_mut(from..).unwrap_or_default();
    if memchr3(b'\r', b'\n', 0, text).is_some() {
        for byte in text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            *byte = b' ';
        }
    }
}

fn write_request_line(out: &mut Vec<u8>, method: &Method, uri: &[u8]) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    extend_clean(out, uri);
    out.extend_from_slice(b" SIP/2.0");
}

fn write_number(out: &mut Vec<u8>, number: usize) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
}

/// Where the value ends in the raw line: trailing blanks are not part of it.
fn value_end(line: Line<'_>) -> usize {
    line.raw.iter().rposition(|&b| !is_blank(b)).map_or(0, |last| last + 1)
}

/// The Via line with `received` and `rport` in its first value; `None` when the line is right as it is, or unreadable.
fn stamped(line: Line<'_>, source: SocketAddr) -> Option<Vec<u8>> {
    let element = elements(line.value).next()?;
    let via = Via::parse(element)?;
    let ip = source.ip().to_canonical();
    let same = matches!(via.host, Host::Ip(sent_by) if sent_by.to_canonical() == ip);
    // RFC 3581 §4: a server that sees rport MUST fill it, and MUST add `received`, even if it equals the sent-by.
    if same && !via.params.has("rport") {
        return None;
    }
    // Only blanks and commas can stand before the first element.
    let from = value_end(line) - line.value.len() + line.value.iter().position(|&b| !is_blank(b) && b != b',')?;
    let mut out = Vec::with_capacity(line.raw.len() + 64);
    out.extend_from_slice(line.raw.get(..from)?);
    for (i, part) in semicolon_parts(element).enumerate() {
        let name = part.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
        if i == 0 {
            out.extend_from_slice(part);
        } else if name.eq_ignore_ascii_case(b"rport") {
            out.extend_from_slice(b";rport=");
            write_number(&mut out, usize::from(source.port()));
        } else if !name.eq_ignore_ascii_case(b"received") {
            // A `received` that the peer wrote itself would send the response elsewhere.
            out.push(b';');
            out.extend_from_slice(part);
        }
    }
    let _ = write!(out, ";received={ip}");
    out.extend_from_slice(line.raw.get(from + element.len()..)?);
    Some(out)
}

/// As `segments` of `Params`, but with their blanks: what is not edited stays as it came.
fn semicolon_parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let end = find_bare(text, |b| b == b';');
        rest = end.and_then(|end| text.get(end + 1..));
        text.get(..end.unwrap_or(text.len()))
    })
}

macro_rules! phrases {
    ($($status:literal $phrase:literal)*) => {
        /// The standard reason phrase (RFC 3261 §21 and the IANA registry); for an unknown status the name of its class.
        pub fn reason_phrase(status: u16) -> &'static str {
            match status {
                $($status => $phrase,)*
                101..200 => "Progress",
                201..300 => "Success",
                303..400 => "Redirection",
                400..500 => "Client Error",
                500..600 => "Server Error",
                _ => "Global Failure",
            }
        }
    };
}

phrases! {
    100 "Trying"
    180 "Ringing"
    181 "Call Is Being Forwarded"
    182 "Queued"
    183 "Session Progress"
    199 "Early Dialog Terminated"
    200 "OK"
    202 "Accepted"
    204 "No Notification"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Moved Temporarily"
    305 "Use Proxy"
    380 "Alternative Service"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    410 "Gone"
    412 "Conditional Request Failed"
    413 "Request Entity Too Large"
    414 "Request-URI Too Long"
    415 "Unsupported Media Type"
    416 "Unsupported URI Scheme"
    417 "Unknown Resource-Priority"
    420 "Bad Extension"
    421 "Extension Required"
    422 "Session Interval Too Small"
    423 "Interval Too Brief"
    424 "Bad Location Information"
    425 "Bad Alert Message"
    428 "Use Identity Header"
    429 "Provide Referrer Identity"
    430 "Flow Failed"
    433 "Anonymity Disallowed"
    436 "Bad Identity Info"
    437 "Unsupported Credential"
    438 "Invalid Identity Header"
    439 "First Hop Lacks Outbound Support"
    440 "Max-Breadth Exceeded"
    469 "Bad Info Package"
    470 "Consent Needed"
    480 "Temporarily Unavailable"
    481 "Call/Transaction Does Not Exist"
    482 "Loop Detected"
    483 "Too Many Hops"
    484 "Address Incomplete"
    485 "Ambiguous"
    486 "Busy Here"
    487 "Request Terminated"
    488 "Not Acceptable Here"
    489 "Bad Event"
    491 "Request Pending"
    493 "Undecipherable"
    494 "Security Agreement Required"
    500 "Server Internal Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Server Time-out"
    505 "Version Not Supported"
    513 "Message Too Large"
    555 "Push Notification Service Not Supported"
    580 "Precondition Failure"
    600 "Busy Everywhere"
    603 "Decline"
    604 "Does Not Exist Anywhere"
    606 "Not Acceptable"
    607 "Unwanted"
    608 "Rejected"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: &str = "192.0.2.9:5099";

    fn invite(via: &str, more: &str) -> Message {
        let text =
            format!("INVITE sip:b@h SIP/2.0\r\n{via}f :  <sip:a@h>;tag=1 \r\nTo:<sip:b@h>\r\nCall-ID: c1\r\nCSeq: 7  INVITE\r\n{more}\r\n");
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn response(request: &Message, source: &str, status: u16, tag: Option<&str>) -> String {
        let tag = tag.map(LocalTag::new);
        let printed = Draft::response(request, source.parse().unwrap(), status, "", tag.as_ref()).print(None);
        String::from_utf8(printed.to_vec()).unwrap()
    }

    /// The Via lines of a response to a request with these Via lines.
    fn vias(via: &str, source: &str) -> String {
        let text = response(&invite(via, ""), source, 200, None);
        let (_, vias) = text.split_once("\r\n").unwrap();
        vias.split_once("f :").unwrap().0.to_string()
    }

    #[test]
    fn a_response_copies_what_routes_and_names_it() {
        let request = invite("Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n", "Timestamp: 54\r\nSubject: x\r\n");
        assert_eq!(
            response(&request, SOURCE, 486, Some("t9")),
            "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nf :  <sip:a@h>;tag=1 \r\nTo:<sip:b@h>;tag=t9\r\n\
             Call-ID: c1\r\nCSeq: 7  INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        // RFC 3261 §8.2.6.1: "any Timestamp header field present in the request MUST be copied into this 100 (Trying) response."
        let trying = response(&request, SOURCE, 100, None);
        assert!(
            trying.starts_with("SIP/2.0 100 Trying\r\n") && trying.contains("To:<sip:b@h>\r\n") && trying.contains("Timestamp: 54\r\n")
        );
    }

    #[test]
    fn a_to_tag_of_the_request_stays() {
        // RFC 3261 §8.2.6.2: "If a request contained a To tag in the request, the To header field in the response MUST equal that".
        let text = b"BYE sip:b@h SIP/2.0\r\nTo: <sip:b@h> ; TAG = x\r\nCSeq: 7 BYE\r\n\r\n";
        let request = Message::parse(Bytes::from_static(text)).unwrap();
        assert!(response(&request, SOURCE, 200, Some("t9")).contains("\r\nTo: <sip:b@h> ; TAG = x\r\n"));
    }

    #[test]
    fn the_top_via_says_where_the_request_came_from() {
        // RFC 3261 §18.2.1: a domain name, or an address that differs from the source, gets `received`.
        for (via, source, want) in [
            ("SIP/2.0/UDP h;branch=b", SOURCE, "SIP/2.0/UDP h;branch=b;received=192.0.2.9"),
            ("SIP/2.0/UDP 192.0.2.1;branch=b", SOURCE, "SIP/2.0/UDP 192.0.2.1;branch=b;received=192.0.2.9"),
            ("SIP/2.0/UDP 192.0.2.9:1;branch=b", SOURCE, "SIP/2.0/UDP 192.0.2.9:1;branch=b"),
            ("SIP/2.0/UDP 192.0.2.9;branch=b", "[::ffff:192.0.2.9]:5", "SIP/2.0/UDP 192.0.2.9;branch=b"),
            ("SIP/2.0/UDP [2001:DB8::9]", "[2001:db8::9]:5", "SIP/2.0/UDP [2001:DB8::9]"),
            ("SIP/2.0/UDP [2001:db8::1]", "[2001:db8::9]:5", "SIP/2.0/UDP [2001:db8::1];received=2001:db8::9"),
            // RFC 3581 §4: rport is filled, and then `received` comes even when nothing differs.
            ("SIP/2.0/UDP 192.0.2.9;rport;branch=b", SOURCE, "SIP/2.0/UDP 192.0.2.9;rport=5099;branch=b;received=192.0.2.9"),
            ("SIP/2.0/UDP h ; RPORT ; branch=b", SOURCE, "SIP/2.0/UDP h ;rport=5099; branch=b;received=192.0.2.9"),
            ("SIP/2.0/UDP h;rport=1;branch=b", SOURCE, "SIP/2.0/UDP h;rport=5099;branch=b;received=192.0.2.9"),
            ("SIP/2.0/UDP h;received=203.0.113.1;branch=b", SOURCE, "SIP/2.0/UDP h;branch=b;received=192.0.2.9"),
            ("SIP/2.0/UDP h;x=\";rport\";branch=b", SOURCE, "SIP/2.0/UDP h;x=\";rport\";branch=b;received=192.0.2.9"),
            ("nothing to read", SOURCE, "nothing to read"),
        ] {
            assert_eq!(vias(&format!("Via: {via}\r\n"), source), format!("Via: {want}\r\n"));
        }
    }

    #[test]
    fn only_the_topmost_via_is_stamped() {
        assert_eq!(
            vias("v :\t SIP/2.0/UDP h , SIP/2.0/UDP i;rport \r\nVia:SIP/2.0/TCP j;rport\r\n", SOURCE),
            "v :\t SIP/2.0/UDP h;received=192.0.2.9 , SIP/2.0/UDP i;rport \r\nVia:SIP/2.0/TCP j;rport\r\n"
        );
        assert_eq!(
            vias("Via: , SIP/2.0/UDP h,SIP/2.0/UDP i\r\nVia: SIP/2.0/TCP j\r\n", SOURCE),
            "Via: , SIP/2.0/UDP h;received=192.0.2.9,SIP/2.0/UDP i\r\nVia: SIP/2.0/TCP j\r\n"
        );
    }

    #[test]
    fn a_response_to_a_defective_request_carries_no_line_end_of_it() {
        let request = invite("Via: SIP/2.0/UDP h;branch=a\nb\r\n", "");
        assert!(request.check().is_err());
        let text = response(&request, SOURCE, 400, None);
        assert!(text.contains("branch=a b"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        let bare = Message::parse(Bytes::from_static(b"INVITE sip:b@h SIP/2.0\r\nX: y\r\n\r\n")).unwrap();
        assert_eq!(response(&bare, SOURCE, 400, Some("t")), "SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn a_reason_of_ours_stands_in_the_start_line_whatever_it_holds() {
        let request = invite("Via: SIP/2.0/UDP h\r\n", "");
        let draft = Draft::response(&request, SOURCE.parse().unwrap(), 400, "Bad\r\nX: y", None);
        assert_eq!((draft.status(), draft.start_line()), (400, &b"SIP/2.0 400 Bad  X: y"[..]));
        assert_eq!(draft.method(), &Method::INVITE);
    }

    #[test]
    fn lines_stand_in_the_order_of_the_calls_and_via_comes_first() {
        let source =
            invite("Via: SIP/2.0/UDP h\r\n", "record-route:<sip:p;lr>\r\nX-A:  1 \r\nl: 0\r\nno colon\r\nRecord-Route: <sip:q;lr>\r\n");
        let mut draft = Draft::request(Method::BYE, b"sip:x@h");
        draft.put("Max-Forwards", "70").keep_all(&source, Name::RecordRoute).put("Content-Length", "9").put("l", "9");
        for line in source.lines().skip(5) {
            draft.keep(line);
        }
        draft.body("text/plain", Bytes::from_static(b"0123456789"));
        draft.set_uri(b"sip:longer-than-before@h");
        assert_eq!((draft.status(), draft.start_line()), (0, &b"BYE sip:longer-than-before@h SIP/2.0"[..]));
        assert_eq!(
            draft.print(Some("SIP/2.0/UDP me")),
            "BYE sip:longer-than-before@h SIP/2.0\r\nVia: SIP/2.0/UDP me\r\nMax-Forwards: 70\r\nrecord-route:<sip:p;lr>\r\n\
             Record-Route: <sip:q;lr>\r\nrecord-route:<sip:p;lr>\r\nX-A:  1 \r\nRecord-Route: <sip:q;lr>\r\nContent-Type: text/plain\r\n\
             Content-Length: 10\r\n\r\n0123456789"
        );
        draft.set_uri(b"a\r\nb");
        assert!(draft.print(None).starts_with(b"BYE a  b SIP/2.0\r\nMax-Forwards: 70\r\n"));
    }

    #[test]
    fn no_value_can_end_its_line() {
        let mut draft = Draft::request(Method::INFO, b"sip:x@h");
        draft.put("X-A\r\nB", "1\r\nVia: evil\0\n\r").body("a\r\nb", Bytes::new());
        assert_eq!(
            draft.print(Some("v\r\nw")),
            "INFO sip:x@h SIP/2.0\r\nVia: v  w\r\nX-A  B: 1  Via: evil   \r\nContent-Type: a  b\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn printing_takes_exactly_the_room_it_needs() {
        for length in [0, 1, 9, 10, 99, 100, 65_000] {
            let mut draft = Draft::request(Method::INFO, b"sip:x@h");
            draft.body("", Bytes::from(vec![b'x'; length]));
            let printed = draft.print(Some("v"));
            assert!(printed.starts_with(b"INFO sip:x@h SIP/2.0\r\nVia: v\r\nContent-Length: "));
            // A vector with spare room would have been moved once more.
            let bytes = printed.len();
            assert_eq!(Vec::from(printed).capacity(), bytes);
        }
    }

    #[test]
    fn every_status_has_a_phrase_of_its_own_or_of_its_class() {
        assert_eq!((reason_phrase(480), reason_phrase(604)), ("Temporarily Unavailable", "Does Not Exist Anywhere"));
        assert_eq!((reason_phrase(499), reason_phrase(299), reason_phrase(699)), ("Client Error", "Success", "Global Failure"));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back_to_the_lines_that_were_put(
            lines in proptest::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,12}", "[ -~]{0,40}"), 0..30),
            body: Vec<u8>,
        ) {
            let mut draft = Draft::request(Method::MESSAGE, b"sip:x@h");
            for (name, value) in &lines {
                draft.put(name, value);
            }
            draft.body("", body.clone().into());
            let message = Message::parse(draft.print(None)).unwrap();
            let put: Vec<_> = lines.iter().filter(|(name, _)| Name::of(name.as_bytes()) != Name::ContentLength).collect();
            prop_assert_eq!(message.lines().count(), put.len() + 1);
            for (line, (name, value)) in message.lines().zip(put) {
                prop_assert_eq!((line.spelled, line.value), (name.as_bytes(), value.trim_matches(' ').as_bytes()));
            }
            prop_assert_eq!(message.body(), body);
        }

        #[test]
        fn a_response_to_what_passed_the_check_passes_it_too(
            edits in proptest::collection::vec((0usize..400, 0u8..4, prop_oneof![any::<u8>(), proptest::sample::select(b"\r\n\0 ,;:<>\"=\\".to_vec())]), 0..4),
            port: u16,
        ) {
            let via = "Via: SIP/2.0/UDP h.example:5060;rport;branch=z9hG4bK1 , SIP/2.0/TCP [::1]\r\nv: SIP/2.0/TLS 192.0.2.1\r\n";
            let mut text = invite(via, "Contact: \"A\" <sip:a@h>;x\r\nTimestamp: 1\r\n").raw().to_vec();
            for (at, kind, byte) in edits {
                let at = at % text.len();
                match kind {
                    0 => text[at] = byte,
                    1 => text.insert(at, byte),
                    2 => drop(text.remove(at)),
                    _ => text.truncate(at.max(16)),
                }
            }
            let Ok(request) = Message::parse(Bytes::from(text)) else { return Ok(()) };
            let draft = Draft::response(&request, (std::net::Ipv4Addr::LOCALHOST, port).into(), 100, "", Some(&LocalTag::new("t9")));
            let printed = Message::parse(draft.print(None)).expect("a response is always a message");
            let vias = |message: &Message| message.elements(Name::Via).count();
            prop_assert_eq!(printed.status(), 100);
            prop_assert!(printed.lines().all(|line| !line.raw.iter().any(|b| b"\r\n\0".contains(b))));
            if request.is_request() && request.check().is_ok() {
                prop_assert_eq!(printed.check(), Ok(()));
                prop_assert_eq!(printed.via().unwrap().branch(), request.via().unwrap().branch());
                prop_assert_eq!(vias(&printed), vias(&request));
                prop_assert_eq!(printed.to_tag(), request.to_tag().or(Some("t9")));
                prop_assert_eq!((printed.cseq(), printed.call_id(), printed.from_tag()), (request.cseq(), request.call_id(), request.from_tag()));
            }
        }

        #[test]
        fn kept_lines_leave_bit_for_bit(values in proptest::collection::vec("[ -~\u{80}-\u{FF}\t]{0,40}", 0..30)) {
            let text: String = values.iter().enumerate().map(|(i, value)| format!("X-{i} :{value}\r\n")).collect();
            let message = invite("", &text);
            let mut draft = Draft::request(Method::INFO, b"sip:x@h");
            for line in message.lines().skip(4) {
                draft.keep(line);
            }
            prop_assert_eq!(draft.print(None), format!("INFO sip:x@h SIP/2.0\r\n{text}Content-Length: 0\r\n\r\n"));
        }
    }
}
