//! Our address towards a peer, when a listener is bound to a wildcard: the kernel's routing table knows it.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;

use std::collections::HashMap;

use crate::time::Time;

/// Peers whose local address is remembered; when full, all are forgotten and asked again.
const LOCAL_ADDRESSES_MAX: usize = 4096;

/// A route may change under us.
const LOCAL_ADDRESS_LIFE: Duration = Duration::from_secs(60);

/// Asks the kernel from which address it would send to `remote`: connecting a UDP socket sends nothing.
pub fn route_to(remote: IpAddr) -> Option<IpAddr> {
    // The port does not matter for a route; 9 is discard.
    route_to_peer(SocketAddr::new(remote, 9))
}

/// As `route_to`; a link-local peer needs the scope that its socket address carries.
fn route_to_peer(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(remote).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// Remembers `route_to` for a while.
#[derive(Debug, Default)]
pub struct LocalAddresses {
    known: HashMap<IpAddr, (Option<IpAddr>, Time)>,
}

impl LocalAddresses {
    /// The address and port that `remote` sees of a listener that is bound to `bound`. `None`: there has never been a route to it.
    pub fn towards(&mut self, bound: SocketAddr, remote: SocketAddr, now: Time) -> Option<SocketAddr> {
        if !bound.ip().is_unspecified() {
            return Some(bound);
        }
        let known = self.known.get(&remote.ip()).copied();
        let local = match known {
            Some((local, until)) if now < until => local,
            // A route that is gone for a moment does not change who we are.
            _ => self.ask(remote, known.and_then(|(local, _)| local), now),
        };
        local.map(|ip| SocketAddr::new(ip, bound.port()))
    }

    fn ask(&mut self, remote: SocketAddr, before: Option<IpAddr>, now: Time) -> Option<IpAddr> {
        if self.known.len() >= LOCAL_ADDRESSES_MAX {
            self.known.clear();
        }
        let local = route_to_peer(remote).or(before);
        self.known.insert(remote.ip(), (local, now + LOCAL_ADDRESS_LIFE));
        local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_loopback_is_loopback() {
        assert_eq!(route_to(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_concrete_listener_is_itself_and_a_wildcard_is_looked_up() {
        let mut locals = LocalAddresses::default();
        let now = Time::from_micros(1);
        let concrete: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let peer: SocketAddr = "127.0.0.1:6000".parse().unwrap();
        assert_eq!(locals.towards(concrete, peer, now), Some(concrete));
        let any: SocketAddr = "0.0.0.0:5060".parse().unwrap();
        assert_eq!(locals.towards(any, peer, now), "127.0.0.1:5060".parse().ok());
        // A port is no part of a route, and port 0 cannot be connected to.
        locals.known.clear();
        assert_eq!(locals.towards(any, "127.0.0.1:0".parse().unwrap(), now), "127.0.0.1:5060".parse().ok());
    }

    #[test]
    fn a_route_that_is_gone_for_a_moment_does_not_change_who_we_are() {
        let mut locals = LocalAddresses::default();
        let any: SocketAddr = "0.0.0.0:5060".parse().unwrap();
        // The kernel refuses to connect to the broadcast address (EACCES): there is never an answer.
        let nowhere: SocketAddr = "255.255.255.255:5060".parse().unwrap();
        let now = Time::from_micros(1);
        assert_eq!(locals.towards(any, nowhere, now), None);
        let ours: IpAddr = "192.0.2.7".parse().unwrap();
        locals.known.insert(nowhere.ip(), (Some(ours), now));
        assert_eq!(locals.towards(any, nowhere, now + LOCAL_ADDRESS_LIFE), Some(SocketAddr::new(ours, 5060)));
    }

    #[test]
    fn one_peer_more_than_remembered_forgets_the_others() {
        let mut locals = LocalAddresses::default();
        let any: SocketAddr = "0.0.0.0:5060".parse().unwrap();
        let now = Time::from_micros(1);
        for n in 0..LOCAL_ADDRESSES_MAX {
            locals.known.insert(Ipv4Addr::from(0x7f00_0002 + n as u32).into(), (None, now + LOCAL_ADDRESS_LIFE));
        }
        locals.towards(any, "127.0.0.1:6000".parse().unwrap(), now);
        assert_eq!(locals.known.len(), 1);
    }
}
