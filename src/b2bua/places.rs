//! Where a request goes: names, addresses, streams, and what a peer sees of us there.

use crate::b2bua::B2bua;
use crate::b2bua::digest::Answered;
use crate::b2bua::flows::unspecified;
use crate::b2bua::io::Action;
use crate::b2bua::io::Flow;
use crate::b2bua::io::Reach;
use crate::b2bua::outbound::ClientOwner;
use crate::b2bua::outbound::Outgoing;
use crate::call::out::Face;
use crate::call::out::Whither;
use crate::call::rules::Target;
use crate::call::rules::TargetName;
use crate::call::rules::Transport;
use crate::ids::CONN_DIALLED;
use crate::ids::CONN_TLS;
use crate::ids::ClientTxId;
use crate::ids::ConnId;
use crate::ids::QueryId;
use crate::ids::Side;
use crate::time::Time;
use crate::wire::draft::Draft;
use crate::wire::uri::Host;
use crate::wire::uri::SipUri;
use crate::wire::uri::Uri;
use compact_str::CompactString;
use std::net::IpAddr;
use std::net::SocketAddr;

/// Names under way at once; more fail at once.
pub const QUERIES_MAX: usize = 1_024;

/// What waits for a name.
#[derive(Debug)]
pub enum Query {
    Request { tx: ClientTxId, draft: Box<Draft>, slim: Option<Box<Draft>>, port: u16, transport: Transport, owner: Option<ClientOwner> },
    Ack { invite: ClientTxId, draft: Box<Draft>, port: u16, transport: Transport, side: Side, tag: Box<[u8]> },
}

/// A name that the resolver was asked for, and all that waits for it: in order, for the requests of a dialog must leave in order.
#[derive(Debug)]
pub struct Asked {
    pub(super) name: CompactString,
    pub(super) waiting: Vec<Query>,
}

/// A place to send to, or a name to ask for first.
pub(super) enum Place {
    At(Target),
    Named { name: CompactString, port: u16, transport: Transport },
    Nowhere,
}

/// RFC 3263 §4.1: `sips:` is TLS, whatever stream its parameter names.
fn transport_of(uri: &SipUri<'_>) -> Transport {
    match uri.params.get("transport") {
        _ if uri.secure => Transport::Tls,
        Some(t) if t.eq_ignore_ascii_case(b"tls") => Transport::Tls,
        Some(t) if t.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        _ => Transport::Udp,
    }
}

impl B2bua {
    /// Where a URI leads (RFC 3263 §4, without NAPTR and SRV): an address, or a name to resolve.
    pub(super) fn place(&self, to: &Whither) -> Place {
        let uri = match to {
            Whither::Target(target) => return Place::At(*target),
            Whither::Uri(uri) => uri,
        };
        let Some(Uri::Sip(uri)) = Uri::parse(uri) else { return Place::Nowhere };
        let transport = transport_of(&uri);
        let port = uri.port.unwrap_or(transport.default_port());
        match uri.host {
            Host::Ip(ip) => Place::At(Target { transport, addr: SocketAddr::new(ip, port) }),
            Host::Name(name) => match self.targets.get(&TargetName(CompactString::new(name))).and_then(|r| r.first()) {
                Some(reach) => Place::At(Target { transport, addr: SocketAddr::new(reach.ip, port) }),
                None => Place::Named { name: CompactString::new(name), port, transport },
            },
        }
    }

    pub(super) fn ask(&mut self, name: CompactString, query: Query, now: Time) {
        if let Some(asked) = self.names.get(&name).and_then(|id| self.queries.get_mut(id)) {
            if asked.waiting.len() >= self.limits.queries {
                return self.query_failed(query, "too many requests wait for one name".into(), now);
            }
            return asked.waiting.push(query);
        }
        if self.queries.len() >= self.limits.queries {
            return self.query_failed(query, "too many names under way".into(), now);
        }
        let id = QueryId(self.mint.number());
        self.names.insert(name.clone(), id);
        self.queries.insert(id, Asked { name: name.clone(), waiting: vec![query] });
        self.actions.push_back(Action::Resolve { query: id, name });
    }

    pub(super) fn on_resolved(&mut self, query: QueryId, result: Result<Vec<Reach>, String>, now: Time) {
        let Some(asked) = self.queries.remove(&query) else { return };
        self.names.remove(&asked.name);
        let found = result.and_then(|all| all.first().map(|r| r.ip).ok_or_else(|| "name has no address".into()));
        for waiting in asked.waiting {
            match &found {
                Ok(ip) => {
                    if let Query::Request { port, transport: Transport::Tls, .. } | Query::Ack { port, transport: Transport::Tls, .. } =
                        &waiting
                    {
                        self.flows.named(SocketAddr::new(*ip, *port), asked.name.clone());
                    }
                    self.query_answered(waiting, *ip, now);
                }
                Err(why) => self.query_failed(waiting, why.clone(), now),
            }
        }
    }

    pub(super) fn query_answered(&mut self, waiting: Query, ip: IpAddr, now: Time) {
        match waiting {
            Query::Request { tx, draft, slim, port, transport, owner } => {
                let target = Target { transport, addr: SocketAddr::new(ip, port) };
                self.request_at(Outgoing { tx, draft, slim, owner, answered: Answered::default() }, target, now);
            }
            Query::Ack { invite, draft, port, transport, side, tag } => {
                self.send_ack(invite, &draft, Target { transport, addr: SocketAddr::new(ip, port) }, side, tag, now);
            }
        }
    }

