//! Listeners and connections, and what a peer sees of us.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use ahash::RandomState;
use compact_str::CompactString;

use crate::b2bua::Map;
use crate::b2bua::io::Flow;
use crate::call::out::Face;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::config::Config;
use crate::ids::ConnId;
use crate::ids::ListenerId;
use crate::ids::Side;
use crate::wire::uri::print_host;

/// Peers whose view of us, or whose name, is remembered; beyond them all are forgotten and learnt anew.
const LOCALS_MAX: usize = 4_096;

/// A stream, as the core knows it.
#[derive(Debug)]
pub struct Conn {
    pub remote: SocketAddr,
    /// `None` while it is being dialled.
    pub local: Option<SocketAddr>,
}

/// What is bound and what is connected.
#[derive(Debug)]
pub struct Flows {
    listeners: Vec<(Transport, SocketAddr)>,
    conns: Map<ConnId, Conn>,
    /// The connection that requests to this address re-use (RFC 3261 §18.1.1): the one dialled, or accepted, last.
    by_remote: Map<(Transport, SocketAddr), ConnId>,
    /// Names that resolved to an address for TLS: what its certificate must say.
    names: Map<SocketAddr, CompactString>,
    /// Which address of ours a peer sees.
    locals: Map<IpAddr, IpAddr>,
}

impl Flows {
    pub fn new(config: &Config, hasher: RandomState) -> Flows {
        Flows {
            listeners: config.sip.listen.iter().map(|l| (l.transport, l.addr)).collect(),
            conns: Map::with_hasher(hasher.clone()),
            by_remote: Map::with_hasher(hasher.clone()),
            names: Map::with_hasher(hasher.clone()),
            locals: Map::with_hasher(hasher),
        }
    }

    pub fn listening(&mut self, listener: ListenerId, transport: Transport, local: SocketAddr) {
        if let Some(slot) = self.listeners.get_mut(usize::from(listener.0)) {
            *slot = (transport, local);
        }
    }

    pub fn up(&mut self, conn: ConnId, local: SocketAddr, remote: SocketAddr) {
        self.conns.insert(conn, Conn { remote, local: Some(local) });
        // Who opened a TLS connection has not shown whose it is: only its own dialogs use it (RFC 5922 §7.5, RFC 5923 §9.1).
        if conn.is_dialled() || !conn.is_tls() {
            self.by_remote.insert((transport_of(conn), remote), conn);
        }
    }

    pub fn dialling(&mut self, conn: ConnId, remote: SocketAddr) {
        self.conns.insert(conn, Conn { remote, local: None });
        self.by_remote.insert((transport_of(conn), remote), conn);
    }

    pub fn lost(&mut self, conn: ConnId) {
        if let Some(gone) = self.conns.remove(&conn)
            && self.by_remote.get(&(transport_of(conn), gone.remote)) == Some(&conn)
        {
            self.by_remote.remove(&(transport_of(conn), gone.remote));
        }
    }

    pub fn conn(&self, conn: ConnId) -> Option<&Conn> {
        self.conns.get(&conn)
    }

    pub fn to(&self, target: Target) -> Option<ConnId> {
        self.by_remote.get(&(target.transport, target.addr)).copied()
    }

    /// This name led to this address: a connection over TLS must be able to show it.
    pub fn named(&mut self, addr: SocketAddr, name: CompactString) {
        if self.names.len() >= LOCALS_MAX && !self.names.contains_key(&addr) {
            self.names.clear();
        }
        self.names.insert(addr, name);
    }

    pub fn name_of(&self, addr: SocketAddr) -> Option<&CompactString> {
        self.names.get(&addr)
    }

    /// The UDP listener that can reach this address; the one it was heard on is better known to the caller.
    pub fn udp(&self, remote: SocketAddr) -> Option<Flow> {
        let at = self.listeners.iter().position(|(t, l)| *t == Transport::Udp && l.is_ipv4() == remote.is_ipv4())?;
        Some(Flow::Udp { listener: ListenerId(u16::try_from(at).ok()?), remote })
    }

    pub fn transport(&self, flow: Flow) -> Transport {
        match flow {
            Flow::Udp { .. } => Transport::Udp,
            Flow::Stream(conn) => transport_of(conn),
        }
    }

