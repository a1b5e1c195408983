//! TCP, plain and under TLS: the accept loop, dialling, and the task of each connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::b2bua::io::Flow;
use crate::b2bua::io::Input;
use crate::b2bua::io::LossReason;
use crate::edge::core_loop::Core;
use crate::edge::core_loop::Desk;
use crate::edge::sip::canonical;
use crate::edge::sip::socket::Socket;
use crate::edge::sip::stream::Fate;
use crate::edge::sip::tune_tcp;
use crate::ids::ConnId;
use crate::wire::stream::Frame;
use crate::wire::stream::Framer;

/// No connection within this time: the dial has failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A message whose rest does not come within this time of its first byte closes the connection.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// Fewer bytes may be half a keep-alive, whose other half is not owed.
const MESSAGE_BEGUN_BYTES: usize = 4;

/// An accepted connection without a byte in either direction.
pub const ACCEPTED_IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// How often we send CRLFCRLF on a connection that we dialled (RFC 5626 §3.5.1).
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);

/// What was sent before a close may take so long to leave.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);

/// How long we wait for the peer to close its half too. Closing with unread bytes is a reset, which can take our last message back.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// After an error of `accept` (no file descriptors left) before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const READ_BYTES: usize = 16 * 1024;

/// Reads in a row before other tasks get their turn.
const READS_IN_A_ROW_MAX: usize = 16;

/// Accepts until its task is dropped. A stranger's connection is closed before it can send anything (product.md §2).
pub async fn accept<C: Core>(desk: Desk<C>, listener: TcpListener, secure: bool) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => accepted(&desk, stream, canonical(remote), secure),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn accepted<C: Core>(desk: &Desk<C>, stream: TcpStream, remote: SocketAddr, secure: bool) {
    if !desk.with(|shell| shell.admits(remote)) {
        return;
    }
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    tune_tcp(&stream);
    if !secure {
        return served(desk, Socket::plain(stream), remote, local);
    }
    let Some(handshake) = desk.with(|shell| shell.handshakes().ok().and_then(|h| h.accept(stream))) else {
        return desk.with(|shell| shell.count_full());
    };
    let desk = desk.clone();
    tokio::task::spawn_local(async move {
        match handshake.done().await {
            Ok(socket) => served(&desk, socket, remote, local),
            Err(why) => desk.with(|shell| shell.say_refused(remote, &why)),
        }
    });
}

fn served<C: Core>(desk: &Desk<C>, socket: Socket, remote: SocketAddr, local: SocketAddr) {
    let stream = Rc::new(socket);
    let Some((conn, wake)) = desk.with(|shell| shell.streams.accepted(stream.clone())) else {
        return desk.with(|shell| shell.count_full());
    };
    desk.give(Input::FlowUp { conn, local, remote, dialled: false });
    let connection = Connection::new(desk.clone(), conn, wake, stream, remote, local, Some(ACCEPTED_IDLE_MAX));
    tokio::task::spawn_local(connection.run());
}

/// A connection that the core wants.
#[derive(Debug)]
pub struct Dial {
    pub conn: ConnId,
    pub remote: SocketAddr,
    /// Whom a TLS peer must prove to be.
    pub name: CompactString,
    pub wake: Rc<Notify>,
}

/// Dials, and serves the connection when it is up. `from` is the address that our listeners are bound to, when they are.
pub async fn dial<C: Core>(desk: Desk<C>, dial: Dial, from: Option<SocketAddr>) {
    let Dial { conn, remote, name, wake } = dial;
    let dialled = tokio::select! {
        dialled = connected(&desk, conn, remote, name, from) => dialled,
        // Closed by the core before it was up.
        () = closed_early(&desk, conn, &wake) => return,
    };
    let (socket, local) = match dialled {
        Ok(dialled) => dialled,
        Err(why) => return desk.flow_lost(conn, LossReason::NotConnected(why)),
    };
    let stream = Rc::new(socket);
    if !desk.with(|shell| shell.streams.up(conn, stream.clone())) {
        return;
    }
    desk.give(Input::FlowUp { conn, local, remote, dialled: true });
    Connection::new(desk, conn, wake, stream, remote, local, None).run().await;
}

