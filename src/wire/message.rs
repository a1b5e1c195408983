//! One framing authority for datagrams and streams; a lazy header store over `Bytes`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Buf;
use bytes::Bytes;
use memchr::memchr;

use crate::wire::check::address;
use crate::wire::check::bad;
use crate::wire::check::max_forwards;
use crate::wire::check::missing;
use crate::wire::head::Entry;
use crate::wire::head::Flaw;
use crate::wire::head::Head;
use crate::wire::head::Length;
pub use crate::wire::head::SIP_HEADER_LINES_MAX;
pub use crate::wire::head::SIP_LINE_BYTES_MAX;
pub use crate::wire::head::SIP_MESSAGE_BYTES_MAX;
use crate::wire::head::Scanned;
use crate::wire::head::Start;
use crate::wire::head::leading_crlfs;
use crate::wire::head::scan;
use crate::wire::header::CSeq;
use crate::wire::header::NameAddr;
use crate::wire::header::Via;
use crate::wire::header::elements;
use crate::wire::method::Method;
pub use crate::wire::name::Name;
use crate::wire::name::same_other;

/// `Debug` shows this much of the start line.
const DEBUG_START_BYTES_MAX: usize = 200;

/// Text that cannot be framed as a SIP message; nothing can be answered to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameError {
    pub why: &'static str,
}

/// A message that was framed but is not well-formed: what to answer, and the header to name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defect {
    /// 400, or 505 for a version.
    pub status: u16,
    /// Goes into the reason phrase: `Bad Content-Length`, `Missing Call-ID`.
    pub reason: Cow<'static, str>,
}

/// One header line: its id, the name as it was spelled, the value trimmed and unfolded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    pub name: Name,
    /// Empty when the line is not `token HCOLON value`: such a line is kept for the trace, and goes nowhere.
    pub spelled: &'a [u8],
    pub value: &'a [u8],
    /// The whole line as it came, without its CRLF.
    pub raw: &'a [u8],
}

/// A framed SIP message. A clone is one more reference.
#[derive(Clone)]
pub struct Message {
    inner: Arc<Inner>,
}

struct Inner {
    raw: Bytes,
    head: Head,
    body: Range<usize>,
}

impl Message {
    /// Frames a datagram, or one frame of a stream. What is framed but wrong is found by `check`, so that it can be answered.
    pub fn parse(mut raw: Bytes) -> Result<Message, FrameError> {
        raw.advance(leading_crlfs(&raw));
        if raw.len() > SIP_MESSAGE_BYTES_MAX {
            return Err(FrameError { why: "a message over 64 KiB" });
        }
        let Scanned { head, rebuilt } = scan(&raw)?;
        if let Some(rebuilt) = rebuilt {
            raw = Bytes::from(rebuilt);
        }
        // RFC 3261 §18.3: what is beyond Content-Length is cut; without one the body goes to the end of the datagram.
        let rest = raw.len().saturating_sub(head.end);
        let length = if let Length::Bytes(bytes) = head.length { bytes.min(rest) } else { rest };
        let body = head.end..head.end + length;
        Ok(Message { inner: Arc::new(Inner { raw, head, body }) })
    }

    pub fn is_request(&self) -> bool {
        matches!(self.inner.head.start, Start::Request { .. })
    }

    /// Of the request line; of CSeq in a response (an `Ext("")` when that is unreadable).
    pub fn method(&self) -> &Method {
        &self.inner.head.method
    }

    /// The Request-URI as it came; empty in a response.
    pub fn uri(&self) -> &[u8] {
        match self.inner.head.start {
            Start::Request { uri } => uri.of(&self.inner.raw),
            Start::Response { .. } => b"",
        }
    }

    /// 0 in a request.
    pub fn status(&self) -> u16 {
        match self.inner.head.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// The reason phrase as it came; empty in a request.
    pub fn reason(&self) -> &[u8] {
        match self.inner.head.start {
            Start::Request { .. } => b"",
            Start::Response { reason, .. } => reason.of(&self.inner.raw),
        }
    }

    /// The bytes that all the other functions speak of: as they came from the start line on, but with joined folds.
    pub fn raw(&self) -> &Bytes {
        &self.inner.raw
    }

    pub fn body(&self) -> Bytes {
        self.inner.raw.slice(self.inner.body.clone())
    }

    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.inner.head.entries.iter().map(|entry| self.line(entry))
    }

