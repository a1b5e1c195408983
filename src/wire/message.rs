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
use crate::wire::header::CSeq;
use crate::wire::header::NameAddr;
use crate::wire::header::Via;
use crate::wire::header::elements;
use crate::wire::method::Method;
pub use crate::wire::name::Name;
use crate::wire::name::same_other;
pub use crate::wire::head::SIP_HEADER_LINES_MAX;
pub use crate::wire::head::SIP_LINE_BYTES_MAX;
pub use crate::wire::head::SIP_MESSAGE_BYTES_MAX;
use crate::wire::head::Entry;
use crate::wire::head::Flaw;
use crate::wire::head::Head;
use crate::wire::head::Length;
use crate::wire::head::Scanned;
use crate::wire::head::Start;
use crate::wire::head::leading_crlfs;
use crate::wire::head::scan;

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
        elements(line).next().and_then(Via::parse).ok_or_else(|| bad(Name::Via))
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
