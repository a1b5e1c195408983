//! SIP's sockets: UDP listeners, stream listeners and connections, all on the core's own thread; TLS handshakes on another.

pub mod certificate;
pub mod local;
pub mod socket;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod udp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

/// What we ask the kernel to hold for a listener: a second of INVITEs while the process is scheduled away.
const UDP_RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connections that wait in the kernel for our `accept`.
const TCP_BACKLOG_CONNECTIONS: i32 = 256;

/// A peer that acknowledges nothing for so long is gone (RFC 5482).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

fn socket_for(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        // An IPv4 listener stands beside it: without this the two would claim the same port.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a UDP listener.
pub fn bind_udp(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket_for(addr, Type::DGRAM, Protocol::UDP)?;
    // The kernel's own limit may be lower: less is no reason not to start.
    let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER_BYTES);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Binds a TCP listener.
pub fn bind_tcp(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket_for(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(TCP_BACKLOG_CONNECTIONS)?;
    Ok(socket.into())
}

/// Options that every connection gets, accepted or dialled.
fn tune_tcp(stream: &tokio::net::TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
}

/// `192.0.2.1` of `::ffff:192.0.2.1`, port kept.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