    /// The port that Via and Contact show: where we listen for this transport and family; a TCP peer without a listener of ours is
    /// told the UDP one.
    fn port(&self, transport: Transport, v6: bool) -> u16 {
        let of = |t: Transport| self.listeners.iter().find(|(lt, l)| *lt == t && l.is_ipv6() == v6);
        of(transport).or_else(|| of(Transport::Udp)).or(self.listeners.first()).map_or(5060, |(_, l)| l.port())
    }

    /// A datagram or connection told us which address of ours that peer sees.
    pub fn saw(&mut self, remote: IpAddr, local: IpAddr) {
        if self.locals.len() >= LOCALS_MAX && !self.locals.contains_key(&remote) {
            self.locals.clear();
        }
        self.locals.insert(remote, local);
    }

    pub fn seen(&self, remote: IpAddr) -> Option<IpAddr> {
        self.locals.get(&remote).copied()
    }

    /// A listener's own address of that family, when nothing better is known.
    pub fn own(&self, v6: bool) -> IpAddr {
        self.listeners.iter().find(|(_, l)| l.is_ipv6() == v6).map_or_else(unspecified, |(_, l)| l.ip())
    }

    /// `local`, when we listen there; else the listener's own address. The way to a peer may start at an address that nobody listens
    /// on: a host with several, or a floating one.
    fn listened(&self, local: IpAddr) -> IpAddr {
        let mut family = self.listeners.iter().map(|(_, l)| l.ip()).filter(|ip| ip.is_ipv4() == local.is_ipv4());
        let first = family.clone().next().unwrap_or(local);
        if family.any(|ip| ip == local || ip.is_unspecified()) { local } else { first }
    }

    /// Our face towards a peer of `side`; `local` is our address on the way there.
    pub fn face(&self, config: &Config, side: Side, transport: Transport, local: IpAddr) -> Face {
        let ip = advertised(&side_advertise(config, side), &config.sip.advertise, self.listened(local));
        Face { host: print_host(ip), port: self.port(transport, local.is_ipv6()), transport }
    }

    /// Via value without its branch: `SIP/2.0/UDP host:port`.
    pub fn via(&self, face: &Face, branch: &str) -> CompactString {
        let Face { host, port, transport } = face;
        compact_str::format_compact!("SIP/2.0/{} {host}:{port};branch={branch};rport", transport.as_str())
    }

    /// What SDP shows for a pair bound to `bound`.
    pub fn media_ip(&self, config: &Config, side: Side, bound: IpAddr, local: IpAddr) -> IpAddr {
        let own = if bound.is_unspecified() { local } else { bound };
        let sip = [side_advertise(config, side), config.sip.advertise.clone()].concat();
        advertised(&config.media.advertise, &sip, own)
    }
}

fn transport_of(conn: ConnId) -> Transport {
    if conn.is_tls() { Transport::Tls } else { Transport::Tcp }
}

fn side_advertise(config: &Config, side: Side) -> Vec<IpAddr> {
    match side {
        Side::Caller => config.cxone.advertise.clone(),
        Side::Callee => config.synthflow.advertise.clone(),
    }
}

/// The first address of `local`'s family in either list, else `local`.
fn advertised(first: &[IpAddr], second: &[IpAddr], local: IpAddr) -> IpAddr {
    first.iter().chain(second).find(|a| a.is_ipv4() == local.is_ipv4()).copied().unwrap_or(local)
}

/// An address that reaches nobody, for a peer whose way there is not known yet.
pub fn unspecified() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples::test_config;

    #[test]
    fn one_peer_more_than_remembered_forgets_the_others() {
        let mut flows = Flows::new(&test_config(), RandomState::with_seeds(1, 2, 3, 4));
        let (ours, peer) = (IpAddr::from([192, 0, 2, 1]), |n: usize| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n as u32)));
        for n in 0..LOCALS_MAX {
            flows.saw(peer(n), ours);
        }
        flows.saw(peer(0), ours);
        assert_eq!(flows.locals.len(), LOCALS_MAX, "a known peer needs no room");
        flows.saw(peer(LOCALS_MAX), ours);
        assert_eq!((flows.locals.len(), flows.seen(peer(0)), flows.seen(peer(LOCALS_MAX))), (1, None, Some(ours)));
    }
}
