//! Framing of a byte stream (RFC 3261 §18.3) by the same authority as datagrams.

use std::mem;

use bytes::Bytes;
use memchr::memmem;

use crate::wire::message::FrameError;
use crate::wire::message::SIP_MESSAGE_BYTES_MAX;
use crate::wire::head::Length;
use crate::wire::head::is_token_byte;
use crate::wire::head::scan;

/// An idle connection holds no more than this.
const IDLE_BUFFER_BYTES_MAX: usize = 16 * 1024;

/// What comes out of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// One message, whole.
    Message(Bytes),
    /// CRLFCRLF (RFC 5626 §3.5.1): answer with CRLF.
    Ping,
    /// A single CRLF. It comes with the byte that follows it, for only that tells it from the first half of a ping.
    Pong,
}

/// A stream that cannot be framed any more: answer what can be answered (400), then close.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamError {
    pub why: FrameError,
    /// The offending head, as far as it came, bounded.
    pub head: Bytes,
}

/// Bytes in, frames out. Between two `next` that returned `None` it holds less than one message and what was pushed since.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes at the beginning of `buffer` that left in frames.
    taken: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits for the end of a head; so many bytes of it were searched.
    Head { searched: usize },
    /// Waits for the end of a message of so many bytes.
    Body { message_bytes: usize },
    /// Nothing that follows can be framed.
    Broken(StreamError),
}

impl Default for State {
    fn default() -> State {
        State::Head { searched: 0 }
    }
}

impl Framer {
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Broken(_)) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Call it until it returns `None` or an error; the error stays.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        let step = match self.state {
            State::Broken(ref error) => return Err(error.clone()),
            State::Head { searched } => self.head(searched),
            State::Body { message_bytes } => Ok(self.message(message_bytes)),
        };
        match step {
            Ok(None) => {
                self.compact();
                Ok(None)
            }
            Ok(frame) => Ok(frame),
            Err(error) => {
                self.buffer = Vec::new();
                self.taken = 0;
                self.state = State::Broken(error.clone());
                Err(error)
            }
        }
    }

    /// Bytes that wait for the rest of their message.
    pub fn pending(&self) -> usize {
        self.buffer.len().saturating_sub(self.taken)
    }

    fn waiting(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    fn head(&mut self, searched: usize) -> Result<Option<Frame>, StreamError> {
        match self.waiting() {
            [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Some(self.take(4, Frame::Ping))),
            [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => return Ok(Some(self.take(2, Frame::Pong))),
            [first, ..] if !is_token_byte(*first) => return Err(self.error("no SIP start line", 1)),
            _ => {}
        }
        let waiting = self.waiting();
        let window = waiting.get(..SIP_MESSAGE_BYTES_MAX).unwrap_or(waiting);
        // The end may have come in parts: three of its four bytes can stand before what is new.
        let from = searched.saturating_sub(3);
        let Some(at) = memmem::find(window.get(from..).unwrap_or_default(), b"\r\n\r\n") else {
            if waiting.len() >= SIP_MESSAGE_BYTES_MAX {
                return Err(self.error("a head over 64 KiB", SIP_MESSAGE_BYTES_MAX));
            }
            self.state = State::Head { searched: waiting.len() };
            return Ok(None);
        };
        let head_bytes = from + at + 4;
        let message_bytes = self.message_bytes(head_bytes).map_err(|why| self.error(why, head_bytes))?;
        self.state = State::Body { message_bytes };
        Ok(self.message(message_bytes))
    }

    /// RFC 3261 §18.3: on a stream Content-Length must be there, and it is read by the code that `Message::parse` reads it by.
    fn message_bytes(&self, head_bytes: usize) -> Result<usize, &'static str> {
        let head = self.waiting().get(..head_bytes).unwrap_or_default();
        let scanned = scan(head).map_err(|error| error.why)?;
        match scanned.head.length {
            Length::Bytes(body) if head_bytes + body > SIP_MESSAGE_BYTES_MAX => Err("a message over 64 KiB"),
            Length::Bytes(body) => Ok(head_bytes + body),
            Length::Absent => Err("no Content-Length on a stream"),
            Length::Bad => Err("a Content-Length that is no number"),
            Length::Torn => Err("two different Content-Lengths"),
        }
    }

    fn message(&mut self, message_bytes: usize) -> Option<Frame> {
        let message = Bytes::copy_from_slice(self.waiting().get(..message_bytes)?);
        Some(self.take(message_bytes, Frame::Message(message)))
    }

    fn take(&mut self, bytes: usize, frame: Frame) -> Frame {
        self.taken += bytes;
        self.state = State::default();
        frame
    }

    fn error(&self, why: &'static str, head_bytes: usize) -> StreamError {
        let waiting = self.waiting();
        let head = waiting.get(..head_bytes).unwrap_or(waiting);
        StreamError { why: FrameError { why }, head: Bytes::copy_from_slice(head) }
    }

    fn compact(&mut self) {
        if self.taken > 0 {
            self.buffer.drain(..mem::take(&mut self.taken));
        }
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BUFFER_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }
}
