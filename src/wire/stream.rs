//! Framing of a byte stream (RFC 3261 §18.3) by the same authority as datagrams.

use std::mem;

use bytes::Bytes;
use memchr::memmem;

use crate::wire::head::Length;
use crate::wire::head::NO_START;
use crate::wire::head::scan;
use crate::wire::message::FrameError;
use crate::wire::message::SIP_MESSAGE_BYTES_MAX;
use crate::wire::method::is_token_byte;

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

/// Bytes in, frames out. Between two `next_frame` that returned `None` it holds less than one message and what was pushed since.
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
    pub fn next_frame(&mut self) -> Result<Option<Frame>, StreamError> {
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
            [first, ..] if !is_token_byte(*first) => return Err(self.error(NO_START, 1)),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::message::Message;
    use crate::wire::message::SIP_HEADER_LINES_MAX;

    const HEAD: &str = "OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n";

    fn message(lines: &str, body: &str) -> Vec<u8> {
        format!("{HEAD}{lines}\r\n{body}").into_bytes()
    }

    /// Everything that comes out of these pieces, until nothing or an error does.
    fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<StreamError>, usize) {
        let mut framer = Framer::default();
        let mut out = Vec::new();
        for piece in pieces {
            framer.push(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => out.push(frame),
                    Ok(None) => break,
                    Err(error) => return (out, Some(error), framer.pending()),
                }
            }
        }
        (out, None, framer.pending())
    }

    fn error(text: &[u8]) -> &'static str {
        frames([text]).1.expect("an error").why.why
    }

    fn whole(text: &[u8]) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text))
    }

    #[test]
    fn messages_that_follow_each_other_come_one_by_one() {
        let (a, b) = (message("Content-Length: 3\r\n", "abc"), message("l: 0\r\n", ""));
        let text = [&a[..], &b, &a, &b[..9]].concat();
        assert_eq!(frames([&text[..]]), (vec![whole(&a), whole(&b), whole(&a)], None, 9));
    }

    #[test]
    fn crlfs_between_messages_are_pings_and_pongs() {
        // RFC 5626 §3.5.1: a double CRLF is the "ping", a single one the "pong".
        let a = message("l: 0\r\n", "");
        let text = [b"\r\n\r\n", &a[..], b"\r\n", &a, b"\r\n\r\n\r\n\r\n\r\n", &a].concat();
        let want = vec![Frame::Ping, whole(&a), Frame::Pong, whole(&a), Frame::Ping, Frame::Ping, Frame::Pong, whole(&a)];
        assert_eq!(frames([&text[..]]), (want, None, 0));
    }

    #[test]
    fn a_single_crlf_waits_for_the_byte_that_follows() {
        let mut framer = Framer::default();
        framer.push(b"\r\n");
        assert_eq!((framer.next_frame(), framer.pending()), (Ok(None), 2));
        framer.push(b"\r");
        assert_eq!(framer.next_frame(), Ok(None));
        framer.push(b"\n");
        assert_eq!((framer.next_frame(), framer.next_frame()), (Ok(Some(Frame::Ping)), Ok(None)));
        framer.push(b"\r\nO");
        assert_eq!((framer.next_frame(), framer.next_frame(), framer.pending()), (Ok(Some(Frame::Pong)), Ok(None), 1));
    }

    #[test]
    fn content_length_is_read_in_every_spelling_that_the_parser_reads() {
        for lines in [
            "Content-Length: 3\r\n",
            "l:3\r\n",
            "L \t:\t003 \r\n",
            "CONTENT-LENGTH:\r\n 3\r\n",
            "l: 3\r\nContent-Length: 3\r\n",
            "Subject: Content-Length: 9\r\nX-l: 9\r\nl: 3\r\n",
            "Subject: a\r\n Content-Length: 9\r\nl: 3\r\n",
        ] {
            let first = message(lines, "abc");
            let text = [&first[..], &first].concat();
            assert_eq!(frames([&text[..]]), (vec![whole(&first), whole(&first)], None, 0), "{lines}");
        }
    }

    #[test]
    fn a_stream_without_one_sure_content_length_is_broken() {
        for (lines, why) in [
            ("", "no Content-Length on a stream"),
            ("Content-Length 3\r\n", "no Content-Length on a stream"),
            ("Content-Length: -3\r\n", "a Content-Length that is no number"),
            ("Content-Length: 3 3\r\n", "a Content-Length that is no number"),
            ("Content-Length: 3, 3\r\n", "a Content-Length that is no number"),
            ("Content-Length: 0x3\r\n", "a Content-Length that is no number"),
            ("Content-Length: \r\n", "a Content-Length that is no number"),
            ("Content-Length: 3\r\nl: 4\r\n", "two different Content-Lengths"),
            ("Content-Length: 3\r\nl:\r\n 4\r\n", "two different Content-Lengths"),
            ("Content-Length: 3\r\nl: x\r\n", "a Content-Length that is no number"),
            ("Content-Length: 3\n4\r\n", "a Content-Length that is no number"),
        ] {
            let text = message(lines, "abcd");
            assert_eq!(error(&text), why, "{lines:?}");
            let head = frames([&text[..]]).1.unwrap().head;
            // What was received suffices to answer: the head is whole.
            assert!(Message::parse(head).unwrap().via().is_ok());
        }
    }

    #[test]
    fn a_broken_stream_stays_broken_and_holds_nothing() {
        let mut framer = Framer::default();
        framer.push(&message("", ""));
        let error = framer.next_frame().unwrap_err();
        framer.push(&message("l: 0\r\n", ""));
        assert_eq!((framer.next_frame(), framer.pending()), (Err(error), 0));
    }

    #[test]
    fn what_is_not_sip_is_seen_at_its_first_byte() {
        for text in [&b"\x16\x03\x01"[..], b" OPTIONS", b"\n", b"\0", b"\r\n\r\n{", b"\rX"] {
            assert_eq!(error(text), "no SIP start line", "{text:?}");
        }
        assert_eq!(error(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "no SIP start line");
    }

    #[test]
    fn each_cap_holds_one_past_it() {
        let lines = |count: usize| message(&format!("l: 0\r\n{}", "X: y\r\n".repeat(count - 2)), "");
        assert!(frames([&lines(SIP_HEADER_LINES_MAX)[..]]).1.is_none());
        assert_eq!(error(&lines(SIP_HEADER_LINES_MAX + 1)), "more than 256 header lines");

        let head = message("l: 60000\r\n", "").len();
        let body = |bytes: usize| message(&format!("l: {bytes}\r\n"), &"z".repeat(bytes));
        assert_eq!(frames([&body(SIP_MESSAGE_BYTES_MAX - head)[..]]).0.len(), 1);
        assert_eq!(error(&body(SIP_MESSAGE_BYTES_MAX - head + 1)), "a message over 64 KiB");

        let endless = vec![b'a'; SIP_MESSAGE_BYTES_MAX];
        assert_eq!(frames([&endless[1..]]).1, None);
        let (_, error, pending) = frames([&endless[..]]);
        assert_eq!((error.unwrap().head.len(), pending), (SIP_MESSAGE_BYTES_MAX, 0));
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_searched_once() {
        let mut framer = Framer::default();
        for i in 1..SIP_MESSAGE_BYTES_MAX {
            framer.push(b"a");
            assert_eq!(framer.next_frame(), Ok(None));
            assert!(matches!(framer.state, State::Head { searched } if searched == i));
        }
        framer.push(b"a");
        assert!(framer.next_frame().is_err());
    }

    #[test]
    fn an_idle_stream_gives_its_buffer_back() {
        let mut framer = Framer::default();
        framer.push(&message("l: 50000\r\n", &"z".repeat(50_000)));
        assert!(matches!(framer.next_frame(), Ok(Some(Frame::Message(_)))));
        assert_eq!(framer.next_frame(), Ok(None));
        assert!(framer.buffer.capacity() <= IDLE_BUFFER_BYTES_MAX);
    }

    fn stream_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(message("Content-Length: 3\r\n", "abc")),
            4 => Just(message("Subject: a\r\n b\r\nl :\r\n 4\r\n", "\r\n\r\n")),
            4 => Just(message("l: 5\r\n", "INVIT")),
            2 => Just(b"\r\n".to_vec()),
            2 => Just(b"\r\n\r\n".to_vec()),
            1 => Just(message("", "")),
            1 => Just(message("l: 1\r\nl: 2\r\n", "")),
            1 => Just(message("X: a\r\r\n\t\n\r\nl: 0\r\n", "")),
            1 => proptest::collection::vec(any::<u8>(), 0..9),
            1 => Just(HEAD.as_bytes().to_vec()),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn split_points_change_nothing(text in stream_text(), cuts in proptest::collection::vec(0.0..1.0f64, 0..12)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * text.len() as f64) as usize).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
            let at_once = frames([&text[..]]);
            prop_assert_eq!(&frames(parts), &at_once);
            prop_assert_eq!(&frames(text.chunks(1)), &at_once);
        }

        #[test]
        fn framer_and_parser_agree_where_a_message_ends(text in stream_text()) {
            for frame in frames([&text[..]]).0 {
                let Frame::Message(bytes) = frame else { continue };
                let alone = Message::parse(bytes.clone()).expect("a frame is a message");
                // The same bytes with others behind them: the parser must cut where the framer did.
                let followed = Message::parse([&bytes[..], b"MORE"].concat().into()).expect("a frame is a message");
                prop_assert_eq!(alone.body(), followed.body());
                prop_assert!(bytes.ends_with(&alone.body()));
                prop_assert_eq!(alone.length(), Length::Bytes(alone.body().len()));
            }
        }
    }
}
