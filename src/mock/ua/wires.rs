//! Sockets of the user agent: one UDP socket, one TCP and one TLS listener, connections in both directions. All that comes in is heard on one
//! bounded channel.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::edge::sip::local::route_to;
use crate::mock::ua::UaTls;
use crate::wire::stream::Frame;
use crate::wire::stream::Framer;

/// Connections at a time; a further one is closed.
pub const CONNECTIONS_MAX: usize = 4096;

/// Messages that wait for a slow reader; then its connection is closed.
const CONNECTION_MESSAGES_MAX: usize = 1024;

const DATAGRAMS_WAITING_MAX: usize = 1024;
const HEARD_WAITING_MAX: usize = 1024;
const DATAGRAM_BYTES_MAX: usize = 65_535;
const READ_BYTES: usize = 16 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a message came from or goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wire {
    Udp(SocketAddr),
    Tcp(u64),
    /// Accepted; we dial none.
    Tls(u64),
}

impl Wire {
    pub fn transport(self) -> Transport {
        match self {
            Wire::Udp(_) => Transport::Udp,
            Wire::Tcp(_) => Transport::Tcp,
            Wire::Tls(_) => Transport::Tls,
        }
    }
}

/// What the tasks of the sockets tell.
#[derive(Debug)]
pub enum Heard {
    Message { wire: Wire, source: SocketAddr, bytes: Bytes },
    Accepted { stream: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerConfig>> },
    Gone { conn: u64 },
}

#[derive(Debug)]
struct Conn {
    wire: Wire,
    peer: SocketAddr,
    out: mpsc::Sender<Bytes>,
}

#[derive(Debug)]
struct Datagrams {
    bound: SocketAddr,
    out: mpsc::Sender<(Bytes, SocketAddr)>,
}

#[derive(Debug)]
pub struct Wires {
    udp: Option<Datagrams>,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    conns: HashMap<u64, Conn>,
    next: u64,
    heard_in: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
    /// Dropped with this, which ends them.
    tasks: JoinSet<()>,
}

impl Wires {
    pub async fn bind(udp: Option<SocketAddr>, tcp: Option<SocketAddr>, tls: Option<&UaTls>) -> io::Result<Wires> {
        let (heard_in, heard) = mpsc::channel(HEARD_WAITING_MAX);
        let mut wires = Wires { udp: None, tcp: None, tls: None, conns: HashMap::new(), next: 0, heard_in, heard, tasks: JoinSet::new() };
        if let Some(addr) = udp {
            let socket = Arc::new(UdpSocket::bind(addr).await.map_err(named("udp", addr))?);
            let (out, queue) = mpsc::channel(DATAGRAMS_WAITING_MAX);
            wires.udp = Some(Datagrams { bound: socket.local_addr()?, out });
            wires.tasks.spawn(write_datagrams(socket.clone(), queue));
            wires.tasks.spawn(read_datagrams(socket, wires.heard_in.clone()));
        }
        if let Some(addr) = tcp {
            let listener = TcpListener::bind(addr).await.map_err(named("tcp", addr))?;
            wires.tcp = Some(listener.local_addr()?);
            wires.tasks.spawn(accept(listener, None, wires.heard_in.clone()));
        }
        if let Some(tls) = tls {
            let listener = TcpListener::bind(tls.listen).await.map_err(named("tls", tls.listen))?;
            wires.tls = Some(listener.local_addr()?);
            wires.tasks.spawn(accept(listener, Some(tls.server.clone()), wires.heard_in.clone()));
        }
        Ok(wires)
    }

    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp.as_ref().map(|udp| udp.bound)
    }

    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// What a peer sees of us: Via and Contact. A user agent that only dials has no address of its own there: port 0 becomes 5060.
    pub fn local(&self, transport: Transport, remote: IpAddr) -> SocketAddr {
        let bound = match transport {
            Transport::Udp => self.udp_addr(),
            Transport::Tcp => self.tcp.or(self.udp_addr()),
            Transport::Tls => self.tls,
        };
        let port = bound.map_or(5060, |addr| addr.port());
        let ip = bound.map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified());
        SocketAddr::new(ip.or_else(|| route_to(remote)).unwrap_or(remote), port)
    }

    pub async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// The wire towards a target: an open connection to just that address, else a new one. What is sent on it waits until it is up.
    pub fn towards(&mut self, target: Target) -> Option<Wire> {
        if target.transport == Transport::Udp {
            return self.udp.as_ref().map(|_| Wire::Udp(target.addr));
        }
        let open = self.conns.values().find(|c| c.peer == target.addr && c.wire.transport() == target.transport);
        if let Some(conn) = open {
            return Some(conn.wire);
        }
        if target.transport == Transport::Tls {
            return None;
        }
        let addr = target.addr;
        self.open(addr, move || TcpStream::connect(addr), None)
    }

    pub fn accepted(&mut self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerConfig>>) {
        self.open(peer, move || std::future::ready(Ok(stream)), tls);
    }

    fn open<F>(&mut self, peer: SocketAddr, stream: impl FnOnce() -> F, tls: Option<Arc<ServerConfig>>) -> Option<Wire>
    where
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        if self.conns.len() >= CONNECTIONS_MAX {
            return None;
        }
        while self.tasks.try_join_next().is_some() {}
        self.next += 1;
        let conn = self.next;
        let (out, queue) = mpsc::channel(CONNECTION_MESSAGES_MAX);
        let wire = if tls.is_some() { Wire::Tls(conn) } else { Wire::Tcp(conn) };
        self.conns.insert(conn, Conn { wire, peer, out });
        self.tasks.spawn(connection(wire, conn, peer, stream(), tls, queue, self.heard_in.clone()));
        Some(wire)
    }

    pub fn peer(&self, wire: Wire) -> Option<SocketAddr> {
        match wire {
            Wire::Udp(remote) => Some(remote),
            Wire::Tcp(conn) | Wire::Tls(conn) => self.conns.get(&conn).map(|c| c.peer),
        }
    }

    pub fn gone(&mut self, conn: u64) {
        self.conns.remove(&conn);
    }

    /// Whether it could be handed over.
    pub fn send(&mut self, wire: Wire, bytes: Bytes) -> bool {
        match wire {
            // A full queue loses the datagram, as a network may.
            Wire::Udp(remote) => self.udp.as_ref().is_some_and(|udp| {
                let _ = udp.out.try_send((bytes, remote));
                true
            }),
            Wire::Tcp(conn) | Wire::Tls(conn) => match self.conns.get(&conn).map(|c| c.out.try_send(bytes)) {
                Some(Ok(())) => true,
                Some(Err(_)) => {
                    self.conns.remove(&conn);
                    false
                }
                None => false,
            },
        }
    }
}

