//! The writer: a message of ours as an edit list, lines kept or put in order, printed once.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::ids::LocalTag;
use crate::wire::message::Line;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;

/// A message of ours before it is printed. A request has no Via yet: the branch and transport are added at print time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Start line without CRLF.
    start: Vec<u8>,
    method: Method,
    /// Header lines with their CRLF, in order; no Via of ours, no Content-Length.
    lines: Vec<u8>,
    body: Bytes,
}

#[allow(unused_variables, clippy::todo)]
impl Draft {
    pub fn request(method: Method, uri: &[u8]) -> Draft {
        todo!()
    }
    /// A response to `request`: its Vias (`received` and `rport` added to the top one, RFC 3261 §18.2.1, RFC 3581 §4), From, To (with
    /// `tag` added when it has none), Call-ID, CSeq; Timestamp in a 100. `reason` empty: the standard phrase.
    pub fn response(request: &Message, source: SocketAddr, status: u16, reason: &str, tag: Option<&LocalTag>) -> Draft {
        todo!()
    }
    /// Appends a line. CR, LF and NUL in `value` become blanks: no value can end its line.
    pub fn put(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Draft {
        todo!()
    }
    /// Appends a received line byte for byte.
    pub fn keep(&mut self, line: Line<'_>) -> &mut Draft {
        todo!()
    }
    /// Appends all lines of that name of a received message (Record-Route of a response that makes a dialog).
    pub fn keep_all(&mut self, message: &Message, name: Name) -> &mut Draft {
        todo!()
    }
    /// Sets the body; an empty `content_type` puts no Content-Type line.
    pub fn body(&mut self, content_type: &str, body: Bytes) -> &mut Draft {
        todo!()
    }
    /// Bytes when printed, without the Via.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn method(&self) -> &Method {
        todo!()
    }
    /// Replaces the Request-URI (another target's host).
    pub fn set_uri(&mut self, uri: &[u8]) {
        todo!()
    }
    /// The bytes. `via`: the value of our Via line, put first (`None` in responses). Content-Length is always printed.
    pub fn print(&self, via: Option<&str>) -> Bytes {
        todo!()
    }
}

#[allow(unused_variables, clippy::todo)]
pub fn reason_phrase(status: u16) -> &'static str {
    todo!()
}