/// Up, for TLS after its handshake; and our address there.
async fn connected<C: Core>(
    desk: &Desk<C>,
    conn: ConnId,
    remote: SocketAddr,
    name: CompactString,
    from: Option<SocketAddr>,
) -> Result<(Socket, SocketAddr), String> {
    let stream = match tokio::time::timeout(DIAL_TIMEOUT, connect(remote, from)).await {
        Ok(stream) => stream.map_err(|e| e.to_string())?,
        Err(_) => return Err(format!("no answer within {} s", DIAL_TIMEOUT.as_secs())),
    };
    let local = canonical(stream.local_addr().map_err(|e| e.to_string())?);
    tune_tcp(&stream);
    if !conn.is_tls() {
        return Ok((Socket::plain(stream), local));
    }
    let handshake = desk.with(|shell| shell.handshakes().map(|h| h.connect(stream, name)))?;
    let socket = handshake.ok_or("TLS: too many handshakes are under way")?.done().await?;
    Ok((socket, local))
}

async fn closed_early<C: Core>(desk: &Desk<C>, conn: ConnId, wake: &Notify) {
    while desk.with(|shell| shell.streams.fate(conn)) != Fate::Gone {
        wake.notified().await;
    }
}

async fn connect(remote: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from.ip(), 0))?;
    }
    socket.connect(remote).await
}

/// One connection's task: reads, frames, hands over; writes what the core could not write at once.
struct Connection<C: Core> {
    desk: Desk<C>,
    conn: ConnId,
    wake: Rc<Notify>,
    stream: Rc<Socket>,
    remote: SocketAddr,
    local: SocketAddr,
    framer: Framer,
    /// When the message that is still coming began.
    begun: Option<Instant>,
    last_byte: Instant,
    last_keep_alive: Instant,
    /// Accepted connections have one; ours are kept alive.
    idle_max: Option<Duration>,
    /// The core has closed it: what waits must leave until then.
    flush_until: Option<Instant>,
}

/// Why a connection's task ends.
enum End {
    /// The core asked for it, and everything has left.
    Closed,
    /// Its queue ran over, or its bytes could not leave in time: there is nothing more to say.
    Dropped,
    Lost(String),
}

impl<C: Core> Connection<C> {
    fn new(
        desk: Desk<C>,
        conn: ConnId,
        wake: Rc<Notify>,
        stream: Rc<Socket>,
        remote: SocketAddr,
        local: SocketAddr,
        idle_max: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        Connection {
            desk,
            conn,
            wake,
            stream,
            remote,
            local,
            framer: Framer::default(),
            begun: None,
            last_byte: now,
            last_keep_alive: now,
            idle_max,
            flush_until: None,
        }
    }

    async fn run(mut self) {
        let end = self.serve().await;
        match end {
            End::Lost(why) => self.desk.flow_lost(self.conn, LossReason::Closed(why)),
            End::Closed => {
                let _ = tokio::time::timeout(LINGER_MAX, self.linger()).await;
            }
            End::Dropped => {}
        }
        self.desk.with(|shell| shell.streams.remove(self.conn));
    }

    async fn serve(&mut self) -> End {
        let mut buffer = vec![0u8; READ_BYTES];
        let stream = self.stream.clone();
        // What came with the end of a handshake is here already: the kernel will not tell of it again.
        if self.is_open()
            && let Err(end) = self.read(&mut buffer).await
        {
            return end;
        }
        loop {
            let fate = self.desk.with(|shell| shell.streams.fate(self.conn));
            let (reads, writes) = match fate {
                Fate::Gone => return End::Dropped,
                Fate::Open { waits } => (true, waits),
                Fate::Closing { waits: false } => return End::Closed,
                Fate::Closing { waits: true } => {
                    self.flush_until.get_or_insert_with(|| Instant::now() + FLUSH_TIME_MAX);
                    (false, true)
                }
            };
            let wake = self.wake.clone();
            let ended = tokio::select! {
                _ = stream.readable(), if reads => self.read(&mut buffer).await,
                _ = stream.writable(), if writes => self.desk.with(|shell| shell.streams.flush(self.conn)).map_err(|e| End::Lost(e.to_string())),
                () = wake.notified() => Ok(()),
                () = tokio::time::sleep_until(self.next_check()) => self.check(),
            };
            if let Err(end) = ended {
                return end;
            }
        }
    }

