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
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    // The port does not matter for a route; 9 is discard.
    socket.connect(SocketAddr::new(remote, 9)).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// Remembers `route_to` for a while.
#[derive(Debug, Default)]
pub struct LocalAddresses {
    known: HashMap<IpAddr, (Option<IpAddr>, Time)>,
}

impl LocalAddresses {
    /// The address and port that `remote` sees of a listener that is bound to `bound`. The wildcard itself when there is no route.
    pub fn towards(&mut self, bound: SocketAddr, remote: IpAddr, now: Time) -> SocketAddr {
        if !bound.ip().is_unspecified() {
            return bound;
        }
        let fresh = self.known.get(&remote).filter(|(_, until)| now < *until).map(|(local, _)| *local);
        let local = fresh.unwrap_or_else(|| self.ask(remote, now));
        SocketAddr::new(local.unwrap_or(bound.ip()), bound.port())
    }

    fn ask(&mut self, remote: IpAddr, now: Time) -> Option<IpAddr> {
        if self.known.len() >= LOCAL_ADDRESSES_MAX {
            self.known.clear();
        }
        let local = route_to(remote);
        self.known.insert(remote, (local, now + LOCAL_ADDRESS_LIFE));
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
        assert_eq!(locals.towards(concrete, Ipv4Addr::LOCALHOST.into(), now), concrete);
        let any: SocketAddr = "0.0.0.0:5060".parse().unwrap();
        assert_eq!(locals.towards(any, Ipv4Addr::LOCALHOST.into(), now), "127.0.0.1:5060".parse().unwrap());
    }

    #[test]
    fn one_peer_more_than_remembered_forgets_the_others() {
        let mut locals = LocalAddresses::default();
        let any: SocketAddr = "0.0.0.0:5060".parse().unwrap();
        let now = Time::from_micros(1);
        for n in 0..LOCAL_ADDRESSES_MAX {
            locals.known.insert(Ipv4Addr::from(0x7f00_0002 + n as u32).into(), (None, now + LOCAL_ADDRESS_LIFE));
        }
        locals.towards(any, Ipv4Addr::LOCALHOST.into(), now);
        assert_eq!(locals.known.len(), 1);
    }
}