    /// A Contact that leads nowhere: where the peer was last heard is the best guess left.
    pub(super) fn query_failed(&mut self, query: Query, why: String, now: Time) {
        match query {
            Query::Request { tx, draft, slim, owner, .. } => match owner.and_then(|o| self.last_flow(o.call, o.side)) {
                Some(Flow::Udp { remote, .. }) => {
                    self.request_at(
                        Outgoing { tx, draft, slim, owner, answered: Answered::default() },
                        Target { transport: Transport::Udp, addr: remote },
                        now,
                    );
                }
                _ => self.no_response(tx, owner, 503, why),
            },
            Query::Ack { invite, draft, side, tag, .. } => {
                if let Some((flow, remote)) = self.clients.get(&invite).map(|e| (e.flow, e.remote)) {
                    let flow = self.revived(flow, remote);
                    self.send_ack_on(invite, &draft, flow, side, tag, now);
                }
            }
        }
    }

    /// The far end of a flow.
    pub(super) fn far_end(&self, flow: Flow) -> SocketAddr {
        match flow {
            Flow::Udp { remote, .. } => remote,
            Flow::Stream(conn) => self.flows.conn(conn).map_or(SocketAddr::new(unspecified(), 0), |c| c.remote),
        }
    }

    /// The same flow, or for a stream that has gone a new one to the same place.
    pub(super) fn revived(&mut self, flow: Flow, remote: SocketAddr) -> Flow {
        match flow {
            Flow::Stream(conn) if self.flows.conn(conn).is_none() && remote.port() != 0 => {
                Flow::Stream(self.stream_to(Target { transport: self.flows.transport(flow), addr: remote }))
            }
            flow => flow,
        }
    }

    /// The connection to this address, dialled when there is none.
    pub(super) fn stream_to(&mut self, target: Target) -> ConnId {
        if let Some(conn) = self.flows.to(target) {
            return conn;
        }
        let tls = if target.transport == Transport::Tls { CONN_TLS } else { 0 };
        let conn = ConnId(self.mint.number() | CONN_DIALLED | tls);
        self.flows.dialling(conn, target.addr);
        let name = self.name_at(target.addr);
        self.actions.push_back(Action::Dial { conn, target, name });
        conn
    }

    /// Whose certificate a TLS connection to this address must show (RFC 5922 §7.3): the configured target that leads there, the
    /// name that was looked up, else the address itself.
    fn name_at(&self, addr: SocketAddr) -> CompactString {
        let mut configured = self.config.synthflow.targets.iter().filter(|t| t.transport == Transport::Tls && t.port == addr.port());
        let target = configured.find(|t| self.targets.get(&t.name).is_some_and(|all| all.iter().any(|r| r.ip == addr.ip())));
        let name = target.map(|t| &t.name.0).or_else(|| self.flows.name_of(addr));
        name.cloned().unwrap_or_else(|| compact_str::format_compact!("{}", addr.ip()))
    }

    pub(super) fn is_up(&self, flow: Flow) -> bool {
        match flow {
            Flow::Udp { .. } => true,
            Flow::Stream(conn) => self.flows.conn(conn).is_some_and(|c| c.local.is_some()),
        }
    }

    /// Our face on a flow: for a Via, where the answer may come back to.
    pub(super) fn face_on(&self, flow: Flow, side: Side) -> Face {
        let (remote, local) = match flow {
            Flow::Udp { remote, .. } => (remote, None),
            Flow::Stream(conn) => {
                let conn = self.flows.conn(conn);
                (conn.map_or(SocketAddr::new(unspecified(), 0), |c| c.remote), conn.and_then(|c| c.local).map(|l| l.ip()))
            }
        };
        let local = local.unwrap_or_else(|| self.local_towards(remote.ip()));
        self.flows.face(&self.config, side, self.flows.transport(flow), local)
    }

    /// Our address on the way to a peer: what the resolver or the last datagram from there said, else a listener's own.
    pub(super) fn local_towards(&self, ip: IpAddr) -> IpAddr {
        let known = self.config.synthflow.targets.iter().filter_map(|t| self.targets.get(&t.name)).flatten().find(|r| r.ip == ip);
        known.map(|r| r.local).or_else(|| self.flows.seen(ip)).unwrap_or_else(|| self.flows.own(ip.is_ipv6()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_its_transport_and_that_its_port() {
        for (uri, transport, port) in [
            ("sip:a@b.example", Transport::Udp, 5060),
            ("sip:a@b.example;transport=TCP", Transport::Tcp, 5060),
            ("sip:a@b.example;transport=tls", Transport::Tls, 5061),
            // RFC 3261 §26.2.2: "the use of "transport=tls" has consequently been deprecated"; with sips, tcp means TLS over TCP.
            ("sips:a@b.example", Transport::Tls, 5061),
            ("sips:a@b.example;transport=tcp", Transport::Tls, 5061),
            ("sip:a@b.example;transport=sctp", Transport::Udp, 5060),
        ] {
            let Some(Uri::Sip(parsed)) = Uri::parse(uri.as_bytes()) else { panic!("{uri}") };
            assert_eq!((transport_of(&parsed), transport_of(&parsed).default_port()), (transport, port), "{uri}");
        }
    }
}