    /// Our half is closed; what the peer still says is read and forgotten.
    async fn linger(&self) {
        self.stream.shutdown_write();
        let mut forgotten = [0u8; 4096];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_forget(&mut forgotten) {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<(), End> {
        for _ in 0..READS_IN_A_ROW_MAX {
            match self.stream.try_read(buffer) {
                Ok(0) => return Err(End::Lost("closed by the peer".into())),
                Ok(len) => {
                    self.last_byte = Instant::now();
                    self.framer.push(&buffer[..len]);
                    self.frames()?;
                    if !self.is_open() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(End::Lost(e.to_string())),
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// The core may close it with any message.
    fn is_open(&self) -> bool {
        self.desk.with(|shell| shell.streams.is_live(self.conn))
    }

    /// Hands over every whole message that is there.
    fn frames(&mut self) -> Result<(), End> {
        let (flow, remote, local) = (Flow::Stream(self.conn), self.remote, self.local);
        loop {
            match self.framer.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Message(bytes))) => {
                    self.begun = None;
                    // Exact size: a slice would pin the framer's buffer for as long as the core keeps the message.
                    let bytes = Bytes::copy_from_slice(&bytes);
                    self.desk.give(Input::Sip { flow, remote, local, bytes });
                    if !self.is_open() {
                        return Ok(());
                    }
                }
                Ok(Some(Frame::Ping)) => {
                    self.desk.send(flow, Bytes::from_static(b"\r\n"));
                }
                Ok(Some(Frame::Pong)) => {}
                Err(broken) => {
                    // The core answers (400) and closes; if it does not, we do.
                    self.desk.give(Input::Broken { flow, remote, local, why: broken.why, head: broken.head });
                    self.desk.with(|shell| shell.streams.close(self.conn));
                    return Ok(());
                }
            }
        }
        if self.framer.pending() < MESSAGE_BEGUN_BYTES {
            self.begun = None;
        } else {
            self.begun.get_or_insert(self.last_byte);
        }
        Ok(())
    }

    fn next_check(&self) -> Instant {
        let own = match self.idle_max {
            Some(max) => self.last_byte + max,
            None => self.last_keep_alive + KEEP_ALIVE_EVERY,
        };
        let late = self.begun.map_or(own, |begun| own.min(begun + MESSAGE_TIME_MAX));
        self.flush_until.map_or(late, |until| late.min(until))
    }

    fn check(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.flush_until.is_some_and(|until| until <= now) {
            return Err(End::Dropped);
        }
        if self.begun.is_some_and(|begun| begun + MESSAGE_TIME_MAX <= now) {
            let waited = MESSAGE_TIME_MAX.as_secs();
            return Err(End::Lost(format!("a message was not complete {waited} s after its first byte")));
        }
        let Some(max) = self.idle_max else {
            if self.last_keep_alive + KEEP_ALIVE_EVERY <= now && self.flush_until.is_none() {
                self.last_keep_alive = now;
                self.desk.send(Flow::Stream(self.conn), Bytes::from_static(b"\r\n\r\n"));
            }
            return Ok(());
        };
        // What we sent counts as life too.
        let last_sent = self.desk.with(|shell| shell.streams.last_sent(self.conn));
        self.last_byte = self.last_byte.max(last_sent.unwrap_or(self.last_byte));
        if self.last_byte + max <= now {
            return Err(End::Lost(format!("idle for {} min", max.as_secs() / 60)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::edge::core_loop::testing::StubCore;
    use crate::edge::core_loop::testing::desk_with;
    use crate::edge::core_loop::testing::on_one_thread;
    use crate::edge::sip::stream::TCP_WRITE_QUEUE_BYTES_MAX;
    use crate::ids::CONN_DIALLED;

    const OPTIONS: &[u8] = b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";
    const BYE: &[u8] = b"BYE sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";

    async fn listening(allow: &str) -> (Desk<StubCore>, SocketAddr) {
        let desk = desk_with(Vec::new(), allow);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::task::spawn_local(accept(desk.clone(), listener, false));
        (desk, addr)
    }

    async fn heard(desk: &Desk<StubCore>, what: &str) {
        let until = Instant::now() + Duration::from_secs(10);
        while !desk.with(|shell| shell.core().heard.iter().any(|h| h.contains(what))) {
            assert!(Instant::now() < until, "{what} not in {:?}", desk.with(|shell| shell.core().heard.clone()));
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_message_in_two_pieces_is_one_input_and_a_ping_gets_crlf() {
        on_one_thread(async {
            let (_desk, addr) = listening("127.0.0.1/32").await;
            let mut peer = TcpStream::connect(addr).await.unwrap();
            // RFC 5626 §3.5.1: a double CRLF is answered with a single one.
            peer.write_all(b"\r\n\r\n").await.unwrap();
            let mut pong = [0u8; 2];
            peer.read_exact(&mut pong).await.unwrap();
            assert_eq!(&pong, b"\r\n");
            // RFC 3261 §18.3: the message ends where Content-Length says.
            peer.write_all(&OPTIONS[..20]).await.unwrap();
            tokio::task::yield_now().await;
            peer.write_all(&OPTIONS[20..]).await.unwrap();
            let mut echo = vec![0u8; OPTIONS.len()];
            peer.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, OPTIONS);
        });
    }

    #[test]
    fn what_was_sent_before_a_close_still_leaves_and_the_core_hears_nothing_more() {
        on_one_thread(async {
            let (desk, addr) = listening("127.0.0.1/32").await;
            let mut peer = TcpStream::connect(addr).await.unwrap();
            // Bytes behind it that nobody reads any more must not turn the close into a reset.
            peer.write_all(&[BYE, OPTIONS, &[b'\r'; 100_000]].concat()).await.unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, BYE);
            assert!(desk.with(|shell| !shell.core().heard.iter().any(|h| h.contains("lost"))));
            assert_eq!(desk.with(|shell| shell.core().heard.iter().filter(|h| h.starts_with("sip")).count()), 1);
        });
    }

    #[test]
    fn text_that_is_not_sip_is_told_to_the_core_and_closed() {
        on_one_thread(async {
            let (desk, addr) = listening("127.0.0.1/32").await;
            let mut peer = TcpStream::connect(addr).await.unwrap();
            peer.write_all(b"\x16\x03\x01 hello").await.unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            heard(&desk, "broken").await;
        });
    }

    #[test]
    fn a_stranger_is_closed_before_it_is_heard() {
        on_one_thread(async {
            let (desk, addr) = listening("192.0.2.0/24").await;
            let mut peer = TcpStream::connect(addr).await.unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).await.unwrap();
            assert!(all.is_empty());
            assert!(desk.with(|shell| shell.core().heard.is_empty()));
            assert_eq!(desk.with(|shell| shell.take_dropped()).strangers, 1);
        });
    }

    #[test]
    fn a_peer_that_closes_is_lost() {
        on_one_thread(async {
            let (desk, addr) = listening("127.0.0.1/32").await;
            drop(TcpStream::connect(addr).await.unwrap());
            heard(&desk, "lost").await;
            assert!(desk.with(|shell| shell.is_flushed()));
        });
    }

    #[test]
    fn what_is_sent_while_dialling_leaves_when_the_connection_is_up() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let conn = ConnId(CONN_DIALLED | 7);
            desk.with(|shell| shell.core().dial_and_send(conn, far.local_addr().unwrap(), OPTIONS));
            desk.start();
            let (mut peer, _) = far.accept().await.unwrap();
            let mut first = vec![0u8; OPTIONS.len()];
            peer.read_exact(&mut first).await.unwrap();
            assert_eq!(first, OPTIONS);
            heard(&desk, "up dialled").await;
        });
    }

    #[test]
    fn a_refused_dial_is_told_once() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            desk.with(|shell| shell.core().dial_and_send(ConnId(CONN_DIALLED | 7), nobody, OPTIONS));
            desk.start();
            heard(&desk, "lost NotConnected").await;
            assert_eq!(desk.with(|shell| shell.core().heard.len()), 1);
        });
    }

