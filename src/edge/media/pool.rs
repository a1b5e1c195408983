//! Bound port pairs. Once bound, a pair stays bound and polled until the thread ends; only its owner changes.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use mio::Interest;
use mio::Registry;
use mio::Token;
use mio::net::UdpSocket;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

use super::MediaConfig;
use crate::call::anchor::PortPair;
use crate::call::anchor::relay::Port;
use crate::ids::Side;

/// Kernel memory for one socket's waiting packets: some 170 of them, 3 s of one stream. A flood fills this and no more.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;

/// Ports that one request may find taken by other programs before it answers with what it has.
const BIND_SKIPS_MAX: usize = 1024;

/// One socket, by its place: pair and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SocketId {
    pub slot: usize,
    pub port: Port,
}

impl SocketId {
    pub fn of(token: Token) -> SocketId {
        SocketId { slot: token.0 / 2, port: if token.0.is_multiple_of(2) { Port::Rtp } else { Port::Rtcp } }
    }

    fn token(self) -> Token {
        Token(self.slot * 2 + usize::from(self.port == Port::Rtcp))
    }
}

/// Who has a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    /// The call's place.
    pub call: usize,
    pub side: Side,
}

/// A bound pair.
#[derive(Debug)]
pub(super) struct Slot {
    pub owner: Option<Owner>,
    rtp: Line,
    rtcp: Line,
}

/// A socket, and whether it waits in the hot queue.
#[derive(Debug)]
pub(super) struct Line {
    pub socket: UdpSocket,
    pub queued: bool,
}

impl Slot {
    pub fn line(&mut self, port: Port) -> &mut Line {
        match port {
            Port::Rtp => &mut self.rtp,
            Port::Rtcp => &mut self.rtcp,
        }
    }

    pub fn socket(&self, port: Port) -> &UdpSocket {
        match port {
            Port::Rtp => &self.rtp.socket,
            Port::Rtcp => &self.rtcp.socket,
        }
    }
}

/// The ports of one family that are not bound yet.
#[derive(Debug)]
struct Family {
    ip: IpAddr,
    /// Even, RTP; those that somebody else has go to the back.
    candidates: VecDeque<u16>,
}

/// All pairs.
#[derive(Debug)]
pub(super) struct Pool {
    pub slots: Vec<Slot>,
    places: HashMap<PortPair, usize>,
    families: Vec<Family>,
    dscp: u8,
}

impl Pool {
    pub fn new(config: &MediaConfig) -> Pool {
        let mut families: Vec<Family> = Vec::new();
        for ip in &config.bind {
            if families.iter().all(|f| f.ip.is_ipv4() != ip.is_ipv4()) {
                families.push(Family { ip: *ip, candidates: even_ports(&config.ports) });
            }
        }
        Pool { slots: Vec::new(), places: HashMap::new(), families, dscp: config.dscp }
    }

    pub fn find(&self, pair: &PortPair) -> Option<usize> {
        self.places.get(pair).copied()
    }

    /// Binds up to `count` more pairs of this family; true when there were not as many.
    pub fn bind(&mut self, registry: &Registry, count: usize, v6: bool) -> (Vec<PortPair>, bool) {
        let mut pairs = Vec::new();
        let Some(family) = self.families.iter_mut().find(|f| f.ip.is_ipv6() == v6) else {
            return (pairs, true);
        };
        let mut skips = BIND_SKIPS_MAX.min(family.candidates.len());
        while pairs.len() < count {
            let Some(port) = family.candidates.pop_front() else {
                return (pairs, true);
            };
            let pair = PortPair { ip: family.ip, rtp: port, rtcp: port + 1 };
            match bind_pair(registry, pair, self.dscp, self.slots.len()) {
                Ok(slot) => {
                    self.places.insert(pair, self.slots.len());
                    self.slots.push(slot);
                    pairs.push(pair);
                }
                Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) && skips > 0 => {
                    family.candidates.push_back(port);
                    skips -= 1;
                }
                Err(error) => {
                    tracing::warn!(ip = %pair.ip, port, %error, "media.ports_short");
                    family.candidates.push_front(port);
                    return (pairs, true);
                }
            }
        }
        (pairs, false)
    }
}

