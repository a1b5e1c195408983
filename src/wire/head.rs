//! The one place that says where a message begins and ends, in a datagram and in a stream: start line, header lines, Content-Length.

use std::ops::Range;

use compact_str::CompactString;
use memchr::memchr;
use memchr::memchr_iter;
use memchr::memchr2;
use memchr::memmem;
use smallvec::SmallVec;

use crate::wire::header::CSeq;
use crate::wire::header::scan::is_blank;
use crate::wire::header::scan::number;
use crate::wire::message::FrameError;
use crate::wire::method::Method;
use crate::wire::method::is_token;
use crate::wire::method::is_token_byte;
use crate::wire::name::Name;

/// A whole message: start line, headers and body.
pub const SIP_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Header lines of one message.
pub const SIP_HEADER_LINES_MAX: usize = 256;
/// One line without its CRLF, folds already joined.
pub const SIP_LINE_BYTES_MAX: usize = 8 * 1024;

pub(super) const NO_START: &str = "no SIP start line";

/// Header lines that are held without an allocation of their own.
const INLINE_LINES: usize = 40;

/// A place in the head. The head is shorter than 64 KiB, so two bytes are enough.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Span {
    from: u16,
    to: u16,
}

impl Span {
    fn new(from: usize, to: usize) -> Span {
        Span { from: from as u16, to: to as u16 }
    }

    pub fn range(self) -> Range<usize> {
        usize::from(self.from)..usize::from(self.to)
    }

    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }
}

/// One header line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub name: Name,
    /// Length of the name as spelled; 0 when the line is not `token HCOLON value`.
    pub spelled: u16,
    /// The whole line, without its CRLF.
    pub line: Span,
    /// The value, trimmed.
    pub value: Span,
}

/// The first line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Start {
    Request { uri: Span },
    Response { status: u16, reason: Span },
}

/// What the Content-Length lines say together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    Absent,
    Bytes(usize),
    /// Not digits, negative, or beyond all bounds.
    Bad,
    /// Two lines that differ.
    Torn,
}

/// Something wrong that still leaves the message framed, so that it can be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// A well-formed SIP-Version other than 2.0 (RFC 3261 §21.5.6).
    Version,
    /// Blanks at the wrong places, or a version that is none.
    RequestLine,
    /// Bare CR, bare LF or NUL in the header line of that index.
    Control(u16),
}

/// A head, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// Of the request line; of CSeq in a response, `Ext("")` when that is unreadable.
    pub method: Method,
    pub start: Start,
    pub entries: SmallVec<[Entry; INLINE_LINES]>,
    /// One bit for each name that is there.
    pub present: u64,
    /// One bit for each name that is there more than once.
    pub repeated: u64,
    pub length: Length,
    pub flaw: Option<Flaw>,
    /// Where the body begins.
    pub end: usize,
}

/// A head in which no line is folded any more.
pub(super) struct Scanned {
    pub head: Head,
    /// The bytes that `head` speaks of when they are not the given ones: a line was folded.
    pub rebuilt: Option<Vec<u8>>,
}

/// Reads the head that `bytes` begins with. What follows the head is only looked at to copy it when a line is folded.
pub(super) fn scan(bytes: &[u8]) -> Result<Scanned, FrameError> {
    match scan_flat(bytes) {
        Ok(head) => Ok(Scanned { head, rebuilt: None }),
        Err(Stop::Frame(why)) => Err(FrameError { why }),
        Err(Stop::Fold) => {
            let flat = unfold(bytes);
            match scan_flat(&flat) {
                Ok(head) => Ok(Scanned { head, rebuilt: Some(flat) }),
                Err(Stop::Frame(why)) => Err(FrameError { why }),
                Err(Stop::Fold) => Err(FrameError { why: "a fold that cannot be joined" }),
            }
        }
    }
}