fn named(transport: &'static str, addr: SocketAddr) -> impl FnOnce(io::Error) -> io::Error {
    move |e| io::Error::new(e.kind(), format!("cannot listen on {transport}://{addr}: {e}"))
}

async fn read_datagrams(socket: Arc<UdpSocket>, heard: mpsc::Sender<Heard>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error here is ICMP's answer to an earlier datagram: the transaction's timer tells.
        let Ok((length, source)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
        if heard.send(Heard::Message { wire: Wire::Udp(source), source, bytes }).await.is_err() {
            return;
        }
    }
}

async fn write_datagrams(socket: Arc<UdpSocket>, mut queue: mpsc::Receiver<(Bytes, SocketAddr)>) {
    while let Some((bytes, remote)) = queue.recv().await {
        // Its transaction repeats what could not be sent, and gives up in time.
        let _ = socket.send_to(&bytes, remote).await;
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, heard: mpsc::Sender<Heard>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of files: some will be closed.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if heard.send(Heard::Accepted { stream, peer, tls: tls.clone() }).await.is_err() {
            return;
        }
    }
}

async fn connection(
    wire: Wire,
    conn: u64,
    peer: SocketAddr,
    stream: impl Future<Output = io::Result<TcpStream>>,
    tls: Option<Arc<ServerConfig>>,
    mut queue: mpsc::Receiver<Bytes>,
    heard: mpsc::Sender<Heard>,
) {
    if let Ok(stream) = stream.await {
        // Small messages, each of which somebody waits for.
        let _ = stream.set_nodelay(true);
        let _ = match tls {
            None => talk(wire, peer, stream, &mut queue, &heard).await,
            Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                Ok(stream) => talk(wire, peer, stream, &mut queue, &heard).await,
                Err(e) => Err(e),
            },
        };
    }
    let _ = heard.send(Heard::Gone { conn }).await;
}

async fn talk(
    wire: Wire,
    peer: SocketAddr,
    stream: impl AsyncRead + AsyncWrite,
    queue: &mut mpsc::Receiver<Bytes>,
    heard: &mpsc::Sender<Heard>,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut framer = Framer::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                framer.push(buffer.get(..length).unwrap_or_default());
                while let Some(frame) = framer.next_frame().map_err(|e| io::Error::other(e.why.why))? {
                    match frame {
                        Frame::Message(bytes) => {
                            let message = Heard::Message { wire, source: peer, bytes };
                            heard.send(message).await.map_err(io::Error::other)?;
                        }
                        // RFC 5626 §3.5.1
                        Frame::Ping => {
                            writer.write_all(b"\r\n").await?;
                            writer.flush().await?;
                        }
                        Frame::Pong => {}
                    }
                }
            }
            bytes = queue.recv() => match bytes {
                Some(bytes) => {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                }
                None => return Ok(()),
            },
        }
    }
}
