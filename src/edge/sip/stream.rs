//! The table of stream connections: what is up, what waits to be written, what is closing.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::Buf;
use bytes::Bytes;
use std::collections::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::edge::sip::socket::Socket;
use crate::ids::CONN_DIALLED;
use crate::ids::CONN_TLS;
use crate::ids::ConnId;

/// Accepted connections at a time; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 1024;

/// Connections that we dialled, at a time; one more counts as one that could not be made.
pub const CONNECTIONS_DIALLED_MAX: usize = 1024;

/// What may wait on one connection; a peer that reads slower than this is lost.
pub const TCP_WRITE_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// What a connection's task has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Open {
        waits: bool,
    },
    /// Write what waits, then close.
    Closing {
        waits: bool,
    },
    /// Not in the table any more: drop the socket.
    Gone,
}

/// Where a connection stands.
#[derive(Debug)]
enum State {
    Dialling,
    Up(Rc<Socket>),
    Closing(Rc<Socket>),
}

#[derive(Debug)]
struct Stream {
    state: State,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    wake: Rc<Notify>,
    last_sent: Instant,
}

impl Stream {
    /// Here, or in what TLS has taken.
    fn waits(&self) -> bool {
        let records = match &self.state {
            State::Dialling => false,
            State::Up(socket) | State::Closing(socket) => socket.waits(),
        };
        records || !self.waiting.is_empty()
    }
}

/// All connections of this core.
#[derive(Debug, Default)]
pub struct Streams {
    map: HashMap<ConnId, Stream>,
    accepted: usize,
    minted: u64,
}

impl Streams {
    /// A connection that a peer opened, over TLS after its handshake; `None` when there are too many.
    pub fn accepted(&mut self, socket: Rc<Socket>) -> Option<(ConnId, Rc<Notify>)> {
        if self.accepted >= CONNECTIONS_MAX {
            return None;
        }
        self.minted += 1;
        let tls = if socket.is_tls() { CONN_TLS } else { 0 };
        let conn = ConnId(self.minted & !(CONN_DIALLED | CONN_TLS) | tls);
        self.accepted += 1;
        let wake = self.insert(conn, State::Up(socket));
        Some((conn, wake))
    }

    /// A connection that the core wants; what is sent on it waits until it is up. `None`: there is one of that id, or there are too
    /// many.
    pub fn dialling(&mut self, conn: ConnId) -> Option<Rc<Notify>> {
        if self.map.contains_key(&conn) || self.map.len() - self.accepted >= CONNECTIONS_DIALLED_MAX {
            return None;
        }
        Some(self.insert(conn, State::Dialling))
    }

    fn insert(&mut self, conn: ConnId, state: State) -> Rc<Notify> {
        let wake = Rc::new(Notify::new());
        let stream = Stream { state, waiting: VecDeque::new(), waiting_bytes: 0, wake: wake.clone(), last_sent: Instant::now() };
        self.map.insert(conn, stream);
        wake
    }

    /// The dial succeeded; false when the core has closed it meanwhile.
    pub fn up(&mut self, conn: ConnId, socket: Rc<Socket>) -> bool {
        let Some(stream) = self.map.get_mut(&conn) else { return false };
        stream.state = State::Up(socket);
        stream.wake.notify_one();
        true
    }