/// How many bytes of CRLFs stand before the start line (RFC 3261 §7.5).
pub(super) fn leading_crlfs(bytes: &[u8]) -> usize {
    bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

enum Stop {
    Frame(&'static str),
    Fold,
}

fn scan_flat(bytes: &[u8]) -> Result<Head, Stop> {
    let bytes = bytes.get(..SIP_MESSAGE_BYTES_MAX).unwrap_or(bytes);
    if !bytes.first().is_some_and(|&b| is_token_byte(b)) {
        return Err(Stop::Frame(NO_START));
    }
    let mut torn = false;
    let line_end = line_end(bytes, 0, &mut torn)?;
    let line = bytes.get(..line_end).unwrap_or_default();
    let (method, start, flaw) = start_line(line).ok_or(Stop::Frame(NO_START))?;
    let mut head =
        Head { method, start, entries: SmallVec::new(), present: 0, repeated: 0, length: Length::Absent, flaw, end: line_end + 2 };
    loop {
        match bytes.get(head.end..) {
            Some([b'\r', b'\n', ..]) => break,
            Some([b' ' | b'\t', ..]) if head.entries.is_empty() => return Err(Stop::Frame("a blank before the first header")),
            Some([b' ' | b'\t', ..]) => return Err(Stop::Fold),
            _ => header_line(bytes, &mut head, &mut torn)?,
        }
    }
    head.end += 2;
    // The flaw of the start line stands before those of the header lines.
    if head.flaw.is_none() && (torn || !is_clean(bytes.get(..head.end).unwrap_or_default(), head.entries.len() + 2)) {
        head.flaw = control(bytes, line_end, &head.entries);
    }
    Ok(head)
}

/// Whether each LF of the head belongs to one of the line ends, and no NUL is there.
fn is_clean(head: &[u8], line_ends: usize) -> bool {
    memchr_iter(b'\n', head).count() == line_ends && memchr(0, head).is_none()
}

/// The line that makes a head unclean, if it is not just a NUL at its legal place (RFC 3261 §25.1: a quoted-pair may hold it).
fn control(bytes: &[u8], start_bytes: usize, entries: &[Entry]) -> Option<Flaw> {
    let clean = |line: &[u8]| {
        let quoted = |nul: usize| nul.checked_sub(1).and_then(|before| line.get(before)) == Some(&b'\\');
        memchr2(b'\r', b'\n', line).is_none() && memchr_iter(0, line).all(quoted)
    };
    if !clean(bytes.get(..start_bytes).unwrap_or_default()) {
        return Some(Flaw::RequestLine);
    }
    entries.iter().position(|entry| !clean(entry.line.of(bytes))).map(|at| Flaw::Control(at as u16))
}

fn header_line(bytes: &[u8], head: &mut Head, torn: &mut bool) -> Result<(), Stop> {
    if head.entries.len() == SIP_HEADER_LINES_MAX {
        return Err(Stop::Frame("more than 256 header lines"));
    }
    let from = head.end;
    let end = line_end(bytes, from, torn)?;
    if end - from > SIP_LINE_BYTES_MAX {
        return Err(Stop::Frame("a line over 8 KiB"));
    }
    let line = bytes.get(from..end).unwrap_or_default();
    let entry = match name_of(line) {
        Some((name, spelled, colon)) => {
            let value = trim(line.get(colon + 1..).unwrap_or_default());
            let value_from = from + colon + 1 + value.0;
            Entry { name, spelled: spelled as u16, line: Span::new(from, end), value: Span::new(value_from, value_from + value.1) }
        }
        None => Entry { name: Name::Other, spelled: 0, line: Span::new(from, end), value: Span::new(from, end) },
    };
    let bit = entry.name.bit();
    head.repeated |= head.present & bit;
    head.present |= bit;
    if entry.name == Name::ContentLength {
        head.length = head.length.and(content_length(entry.value.of(bytes)));
    }
    if entry.name == Name::CSeq && matches!(head.start, Start::Response { .. }) && head.repeated & bit == 0 {
        let method = CSeq::parse(entry.value.of(bytes)).and_then(|cseq| Method::parse(cseq.method));
        head.method = method.unwrap_or(NO_METHOD);
    }
    head.entries.push(entry);
    head.end = end + 2;
    Ok(())
}

/// Where the line ends: at the CR of its CRLF. `torn` is set when a bare CR stands before.
fn line_end(bytes: &[u8], from: usize, torn: &mut bool) -> Result<usize, Stop> {
    const NO_END: Stop = Stop::Frame("no blank line after the headers, or a line over 8 KiB");
    let rest = bytes.get(from..).unwrap_or_default();
    let at = memchr(b'\r', rest).ok_or(NO_END)?;
    if rest.get(at + 1) == Some(&b'\n') {
        return Ok(from + at);
    }
    *torn = true;
    // Rare and hostile: a search that no flood of half an end slows down, and it need not go beyond the longest line.
    let line = rest.get(..SIP_LINE_BYTES_MAX + 2).unwrap_or(rest);
    memmem::find(line, b"\r\n").map(|at| from + at).ok_or(NO_END)
}

/// Id and length of the name, and the place of the colon (RFC 3261 §25.1 HCOLON: blanks may stand before it); `None` when this is no
/// header line.
fn name_of(line: &[u8]) -> Option<(Name, usize, usize)> {
    let colon = memchr(b':', line)?;
    let mut spelled = line.get(..colon)?;
    while let [shorter @ .., b' ' | b'\t'] = spelled {
        spelled = shorter;
    }
    let name = Name::of(spelled);
    // The names that have an id are tokens.
    (name != Name::Other || is_token(spelled)).then_some((name, spelled.len(), colon))
}

/// Offset and length of what is between the outer blanks.
fn trim(text: &[u8]) -> (usize, usize) {
    let mut inner = text;
    while let [b' ' | b'\t', rest @ ..] = inner {
        inner = rest;
    }
    let from = text.len() - inner.len();
    while let [rest @ .., b' ' | b'\t'] = inner {
        inner = rest;
    }
    (from, inner.len())
}

impl Length {
    fn and(self, other: Length) -> Length {
        match (self, other) {
            (Length::Absent, length) => length,
            (one, two) if one == two => one,
            (Length::Bytes(_), Length::Bytes(_)) => Length::Torn,
            (Length::Torn, _) => Length::Torn,
            _ => Length::Bad,
        }
    }
}

/// Digits only (RFC 3261 §20.14); a number that no message can have is as bad as none.
fn content_length(value: &[u8]) -> Length {
    match number(value, u64::from(u32::MAX)) {
        Some(bytes) => Length::Bytes(bytes as usize),
        None => Length::Bad,
    }
}

const NO_METHOD: Method = Method::Ext(CompactString::const_new(""));

/// A request line is taken when it begins with a token and ends with something like a SIP-Version, so that what is wrong with it can be
/// answered; a status line must be right (RFC 3261 §7.1, §7.2).
fn start_line(line: &[u8]) -> Option<(Method, Start, Option<Flaw>)> {
    if line.len() > SIP_LINE_BYTES_MAX {
        return None;
    }
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return Some((NO_METHOD, status_line(line)?, None));
    }
    let space = line.iter().position(|&b| is_blank(b))?;
    let method = Method::parse(line.get(..space)?)?;
    let (blanks, length) = trim(line.get(space..)?);
    let rest = line.get(space + blanks..space + blanks + length)?;
    let last = rest.iter().rposition(|&b| is_blank(b))?;
    let version = rest.get(last + 1..)?;
    let (_, uri_length) = trim(rest.get(..last)?);
    let uri_from = space + blanks;
    let uri = Span::new(uri_from, uri_from + uri_length);
    let tidy = blanks == 1
        && line.get(space) == Some(&b' ')
        && line.get(uri_from + uri_length) == Some(&b' ')
        && uri_from + uri_length + 1 + version.len() == line.len()
        && !uri.of(line).iter().any(|&b| is_blank(b));
    let flaw = match version_of(version)? {
        Version::Two if tidy => None,
        Version::Another => Some(Flaw::Version),
        Version::Two | Version::None => Some(Flaw::RequestLine),
    };
    Some((method, Start::Request { uri }, flaw))
}

enum Version {
    Two,
    Another,
    None,
}

/// `None` when this is another protocol.
fn version_of(text: &[u8]) -> Option<Version> {
    let (name, number) = text.split_at_checked(4)?;
    if !name.eq_ignore_ascii_case(b"SIP/") {
        return None;
    }
    if number == b"2.0" {
        return Some(Version::Two);
    }
    let dot = memchr(b'.', number).unwrap_or(number.len());
    let digits = |part: Option<&[u8]>| part.is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    Some(if digits(number.get(..dot)) && digits(number.get(dot + 1..)) { Version::Another } else { Version::None })
}

/// `SIP/2.0 200 OK`; the blank before an empty reason phrase may be missing.
fn status_line(line: &[u8]) -> Option<Start> {
    let (version, rest) = line.split_at_checked(8)?;
    let (code, reason) = rest.split_at_checked(3)?;
    let status = number(code, 699)? as u16;
    let reason_from = match reason {
        [] => line.len(),
        [b' ', ..] => 12,
        _ => return None,
    };
    (version.eq_ignore_ascii_case(b"SIP/2.0 ") && status >= 100)
        .then_some(Start::Response { status, reason: Span::new(reason_from, line.len()) })
}

/// The same message with each fold of the header section (`*WSP CRLF 1*WSP`, RFC 3261 §7.3.1) as one blank; the body is untouched.
fn unfold(bytes: &[u8]) -> Vec<u8> {
    let mut flat: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr(b'\r', rest) {
        match rest.get(at..) {
            Some([b'\r', b'\n', b'\r', b'\n', ..]) => break,
            Some([b'\r', b'\n', b' ' | b'\t', ..]) => {
                flat.extend_from_slice(rest.get(..at).unwrap_or_default());
                flat.truncate(flat.iter().rposition(|&b| !is_blank(b)).map_or(0, |last| last + 1));
                let after = rest.get(at + 2..).unwrap_or_default();
                let blanks = after.iter().position(|&b| !is_blank(b)).unwrap_or(after.len());
                rest = after.get(blanks..).unwrap_or_default();
                flat.push(b' ');
            }
            _ => {
                flat.extend_from_slice(rest.get(..at + 1).unwrap_or_default());
                rest = rest.get(at + 1..).unwrap_or_default();
            }
        }
    }
    flat.extend_from_slice(rest);
    flat
}