    fn line(&self, entry: &Entry) -> Line<'_> {
        let raw = entry.line.of(&self.inner.raw);
        let spelled = raw.get(..usize::from(entry.spelled)).unwrap_or_default();
        Line { name: entry.name, spelled, value: entry.value.of(&self.inner.raw), raw }
    }

    fn entries(&self, name: Name) -> impl Iterator<Item = &Entry> {
        let all: &[Entry] = if name.bit() & self.inner.head.present == 0 { &[] } else { &self.inner.head.entries };
        all.iter().filter(move |entry| entry.name == name)
    }

    /// The lines of that name, in order.
    pub fn lines_of(&self, name: Name) -> impl Iterator<Item = Line<'_>> {
        self.entries(name).map(|entry| self.line(entry))
    }

    /// The value of the first line of that name.
    pub fn value(&self, name: Name) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// One value a line, in order. `Name::Other` has none: ask for these by `named`.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.entries(name).map(|entry| entry.value.of(&self.inner.raw))
    }

    /// List elements over all lines of that name: split at commas outside quotes and angle brackets.
    pub fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.values(name).flat_map(elements)
    }

    /// Values of an extension header by its name, any case; also finds known ones.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let id = Name::of(name.as_bytes());
        let known = id != Name::Other;
        self.inner.head.entries.iter().filter(move |entry| entry.name == id).filter_map(move |entry| {
            let line = self.line(entry);
            (known || !line.spelled.is_empty() && same_other(line.spelled, name.as_bytes())).then_some(line.value)
        })
    }

    /// Whether the comma list of that name has this token, any case: Require, Supported, Allow …
    pub fn lists(&self, name: Name, token: &str) -> bool {
        self.elements(name).any(|element| {
            let end = memchr(b';', element).unwrap_or(element.len());
            element.get(..end).is_some_and(|text| text.trim_ascii_end().eq_ignore_ascii_case(token.as_bytes()))
        })
    }

    /// The topmost Via.
    pub fn via(&self) -> Result<Via<'_>, Defect> {
        let line = self.value(Name::Via).ok_or_else(|| missing(Name::Via))?;
        // One Via a line is the usual case.
        let first = if memchr(b',', line).is_none() { Some(line) } else { elements(line).next() };
        first.and_then(Via::parse).ok_or_else(|| bad(Name::Via))
    }

    pub fn from(&self) -> Result<NameAddr<'_>, Defect> {
        self.party(Name::From)
    }

    pub fn to(&self) -> Result<NameAddr<'_>, Defect> {
        self.party(Name::To)
    }

    fn party(&self, name: Name) -> Result<NameAddr<'_>, Defect> {
        address(self.value(name).ok_or_else(|| missing(name))?).ok_or_else(|| bad(name))
    }

    pub fn from_tag(&self) -> Option<&str> {
        self.tag(Name::From)
    }

    pub fn to_tag(&self) -> Option<&str> {
        self.tag(Name::To)
    }

    fn tag(&self, name: Name) -> Option<&str> {
        NameAddr::parse(self.value(name)?)?.tag()
    }

    /// Any text without blanks: peers put more into it than `word ["@" word]`.
    pub fn call_id(&self) -> Result<&str, Defect> {
        let value = self.value(Name::CallId).ok_or_else(|| missing(Name::CallId))?;
        let whole = !value.is_empty() && !value.iter().any(|&b| b <= b' ' || b == 0x7f);
        std::str::from_utf8(value).ok().filter(|_| whole).ok_or_else(|| bad(Name::CallId))
    }

    pub fn cseq(&self) -> Result<CSeq<'_>, Defect> {
        let value = self.value(Name::CSeq).ok_or_else(|| missing(Name::CSeq))?;
        CSeq::parse(value).ok_or_else(|| bad(Name::CSeq))
    }

    /// The first Contact; `None` when there is none, `*`, or an unreadable one.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        self.elements(Name::Contact).next().and_then(address)
    }

    /// `None` when absent; an unreadable one is found by `check`.
    pub fn max_forwards(&self) -> Option<u8> {
        self.value(Name::MaxForwards).and_then(max_forwards)
    }

    pub(super) fn repeats(&self, name: Name) -> bool {
        self.inner.head.repeated & name.bit() != 0
    }

    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.inner.head.flaw
    }

    pub(super) fn length(&self) -> Length {
        self.inner.head.length
    }

    pub(super) fn bytes_after_head(&self) -> usize {
        self.inner.raw.len() - self.inner.head.end
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.inner.raw.split(|&b| b == b'\r').next().unwrap_or_default();
        let start = start.get(..DEBUG_START_BYTES_MAX).unwrap_or(start);
        f.debug_struct("Message")
            .field("start", &String::from_utf8_lossy(start))
            .field("lines", &self.inner.head.entries.len())
            .field("body_bytes", &self.inner.body.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:a@example.com>;tag=1\r\n\
        To: <sip:b@example.com>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n";

    fn parse(text: impl AsRef<[u8]>) -> Result<Message, FrameError> {
        Message::parse(Bytes::copy_from_slice(text.as_ref()))
    }

    /// An INVITE with these lines after the essential ones.
    fn invite(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Message {
        let mut text = format!("INVITE sip:b@example.com SIP/2.0\r\n{HEAD}").into_bytes();
        for part in [lines.as_ref(), b"\r\n", body.as_ref()] {
            text.extend_from_slice(part);
        }
        parse(text).unwrap()
    }

    /// What `check` says of an INVITE in which one piece of text is another.
    fn changed(from: &str, to: &str) -> Result<(), Defect> {
        let text = format!("INVITE sip:b@example.com SIP/2.0\r\n{HEAD}\r\n");
        assert!(text.contains(from));
        parse(text.replacen(from, to, 1)).unwrap().check()
    }

    fn reason(result: Result<(), Defect>) -> String {
        let defect = result.unwrap_err();
        format!("{} {}", defect.status, defect.reason)
    }

    #[test]
    fn f1_headers_without_a_blank_line_are_no_message() {
        let whole = format!("INVITE sip:b@example.com SIP/2.0\r\n{HEAD}\r\n");
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
        assert!(parse(whole).is_ok());
    }

    #[test]
    fn f2_content_length_cuts_the_body_and_must_be_one_number_that_fits() {
        assert_eq!(invite("Content-Length: 3\r\n", "abcdef").body(), "abc");
        assert!(invite("Content-Length: 3\r\n", "abcdef").check().is_ok());
        // RFC 3261 §18.3: without one "the message body is assumed to end at the end of the transport packet."
        assert_eq!(invite("", "abcdef").body(), "abcdef");
        for (lines, why) in [
            ("Content-Length: 7\r\n", "400 Bad Content-Length"),
            ("Content-Length: -1\r\n", "400 Bad Content-Length"),
            ("Content-Length: +6\r\n", "400 Bad Content-Length"),
            ("Content-Length: 6, 6\r\n", "400 Bad Content-Length"),
            ("Content-Length:\r\n", "400 Bad Content-Length"),
            ("Content-Length: 99999999999999999999999\r\n", "400 Bad Content-Length"),
            ("Content-Length: 6\r\nl: 5\r\n", "400 Multiple Content-Length"),
        ] {
            assert_eq!(reason(invite(lines, "abcdef").check()), why, "{lines}");
        }
        for lines in ["l : 6\r\n", "Content-Length: 6\r\nL:6\r\n", "Content-Length:\r\n 0006\r\n"] {
            assert!(invite(lines, "abcdef").check().is_ok(), "{lines}");
        }
    }

    #[test]
    fn f3_a_binary_body_stays_as_it_is() {
        let body: Vec<u8> = (0..=255).chain(*b"\r\n \r\n\r\n\t").collect();
        assert_eq!(invite("", &body).body(), body);
        assert_eq!(invite("Subject: a\r\n b\r\n", &body).body(), body);
    }

    #[test]
    fn f4_crlfs_before_the_start_line_are_skipped() {
        // RFC 3261 §7.5: "implementations processing SIP messages over stream-oriented transports MUST ignore any CRLF appearing before".
        let message = parse(format!("\r\n\r\n\r\nINVITE sip:b@example.com SIP/2.0\r\n{HEAD}\r\n")).unwrap();
        assert!(message.raw().starts_with(b"INVITE"));
        assert!(message.check().is_ok());
        for nothing in ["", "\r\n", "\r\n\r\n", "\r\n\r\n\r\n"] {
            assert!(parse(nothing).is_err());
        }
    }

    #[test]
    fn f5_lines_that_end_with_a_bare_lf_are_no_message() {
        assert!(parse(format!("INVITE sip:b@example.com SIP/2.0\r\n{HEAD}\r\n").replace("\r\n", "\n")).is_err());
    }

    #[test]
    fn f6_bare_cr_bare_lf_and_nul_make_a_header_bad() {
        for control in ["\r", "\n", "\0"] {
            for value in [format!("a{control}b"), format!("a{control}"), format!("{control}b")] {
                let message = invite(format!("Subject: {value}\r\n"), "");
                assert_eq!(reason(message.check()), "400 Bad Subject", "{value:?}");
            }
            assert_eq!(reason(changed("INVITE", &format!("INVITE sip:x{control}"))), "400 Bad Request-Line");
        }
        // RFC 3261 §25.1: quoted-pair = "\" (%x00-09 / %x0B-0C / %x0E-7F)
        assert!(invite("Subject: \"a\\\0b\"\r\n", "").check().is_ok());
        assert!(invite("Subject: \"a\\\nb\"\r\n", "").check().is_err());
    }

    #[test]
    fn h1_compact_names_are_the_long_ones() {
        let text = "INVITE sip:b@example.com SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nT: <sip:b@h>\r\n\
            i: x\r\nCSeq: 1 INVITE\r\nm: <sip:a@h>\r\nk: timer\r\ns: hi\r\nc: text/plain\r\ne: gzip\r\no: refer\r\nr: <sip:c@h>\r\n\
            b: <sip:d@h>\r\nx: 90\r\nu: talk\r\ny: abc\r\na: *;audio\r\nd: proxy\r\nj: *;video\r\nn: <https://h/>\r\nl: 2\r\n\r\nabc";
        let message = parse(text).unwrap();
        message.check().unwrap();
        assert_eq!(message.via().unwrap().branch(), Some(&b"z9hG4bK1"[..]));
        assert_eq!((message.from_tag(), message.to_tag(), message.call_id().unwrap()), (Some("1"), None, "x"));
        assert_eq!(message.body(), "ab");
        for (name, value) in [
            (Name::Supported, "timer"),
            (Name::Subject, "hi"),
            (Name::ContentType, "text/plain"),
            (Name::ContentEncoding, "gzip"),
            (Name::Event, "refer"),
            (Name::ReferTo, "<sip:c@h>"),
            (Name::ReferredBy, "<sip:d@h>"),
            (Name::SessionExpires, "90"),
            (Name::AllowEvents, "talk"),
            (Name::Identity, "abc"),
        ] {
            assert_eq!(message.value(name), Some(value.as_bytes()), "{name:?}");
            assert_eq!(message.named(name.as_str()).next(), Some(value.as_bytes()), "{name:?}");
        }
        for (name, value) in [
            ("Accept-Contact", "*;audio"),
            ("Request-Disposition", "proxy"),
            ("reject-contact", "*;video"),
            ("Identity-Info", "<https://h/>"),
        ] {
            assert_eq!(message.named(name).collect::<Vec<_>>(), [value.as_bytes()], "{name}");
        }
    }

    #[test]
    fn h2_folded_values_and_blanks_before_the_colon_are_read() {
        let message = invite("Subject \t: one\r\n two \r\n\t  three\r\nX-Empty:\r\n \r\nExpires\t:\r\n 60\r\n", "body");
        message.check().unwrap();
        assert_eq!(message.value(Name::Subject), Some(&b"one two three"[..]));
        assert_eq!(message.value(Name::Expires), Some(&b"60"[..]));
        assert_eq!(message.named("x-empty").collect::<Vec<_>>(), [b""]);
        assert_eq!(message.body(), "body");
        assert!(parse(format!("INVITE sip:b@example.com SIP/2.0\r\n Subject: a\r\n{HEAD}\r\n")).is_err());
    }

    #[test]
    fn h3_one_bad_line_and_bytes_beyond_utf_8_harm_nothing_else() {
        let message = invite(b"no colon at all\r\n: no name\r\nBad Name: x\r\nSubject: J\xF6rg\r\nExpires: soon\r\nX-A: 1\r\n", "");
        message.check().unwrap();
        assert_eq!(message.value(Name::Subject), Some(&b"J\xF6rg"[..]));
        assert_eq!(message.named("X-A").next(), Some(&b"1"[..]));
        let nameless: Vec<_> = message.lines().filter(|line| line.spelled.is_empty()).map(|line| line.raw).collect();
        assert_eq!(nameless, [&b"no colon at all"[..], b": no name", b"Bad Name: x"]);
        assert_eq!(message.named("").count() + message.named("Bad Name").count() + message.named("no").count(), 0);
        let mut text = format!("INVITE sip:b@example.com SIP/2.0\r\n{HEAD}\r\n").into_bytes();
        text.splice(84..84, *b"\"J\xF6rg\" ");
        let message = parse(&text).unwrap();
        assert_eq!(message.from().unwrap().display, Some(&b"\"J\xF6rg\""[..]));
        assert_eq!(message.from_tag(), Some("1"));
    }

    #[test]
    fn h4_blanks_round_a_value_are_not_part_of_it() {
        let text = format!("INVITE sip:b@example.com SIP/2.0\r\n{HEAD}l:\t 3 \t\r\n\r\nabc").replace("Call-ID: c1", "Call-ID:  \tc1 \t");
        let message = parse(text).unwrap();
        message.check().unwrap();
        assert_eq!(message.call_id(), Ok("c1"));
        assert_eq!(message.body(), "abc");
    }

    #[test]
    fn h5_names_are_found_in_any_case_and_lines_keep_order_and_spelling() {
        let message = invite("SUBJECT:   x\r\nx-b: 2\r\nX-B: 3\r\nuser-AGENT:y\r\n", "");
        let lines: Vec<_> = message.lines().skip(6).map(|line| line.raw).collect();
        assert_eq!(lines, [&b"SUBJECT:   x"[..], b"x-b: 2", b"X-B: 3", b"user-AGENT:y"]);
        assert_eq!(message.lines().nth(6).unwrap().spelled, b"SUBJECT");
        assert_eq!(message.named("X-b").collect::<Vec<_>>(), [b"2", b"3"]);
        assert_eq!(message.value(Name::UserAgent), Some(&b"y"[..]));
    }

    #[test]
    fn s1_an_extension_method_is_a_method() {
        let message = parse(format!("SERVICE sip:b@h SIP/2.0\r\n{HEAD}\r\n").replace("1 INVITE", "1 SERVICE")).unwrap();
        message.check().unwrap();
        assert_eq!(message.method(), &Method::Ext("SERVICE".into()));
        assert!(parse(format!("SER{{}}VICE sip:b@h SIP/2.0\r\n{HEAD}\r\n")).is_err());
    }

    #[test]
    fn s2_methods_are_case_sensitive() {
        // RFC 3261 §7.1: "The method is case-sensitive"
        let message = parse(format!("invite sip:b@h SIP/2.0\r\n{HEAD}\r\n")).unwrap();
        assert_eq!(message.method(), &Method::Ext("invite".into()));
        assert_eq!(reason(message.check()), "400 Bad CSeq");
    }

    #[test]
    fn s3_another_version_is_framed_and_refused_with_505() {
        for (version, want) in [
            ("SIP/2.7", "505 Version Not Supported"),
            ("SIP/7.0", "505 Version Not Supported"),
            ("SIP/2", "400 Bad Request-Line"),
            ("SIP/two", "400 Bad Request-Line"),
        ] {
            assert_eq!(reason(changed("SIP/2.0\r\n", &format!("{version}\r\n"))), want);
        }
        // RFC 3261 §7.1: "the SIP-Version string is case-insensitive"
        assert_eq!(changed("SIP/2.0\r\n", "sip/2.0\r\n"), Ok(()));
        for other in ["HTTP/1.1", "SIPS/2.0", "2.0", ""] {
            assert!(parse(format!("INVITE sip:b@h {other}\r\n{HEAD}\r\n")).is_err(), "{other}");
        }
    }

    #[test]
    fn s4_a_status_line_has_three_digits_of_a_known_class() {
        for (line, status, phrase) in
            [("SIP/2.0 200 OK", 200, "OK"), ("SIP/2.0 200 ", 200, ""), ("SIP/2.0 200", 200, ""), ("sip/2.0 699 a  b ", 699, "a  b ")]
        {
            let message = parse(format!("{line}\r\n{HEAD}\r\n")).unwrap();
            message.check().unwrap();
            assert_eq!((message.status(), message.reason(), message.uri()), (status, phrase.as_bytes(), &b""[..]));
            assert_eq!((message.is_request(), message.method()), (false, &Method::INVITE));
        }
        for line in [
            "SIP/2.0 99 x",
            "SIP/2.0 099 x",
            "SIP/2.0 700 x",
            "SIP/2.0 999 x",
            "SIP/2.0 2000 x",
            "SIP/2.0 200OK",
            "SIP/2.0  200 OK",
            "SIP/2.0 +20 OK",
            "SIP/3.0 200 OK",
            "SIP/2.0",
            "SIP/",
        ] {
            assert!(parse(format!("{line}\r\n{HEAD}\r\n")).is_err(), "{line}");
        }
    }

    #[test]
    fn s5_a_reason_phrase_is_kept_as_it_came() {
        let message = parse(format!("SIP/2.0 486 B\u{FC}sy = 2**3\r\n{HEAD}\r\n")).unwrap();
        assert_eq!(message.reason(), "B\u{FC}sy = 2**3".as_bytes());
    }

    #[test]
    fn the_method_of_a_response_is_that_of_its_cseq() {
        let method = |cseq: &str| parse(format!("SIP/2.0 200 OK\r\n{HEAD}\r\n").replace("1 INVITE", cseq)).unwrap().method().clone();
        assert_eq!(method("1 BYE"), Method::BYE);
        assert_eq!(method("1 FOO"), Method::Ext("FOO".into()));
        assert_eq!(method("x"), Method::Ext("".into()));
    }

    #[test]
    fn a_request_line_with_odd_blanks_is_framed_and_refused() {
        for line in [
            "INVITE  sip:b@example.com SIP/2.0",
            "INVITE\tsip:b@example.com SIP/2.0",
            "INVITE sip:b@example.com  SIP/2.0",
            "INVITE sip:b@example.com\tSIP/2.0",
            "INVITE sip:b@example.com SIP/2.0 ",
            "INVITE sip:b@example.com; lr SIP/2.0",
            "INVITE  SIP/2.0",
        ] {
            let message = parse(format!("{line}\r\n{HEAD}\r\n"));
            assert!(message.is_err() || reason(message.unwrap().check()) == "400 Bad Request-Line", "{line}");
        }
        for uri in ["<sip:b@example.com>", "sip:b@example.com?Route=%3Csip:x%3E", "sip:2001:db8::10", "sip:", "b"] {
            assert_eq!(reason(changed("sip:b@example.com", uri)), "400 Bad Request-URI", "{uri}");
        }
        for uri in ["tel:+14155550100", "urn:service:sos", "soap.beep://192.0.2.103:3002"] {
            assert_eq!(changed("sip:b@example.com", uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn an_essential_header_must_be_there_once_and_readable() {
        for (line, name) in [
            ("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n", "Via"),
            ("From: <sip:a@example.com>;tag=1\r\n", "From"),
            ("To: <sip:b@example.com>\r\n", "To"),
            ("Call-ID: c1\r\n", "Call-ID"),
            ("CSeq: 1 INVITE\r\n", "CSeq"),
        ] {
            assert_eq!(reason(changed(line, "")), format!("400 Missing {name}"));
            assert_eq!(reason(changed(line, &format!("{name}: \r\n"))), format!("400 Bad {name}"));
            assert_eq!(reason(changed(line, &format!("{name} 1\r\n"))), format!("400 Missing {name}"));
            if name != "Via" {
                assert_eq!(reason(changed(line, &format!("{line}{line}"))), format!("400 Multiple {name}"));
            }
        }
        assert_eq!(changed("Max-Forwards: 70\r\n", ""), Ok(()));
        assert_eq!(reason(changed("Max-Forwards: 70\r\n", "Max-Forwards: 70\r\nMax-Forwards: 7\r\n")), "400 Multiple Max-Forwards");
    }

    #[test]
    fn an_unreadable_essential_header_is_named_in_the_400() {
        for (from, to, want) in [
            ("192.0.2.1;branch=z9hG4bKa", "192.0.2.15;;,;,,", "400 Bad Via"),
            ("<sip:a@example.com>;tag=1", "\"a <sip:a@example.com>;tag=1", "400 Bad From"),
            ("<sip:a@example.com>;tag=1", "Bell, A <sip:a@example.com>;tag=1", "400 Bad From"),
            ("<sip:b@example.com>", "< sip:b@example.com >", "400 Bad To"),
            ("<sip:b@example.com>", "<b>", "400 Bad To"),
            ("<sip:b@example.com>", "<sip:b@example.com>;tag=a@b", "400 Bad To"),
            (";tag=1", ";tag", "400 Bad From"),
            ("Call-ID: c1", "Call-ID: c1 c2", "400 Bad Call-ID"),
            ("1 INVITE", "2147483648 INVITE", "400 Bad CSeq"),
            ("1 INVITE", "-1 INVITE", "400 Bad CSeq"),
            ("1 INVITE", "1INVITE", "400 Bad CSeq"),
            ("1 INVITE", "1 BYE", "400 Bad CSeq"),
            ("Max-Forwards: 70", "Max-Forwards: 256", "400 Bad Max-Forwards"),
            ("Max-Forwards: 70", "Max-Forwards: 7x", "400 Bad Max-Forwards"),
            ("Max-Forwards: 70", "Contact: sip:a@h?Route=%3Cx%3E", "400 Bad Contact"),
            ("Max-Forwards: 70", "Contact: <sip:a@h>, <sip:b@h", "400 Bad Contact"),
            ("Max-Forwards: 70", "Require: 100rel, a b", "400 Bad Require"),
        ] {
            assert_eq!(reason(changed(from, to)), want, "{to}");
        }
        for (from, to) in [
            ("1 INVITE", "2147483647 INVITE"),
            ("1 INVITE", "0009 \t INVITE"),
            ("Max-Forwards: 70", "Max-Forwards: 0255"),
            ("Max-Forwards: 70", "Contact: *"),
            ("Max-Forwards: 70", "Require: 100rel,timer"),
            (";tag=1", ""),
            (";branch=z9hG4bKa", ""),
        ] {
            assert_eq!(changed(from, to), Ok(()), "{to}");
        }
    }

    #[test]
    fn a_bad_line_is_named_only_when_its_name_is_short_text() {
        let long = "X".repeat(65);
        assert_eq!(reason(invite(format!("{long}: a\0b\r\n"), "").check()), "400 Bad header line");
        assert_eq!(reason(invite("a\0b\r\n", "").check()), "400 Bad header line");
        assert_eq!(reason(invite("X-Ab: a\0b\r\n", "").check()), "400 Bad X-Ab");
    }

    #[test]
    fn lists_are_split_outside_quotes_and_brackets() {
        let lines = "Contact: \"a, b\" <sip:a@h;x=1,2>, <sip:c@h>\r\nm: ,, <sip:d@h> ,\r\nSupported: timer , 100REL;x=1\r\nRequire:\r\n";
        let message = invite(lines, "");
        let contacts: Vec<_> = message.elements(Name::Contact).collect();
        assert_eq!(contacts, [&b"\"a, b\" <sip:a@h;x=1,2>"[..], b"<sip:c@h>", b"<sip:d@h>"]);
        assert_eq!(message.contact().unwrap().uri, b"sip:a@h;x=1,2");
        assert!(message.lists(Name::Supported, "100rel") && message.lists(Name::Supported, "TIMER"));
        assert!(!message.lists(Name::Supported, "100re") && !message.lists(Name::Require, "") && !message.lists(Name::Allow, "BYE"));
        assert_eq!(message.values(Name::Contact).count(), 2);
        assert_eq!(message.values(Name::Other).count(), 0);
    }

    #[test]
    fn each_cap_holds_one_past_it() {
        let with = |lines: usize| format!("INVITE sip:b@h SIP/2.0\r\n{}\r\n", "X: y\r\n".repeat(lines));
        assert_eq!(parse(with(SIP_HEADER_LINES_MAX)).unwrap().lines().count(), SIP_HEADER_LINES_MAX);
        assert!(parse(with(SIP_HEADER_LINES_MAX + 1)).is_err());
        let line = |bytes: usize| format!("INVITE sip:b@h SIP/2.0\r\nX: {}\r\n\r\n", "y".repeat(bytes - 3));
        assert!(parse(line(SIP_LINE_BYTES_MAX)).is_ok());
        assert!(parse(line(SIP_LINE_BYTES_MAX + 1)).is_err());
        let start = |bytes: usize| format!("INVITE sip:{} SIP/2.0\r\nX: y\r\n\r\n", "y".repeat(bytes - 19));
        assert!(parse(start(SIP_LINE_BYTES_MAX)).is_ok());
        assert!(parse(start(SIP_LINE_BYTES_MAX + 1)).is_err());
        let body = |bytes: usize| format!("A b SIP/2.0\r\n\r\n{}", "z".repeat(bytes - 15));
        assert!(parse(body(SIP_MESSAGE_BYTES_MAX)).is_ok());
        assert!(parse(body(SIP_MESSAGE_BYTES_MAX + 1)).is_err());
        let folded = |bytes: usize| format!("A b SIP/2.0\r\nX: y\r\n z\r\n\r\n{}", "z".repeat(bytes - 25));
        assert!(parse(folded(SIP_MESSAGE_BYTES_MAX)).is_ok());
        assert!(parse(folded(SIP_MESSAGE_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn the_longest_head_has_places_of_two_bytes() {
        let tail = "\r\n\r\n";
        let mut text = String::from("A b SIP/2.0");
        while text.len() < SIP_MESSAGE_BYTES_MAX - 1000 {
            text += &format!("\r\nX: {}", "y".repeat(900));
        }
        text += "\r\nLast: ";
        text += &"z".repeat(SIP_MESSAGE_BYTES_MAX - text.len() - tail.len());
        text += tail;
        assert_eq!(text.len(), SIP_MESSAGE_BYTES_MAX);
        let message = parse(&text).unwrap();
        let last = message.named("Last").next().unwrap();
        assert!(last.len() > 10 && last.iter().all(|&b| b == b'z'));
        assert!(message.body().is_empty());
    }

    #[test]
    fn debug_text_is_short_whatever_came() {
        let message = parse(format!("INVITE sip:{} SIP/2.0\r\n{HEAD}\r\n{}", "a".repeat(8000), "b".repeat(50_000))).unwrap();
        assert!(format!("{message:?}").len() < 400);
        fn shared(_: impl Send + Sync + Clone + 'static) {}
        shared(message);
    }

    #[test]
    fn dead_ends_of_64_kib_are_no_message() {
        for pattern in ["\r", "\n", "\0", "\r\n", "\r\n ", "a", "A b SIP/2.0\r\n ", ",", "\r\n\t\r\n"] {
            let text = pattern.repeat(SIP_MESSAGE_BYTES_MAX / pattern.len());
            assert!(parse(&text).is_err(), "{pattern:?}");
            let inside = format!("INVITE sip:b@h SIP/2.0\r\nSubject: x{}", &text[..60_000]);
            assert!(parse(&inside).is_err() || parse(&inside).unwrap().check().is_err(), "{pattern:?}");
        }
    }

    /// Pieces that framing hangs on, mixed with noise.
    fn soup() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"\r\n ".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\0".to_vec()),
            Just(b": ".to_vec()),
            Just(b"Content-Length: 4\r\n".to_vec()),
            Just(b"l:\r\n 4\r\n".to_vec()),
            Just(b"Via: SIP/2.0/UDP h;branch=z9hG4bK1,\r\n".to_vec()),
            Just(b"To: \"x <sip:a@b>\r\n".to_vec()),
            Just(HEAD.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..12),
        ];
        let start = prop_oneof![
            Just(b"INVITE sip:b@h SIP/2.0\r\n".to_vec()),
            Just(b"SIP/2.0 200 OK\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..30),
        ];
        (start, proptest::collection::vec(piece, 0..12))
            .prop_map(|(start, pieces)| [start, pieces.concat(), b"\r\n\r\nabcdef".to_vec()].concat())
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_value_that_passes_holds_a_line_end(bytes in soup()) {
            if let Ok(message) = parse(&bytes) {
                let sound = message.check().is_ok();
                for line in message.lines() {
                    prop_assert!(!sound || !line.raw.iter().any(|&b| b == b'\r' || b == b'\n'));
                    prop_assert!(line.spelled.is_empty() || message.named(std::str::from_utf8(line.spelled).unwrap()).any(|v| v == line.value));
                }
                let _ = (message.from_tag(), message.to_tag(), message.contact(), message.max_forwards(), message.body());
                let _ = format!("{message:?}");
            }
        }

        #[test]
        fn lines_cover_the_head_bit_for_bit(values in proptest::collection::vec("[ -~\u{80}-\u{FF}]{0,40}", 0..60)) {
            let lines: Vec<String> = values.iter().enumerate().map(|(i, value)| format!("X-{i}:{value}")).collect();
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let message = invite(&text, "");
            let got: Vec<&[u8]> = message.lines().skip(6).map(|line| line.raw).collect();
            let want: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn a_folded_message_says_what_the_flat_one_says(words in proptest::collection::vec("[a-z]{1,9}", 1..9), body: Vec<u8>) {
            let flat = invite(format!("Subject: {}\r\n", words.join(" ")), &body);
            let folded = invite(format!("Subject:\r\n\t{}\r\n", words.join(" \r\n  ")), &body);
            prop_assert_eq!(flat.value(Name::Subject), folded.value(Name::Subject));
            prop_assert_eq!(flat.body(), folded.body());
            prop_assert!(folded.check().is_ok());
        }
    }
}