fn even_ports(range: &RangeInclusive<u16>) -> VecDeque<u16> {
    range.clone().filter(|port| port.is_multiple_of(2) && *port != 0 && port < range.end()).collect()
}

/// Both or neither: when RTCP's bind fails, RTP's socket is closed with the error.
fn bind_pair(registry: &Registry, pair: PortPair, dscp: u8, slot: usize) -> io::Result<Slot> {
    let mut rtp = bind_socket(SocketAddr::new(pair.ip, pair.rtp), dscp)?;
    let mut rtcp = bind_socket(SocketAddr::new(pair.ip, pair.rtcp), dscp)?;
    registry.register(&mut rtp, SocketId { slot, port: Port::Rtp }.token(), Interest::READABLE)?;
    registry.register(&mut rtcp, SocketId { slot, port: Port::Rtcp }.token(), Interest::READABLE)?;
    Ok(Slot { owner: None, rtp: Line { socket: rtp, queued: false }, rtcp: Line { socket: rtcp, queued: false } })
}

fn bind_socket(addr: SocketAddr, dscp: u8) -> io::Result<UdpSocket> {
    let domain = if addr.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // With it two processes could share a port without a word, and each would hear half of a call.
    socket.set_reuse_address(false)?;
    socket.set_nonblocking(true)?;
    // The next two are wishes: a call without its priority mark is better than no call.
    let class = u32::from(dscp & 0x3f) << 2;
    let marked = if addr.is_ipv4() {
        socket.set_tos_v4(class)
    } else {
        socket.set_only_v6(true)?;
        socket.set_tclass_v6(class)
    };
    if let Err(error) = marked.and(socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)) {
        tracing::debug!(%addr, %error, "media.socket_untuned");
    }
    socket.bind(&addr.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mio::Poll;

    use super::*;

    /// A loopback address for each test of each process, so that no port is anybody else's.
    fn local(test: u8) -> IpAddr {
        let [.., high, low] = std::process::id().to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, high, low, test))
    }

    #[test]
    fn only_whole_pairs_are_candidates() {
        assert_eq!(even_ports(&(10_000..=10_004)), [10_000, 10_002]);
        assert_eq!(even_ports(&(10_001..=10_005)), [10_002, 10_004]);
        assert!(even_ports(&(10_000..=10_000)).is_empty());
        assert_eq!(even_ports(&(65_532..=65_535)), [65_532, 65_534]);
        assert_eq!(even_ports(&(0..=3)), [2]);
    }

    #[test]
    fn a_pair_is_never_half_bound() {
        let (ip, first) = (local(2), 20_000);
        let ports = first..=first + 5;
        let taken = std::net::UdpSocket::bind((ip, first + 1)).unwrap();
        let poll = Poll::new().unwrap();
        let mut pool = Pool::new(&MediaConfig { bind: vec![ip], ports, dscp: 46 });
        let (pairs, exhausted) = pool.bind(poll.registry(), 3, false);
        assert_eq!(pairs.iter().map(|p| p.rtp).collect::<Vec<_>>(), [first + 2, first + 4]);
        assert!(exhausted);
        assert!(std::net::UdpSocket::bind((ip, first)).is_ok(), "its RTP port was let go");
        drop(taken);
        assert_eq!(pool.bind(poll.registry(), 1, false), (vec![PortPair { ip, rtp: first, rtcp: first + 1 }], false));
        assert_eq!(pool.bind(poll.registry(), 1, false), (vec![], true));
        assert_eq!(pool.bind(poll.registry(), 1, true), (vec![], true), "no address of that family");
    }

    #[test]
    fn sockets_carry_the_dscp() {
        let socket = bind_socket(SocketAddr::new(local(3), 20_000), 46).unwrap();
        assert_eq!(socket2::SockRef::from(&socket).tos_v4().unwrap(), 46 << 2);
    }
}