    /// Writes at once what can be written; the rest waits. An error: the connection is lost and out of the table.
    pub fn send(&mut self, conn: ConnId, mut bytes: Bytes) -> io::Result<()> {
        let Some(stream) = self.map.get_mut(&conn) else {
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        };
        stream.last_sent = Instant::now();
        if let (State::Up(socket), true) = (&stream.state, stream.waiting.is_empty()) {
            match socket.try_write(&bytes) {
                Ok(written) => bytes.advance(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => {
                    self.remove(conn);
                    return Err(e);
                }
            }
        }
        if bytes.is_empty() {
            if stream.waits() {
                stream.wake.notify_one();
            }
            return Ok(());
        }
        if stream.waiting_bytes + bytes.len() > TCP_WRITE_QUEUE_BYTES_MAX {
            self.remove(conn);
            return Err(io::Error::other(format!("the peer does not read: {TCP_WRITE_QUEUE_BYTES_MAX} bytes wait")));
        }
        stream.waiting_bytes += bytes.len();
        stream.waiting.push_back(bytes);
        stream.wake.notify_one();
        Ok(())
    }

    /// Writes what waits, as far as the peer takes it.
    pub fn flush(&mut self, conn: ConnId) -> io::Result<()> {
        let Some(stream) = self.map.get_mut(&conn) else { return Ok(()) };
        let (State::Up(socket) | State::Closing(socket)) = &stream.state else { return Ok(()) };
        socket.flush()?;
        while let Some(front) = stream.waiting.front_mut() {
            match socket.try_write(front) {
                Ok(written) => {
                    stream.waiting_bytes -= written;
                    front.advance(written);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
            if front.is_empty() {
                stream.waiting.pop_front();
            }
        }
        Ok(())
    }

    /// The core wants it closed: what waits may still leave.
    pub fn close(&mut self, conn: ConnId) {
        let Some(stream) = self.map.get_mut(&conn) else { return };
        match &stream.state {
            State::Dialling => self.remove(conn),
            State::Up(socket) => {
                stream.state = State::Closing(socket.clone());
                stream.wake.notify_one();
            }
            State::Closing(_) => {}
        }
    }

    pub fn fate(&self, conn: ConnId) -> Fate {
        match self.map.get(&conn) {
            None => Fate::Gone,
            Some(stream) => match stream.state {
                State::Dialling | State::Up(_) => Fate::Open { waits: stream.waits() },
                State::Closing(_) => Fate::Closing { waits: stream.waits() },
            },
        }
    }

    /// The core may still hear of its loss: it is in the table and not being closed.
    pub fn is_live(&self, conn: ConnId) -> bool {
        matches!(self.fate(conn), Fate::Open { .. })
    }

    pub fn last_sent(&self, conn: ConnId) -> Option<Instant> {
        self.map.get(&conn).map(|s| s.last_sent)
    }

    pub fn remove(&mut self, conn: ConnId) {
        if let Some(stream) = self.map.remove(&conn) {
            if !conn.is_dialled() {
                self.accepted -= 1;
            }
            stream.wake.notify_one();
        }
    }

    /// Nothing waits to be written on any connection.
    pub fn is_flushed(&self) -> bool {
        self.map.values().all(|s| !s.waits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::core_loop::testing::on_one_thread;

    async fn socket() -> (tokio::net::TcpListener, Rc<Socket>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        (listener, Rc::new(Socket::plain(stream)))
    }

    #[test]
    fn one_connection_too_many_is_not_taken_and_a_closed_one_makes_room() {
        on_one_thread(async {
            let (_listener, socket) = socket().await;
            let mut streams = Streams::default();
            let first = streams.accepted(socket.clone()).unwrap().0;
            for _ in 1..CONNECTIONS_MAX {
                assert!(streams.accepted(socket.clone()).is_some());
            }
            assert!(streams.accepted(socket.clone()).is_none());
            // Ours are counted apart.
            assert!(streams.dialling(ConnId(CONN_DIALLED | 1)).is_some());
            streams.remove(ConnId(CONN_DIALLED | 1));
            streams.remove(first);
            streams.remove(first);
            assert!(streams.accepted(socket.clone()).is_some());
            assert!(streams.accepted(socket).is_none());
        });
    }

    #[test]
    fn one_dial_too_many_is_not_made_and_a_closed_one_makes_room() {
        on_one_thread(async {
            let mut streams = Streams::default();
            let conn = |n: usize| ConnId(CONN_DIALLED | n as u64);
            assert!((0..CONNECTIONS_DIALLED_MAX).all(|n| streams.dialling(conn(n)).is_some()));
            assert!(streams.dialling(conn(CONNECTIONS_DIALLED_MAX)).is_none());
            streams.close(conn(0));
            assert!(streams.dialling(conn(CONNECTIONS_DIALLED_MAX)).is_some());
        });
    }

    #[test]
    fn closing_waits_for_what_was_sent_and_closing_a_dial_gives_it_up() {
        on_one_thread(async {
            let (_listener, socket) = socket().await;
            let mut streams = Streams::default();
            let conn = ConnId(CONN_DIALLED | 1);
            assert!(streams.dialling(conn).is_some());
            assert!(streams.dialling(conn).is_none());
            streams.send(conn, Bytes::from_static(b"x")).unwrap();
            assert_eq!(streams.fate(conn), Fate::Open { waits: true });
            assert!(!streams.is_flushed());
            streams.up(conn, socket.clone());
            streams.close(conn);
            assert_eq!(streams.fate(conn), Fate::Closing { waits: true });
            assert!(!streams.is_live(conn));
            socket.writable().await.unwrap();
            streams.flush(conn).unwrap();
            assert_eq!(streams.fate(conn), Fate::Closing { waits: false });
            streams.remove(conn);
            assert!(streams.dialling(conn).is_some());
            streams.close(conn);
            assert_eq!(streams.fate(conn), Fate::Gone);
            assert!(!streams.up(conn, socket));
            assert!(streams.send(conn, Bytes::from_static(b"x")).is_err());
        });
    }
}
