//! TCP: the accept loop, dialling, and the task of each connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
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
use crate::edge::sip::stream::Fate;
use crate::edge::sip::tune_tcp;
use crate::ids::ConnId;
use crate::wire::stream::Frame;
use crate::wire::stream::Framer;

/// No connection within this time: the dial has failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A message whose rest does not come within this time of its first byte closes the connection.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// An accepted connection without a byte in either direction.
pub const ACCEPTED_IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// How often we send CRLFCRLF on a connection that we dialled (RFC 5626 §3.5.1).
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);

/// What was sent before a close may take so long to leave.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);

/// After an error of `accept` (no file descriptors left) before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const READ_BYTES: usize = 16 * 1024;

/// Reads in a row before other tasks get their turn.
const READS_IN_A_ROW_MAX: usize = 16;

/// Accepts until its task is dropped. A stranger's connection is closed before it can send anything (product.md §2).
pub async fn accept<C: Core>(desk: Desk<C>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => accepted(&desk, stream, canonical(remote)),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn accepted<C: Core>(desk: &Desk<C>, stream: TcpStream, remote: SocketAddr) {
    if !desk.with(|shell| shell.admits(remote)) {
        return;
    }
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    tune_tcp(&stream);
    let stream = Rc::new(stream);
    let Some((conn, wake)) = desk.with(|shell| shell.streams.accepted(remote, stream.clone())) else {
        return desk.with(|shell| shell.count_full());
    };
    desk.give(Input::FlowUp { conn, local, remote, dialled: false });
    let connection = Connection::new(desk.clone(), conn, wake, stream, remote, local, Some(ACCEPTED_IDLE_MAX));
    tokio::task::spawn_local(connection.run());
}

/// Dials, and serves the connection when it is up. `from` is the address that our listeners are bound to, when they are.
pub async fn dial<C: Core>(desk: Desk<C>, conn: ConnId, wake: Rc<Notify>, remote: SocketAddr, from: Option<SocketAddr>) {
    let dialled = tokio::select! {
        dialled = tokio::time::timeout(DIAL_TIMEOUT, connect(remote, from)) => dialled,
        // Closed by the core before it was up.
        () = closed_early(&desk, conn, &wake) => return,
    };
    let stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return desk.flow_lost(conn, LossReason::NotConnected(error.to_string())),
        Err(_) => return desk.flow_lost(conn, LossReason::NotConnected(format!("no answer within {} s", DIAL_TIMEOUT.as_secs()))),
    };
    let local = match stream.local_addr() {
        Ok(local) => canonical(local),
        Err(error) => return desk.flow_lost(conn, LossReason::NotConnected(error.to_string())),
    };
    tune_tcp(&stream);
    let stream = Rc::new(stream);
    if !desk.with(|shell| shell.streams.up(conn, stream.clone())) {
        return;
    }
    desk.give(Input::FlowUp { conn, local, remote, dialled: true });
    Connection::new(desk, conn, wake, stream, remote, local, None).run().await;
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
    stream: Rc<TcpStream>,
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
    /// The core asked for it, or its queue ran over and the core knows already.
    Told,
    Lost(String),
}

impl<C: Core> Connection<C> {
    fn new(
        desk: Desk<C>,
        conn: ConnId,
        wake: Rc<Notify>,
        stream: Rc<TcpStream>,
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
        if let End::Lost(why) = end {
            self.desk.flow_lost(self.conn, LossReason::Closed(why));
        }
        self.desk.with(|shell| shell.streams.remove(self.conn));
    }

    async fn serve(&mut self) -> End {
        let mut buffer = vec![0u8; READ_BYTES];
        let stream = self.stream.clone();
        loop {
            let fate = self.desk.with(|shell| shell.streams.fate(self.conn));
            let (reads, writes) = match fate {
                Fate::Gone => return End::Told,
                Fate::Open { waits } => (true, waits),
                Fate::Closing { waits: false } => return End::Told,
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

    async fn read(&mut self, buffer: &mut [u8]) -> Result<(), End> {
        for _ in 0..READS_IN_A_ROW_MAX {
            match self.stream.try_read(buffer) {
                Ok(0) => return Err(End::Lost("closed by the peer".into())),
                Ok(len) => {
                    self.last_byte = Instant::now();
                    self.framer.push(&buffer[..len]);
                    self.frames()?;
                    if self.desk.with(|shell| !matches!(shell.streams.fate(self.conn), Fate::Open { .. })) {
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

    /// Hands over every whole message that is there.
    fn frames(&mut self) -> Result<(), End> {
        let (flow, remote, local) = (Flow::Stream(self.conn), self.remote, self.local);
        loop {
            match self.framer.next() {
                Ok(None) => break,
                Ok(Some(Frame::Message(bytes))) => {
                    self.begun = None;
                    // Exact size: a slice would pin the framer's buffer for as long as the core keeps the message.
                    let bytes = Bytes::copy_from_slice(&bytes);
                    self.desk.give(Input::Sip { flow, remote, local, bytes });
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
        match self.framer.pending() {
            0 => self.begun = None,
            _ => {
                self.begun.get_or_insert(self.last_byte);
            }
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
            return Err(End::Told);
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