    #[test]
    fn a_peer_that_does_not_read_is_lost_at_one_byte_over_the_bound() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let conn = ConnId(CONN_DIALLED | 7);
            desk.with(|shell| {
                assert!(shell.streams.dialling(conn).is_some());
                let full = Bytes::from(vec![0u8; TCP_WRITE_QUEUE_BYTES_MAX]);
                assert!(shell.streams.send(conn, full).is_ok());
                assert!(shell.streams.send(conn, Bytes::from_static(b"x")).is_err());
                assert_eq!(shell.streams.fate(conn), Fate::Gone);
            });
        });
    }

    #[test]
    fn half_a_message_may_take_ten_seconds_and_half_a_ping_for_ever() {
        on_one_thread(async {
            let desk = desk_with(Vec::new(), "127.0.0.1/32");
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let stream = Rc::new(Socket::plain(TcpStream::connect(addr).await.unwrap()));
            let mut c = Connection::new(desk, ConnId(1), Rc::new(Notify::new()), stream, addr, addr, Some(ACCEPTED_IDLE_MAX));
            c.framer.push(b"\r\n");
            assert!(c.frames().is_ok() && c.begun.is_none());
            c.framer.push(&OPTIONS[..OPTIONS.len() - 1]);
            assert!(c.frames().is_ok() && c.begun.is_some());
            assert!(c.check().is_ok());
            c.begun = Instant::now().checked_sub(MESSAGE_TIME_MAX);
            assert!(matches!(c.check(), Err(End::Lost(_))));
            c.framer.push(&OPTIONS[OPTIONS.len() - 1..]);
            assert!(c.frames().is_ok() && c.begun.is_none());
            assert!(c.check().is_ok());
        });
    }
}
