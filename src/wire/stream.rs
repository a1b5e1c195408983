//! Framing of a byte stream (RFC 3261 §18.3) by the same authority as datagrams.

use bytes::Bytes;

use crate::wire::message::FrameError;

/// What comes out of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// One message, whole.
    Message(Bytes),
    /// CRLFCRLF (RFC 5626 §3.5.1): answer with CRLF.
    Ping,
    /// A single CRLF.
    Pong,
}

/// A stream that cannot be framed any more: answer what can be answered (400), then close.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamError {
    pub why: FrameError,
    /// The offending head, as far as it came, bounded.
    pub head: Bytes,
}

/// Bytes in, frames out.
#[derive(Debug, Default)]
pub struct Framer {}

#[allow(unused_variables, clippy::todo)]
impl Framer {
    pub fn push(&mut self, bytes: &[u8]) {
        todo!()
    }
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        todo!()
    }
    /// Bytes that wait for the rest of their message.
    pub fn pending(&self) -> usize {
        todo!()
    }
}
