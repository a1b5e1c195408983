//! Requests of ours: where they go, over what, and what comes back.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::b2bua::B2bua;
use crate::b2bua::calls::Later;
use crate::b2bua::flows::unspecified;
use crate::b2bua::io::Action;
use crate::b2bua::io::Flow;
use crate::b2bua::io::LossReason;
use crate::b2bua::io::Reach;
use crate::b2bua::timers::Owner;
use crate::call::out::Face;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::rules::Target;
use crate::call::rules::TargetName;
use crate::call::rules::Transport;
use crate::dialog::ack_and_bye;
use crate::ids::CONN_DIALLED;
use crate::ids::CallHandle;
use crate::ids::ClientTxId;
use crate::ids::ConnId;
use crate::ids::QueryId;
use crate::ids::Side;
use crate::time::Time;
use crate::transaction::cancel_for;
use crate::transaction::client;
use crate::transaction::client::Client;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use crate::wire::method::Method;
use crate::wire::uri::Host;
use crate::wire::uri::Uri;

/// A request over `udp_mtu` waits so long for a TCP connection before it leaves over UDP (product.md `udp_mtu`).
const TCP_TRIAL: Duration = Duration::from_millis(500);
/// More than our Via line ever takes.
const VIA_BYTES_MAX: usize = 160;
/// As long as every branch that we mint.
const BRANCH_SAMPLE: &str = "z9hG4bK0123456789abcdef";
/// Names under way at once; more fail at once.
pub const QUERIES_MAX: usize = 1_024;
/// ACKs kept of one INVITE: one a fork.
const ACKS_MAX: usize = 8;

/// Who hears of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOwner {
    pub call: CallHandle,
    pub side: Side,
    pub used: Use,
}

/// What has become of an INVITE that nobody waits for any more.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The leg waits for it.
    Wanted,
    /// CANCEL goes out with the first provisional answer (RFC 3261 §9.1).
    CancelDue,
    /// CANCEL is out; the INVITE is given up at that time if nothing final comes (RFC 3261 §9.1: 64·T1).
    Cancelled { until: Time },
}

/// How a request is on its way.
#[derive(Debug)]
enum Way {
    Direct,
    /// Over TCP only because it is long: UDP when there is no connection by then.
    Trial {
        draft: Box<Draft>,
        udp: Target,
        until: Time,
    },
    /// Over TCP only because it is long, and the connection is up. What follows it in the dialog goes where the Contact says.
    Long,
}

/// A request of ours, until its transaction ends.
#[derive(Debug)]
pub struct ClientEntry {
    machine: Client,
    owner: Option<ClientOwner>,
    flow: Flow,
    /// The far end of `flow`, for when that is a stream that has gone.
    remote: SocketAddr,
    branch: Box<[u8]>,
    cancel: bool,
    fate: Fate,
    way: Way,
    /// To tag of the 2xx that the call took.
    taken: Option<Box<[u8]>>,
    /// ACKs by the To tag of their 2xx, sent again with each repetition of it (RFC 3261 §13.2.2.4).
    acks: Vec<(Box<[u8]>, Flow, Bytes)>,
    /// To tags of 2xx that nobody takes: each gets one ACK and one BYE, however often it comes while a name is looked up.
    strays: Vec<Box<[u8]>>,
}

impl ClientEntry {
    fn deadline(&self) -> Option<Time> {
        let trial = match &self.way {
            Way::Trial { until, .. } => Some(*until),
            Way::Direct | Way::Long => None,
        };
        let given_up = match self.fate {
            Fate::Cancelled { until } if self.machine.is_pending() => Some(until),
            _ => None,
        };
        [self.machine.deadline().map(|(at, _)| at), trial, given_up].into_iter().flatten().min()
    }
}

/// What waits for a name.
#[derive(Debug)]
pub enum Query {
    Request { tx: ClientTxId, draft: Box<Draft>, slim: Option<Box<Draft>>, port: u16, transport: Transport, owner: Option<ClientOwner> },
    Ack { invite: ClientTxId, draft: Box<Draft>, port: u16, transport: Transport, side: Side, tag: Box<[u8]> },
}

/// A name that the resolver was asked for, and all that waits for it: in order, for the requests of a dialog must leave in order.
#[derive(Debug)]
pub struct Asked {
    name: CompactString,
    waiting: Vec<Query>,
}

/// A place to send to, or a name to ask for first.
enum Place {
    At(Target),
    Named { name: CompactString, port: u16, transport: Transport },
    Nowhere,
}

/// A request on its way out.
pub struct Outgoing {
    pub tx: ClientTxId,
    pub draft: Box<Draft>,
    pub slim: Option<Box<Draft>>,
    pub owner: Option<ClientOwner>,
}

impl B2bua {
    // ---- out

    pub(super) fn request(&mut self, out: Outgoing, to: &Whither, now: Time) {
        let leg_flow = out.owner.and_then(|o| self.live_stream(o.call, o.side));
        match (self.place(to), leg_flow) {
            // An in-dialog request of a stream leg goes on that stream (RFC 5626 §5.3): the peer may accept no other.
            (Place::At(_) | Place::Named { .. }, Some(flow)) if matches!(to, Whither::Uri(_)) => {
                self.start_client(out, flow, Way::Direct, now)
            }
            (Place::At(target), _) => self.request_at(out, target, now),
            (Place::Named { name, port, transport }, _) => {
                let Outgoing { tx, draft, slim, owner } = out;
                self.ask(name, Query::Request { tx, draft, slim, port, transport, owner }, now);
            }
            (Place::Nowhere, _) => self.no_response(out.tx, out.owner, 503, "no address to send to".into()),
        }
    }

    fn request_at(&mut self, mut out: Outgoing, target: Target, now: Time) {
        if self.clients.len() >= self.limits.client_transactions {
            return self.no_response(out.tx, out.owner, 503, "too many transactions".into());
        }
        match target.transport {
            Transport::Tcp => {
                let flow = Flow::Stream(self.stream_to(target, now));
                self.start_client(out, flow, Way::Direct, now);
            }
            Transport::Udp => {
                // RFC 3261 §18.1.1: what is longer than the path may carry goes over a congestion-controlled transport.
                if self.is_long(&out, target.addr) {
                    let udp = out.slim.take().unwrap_or_else(|| out.draft.clone());
                    let until = now + TCP_TRIAL;
                    let flow = Flow::Stream(self.stream_to(Target { transport: Transport::Tcp, addr: target.addr }, now));
                    return self.start_client(out, flow, Way::Trial { draft: udp, udp: target, until }, now);
                }
                if let Some(slim) = out.slim.take() {
                    out.draft = slim;
                }
                self.request_over_udp(out, target.addr, now);
            }
        }
    }

    /// Whether this request is over `udp_mtu` as it would leave over UDP, to the byte: sizes near the limit are printed.
    fn is_long(&self, out: &Outgoing, addr: SocketAddr) -> bool {
        let most = self.config.sip.udp_mtu;
        if out.draft.size() + VIA_BYTES_MAX <= most || out.draft.size() > most + VIA_BYTES_MAX {
            return out.draft.size() > most;
        }
        let Some(flow) = self.flows.udp(addr) else { return false };
        let face = self.face_on(flow, out.owner.map_or(Side::Callee, |o| o.side));
        out.draft.print(Some(&self.flows.via(&face, BRANCH_SAMPLE))).len() > most
    }

    fn request_over_udp(&mut self, out: Outgoing, addr: SocketAddr, now: Time) {
        match self.flows.udp(addr) {
            Some(flow) => self.start_client(out, flow, Way::Direct, now),
            None => self.no_response(out.tx, out.owner, 503, format!("no UDP listener reaches {addr}")),
        }
    }

    fn start_client(&mut self, out: Outgoing, flow: Flow, way: Way, now: Time) {
        let Outgoing { tx, draft, owner, .. } = out;
        let branch = self.mint.branch();
        let face = self.face_on(flow, owner.map_or(Side::Callee, |o| o.side));
        let printed = draft.print(Some(&self.flows.via(&face, branch.as_str())));
        let way = match way {
            // The connection is there already: nothing to try.
            Way::Trial { .. } if self.is_up(flow) => Way::Long,
            way => way,
        };
        let reliable = self.flows.transport(flow).is_reliable();
        let mut wants = Vec::new();
        let machine = if *draft.method() == Method::INVITE {
            Client::invite(printed, reliable, self.timers, now, &mut wants)
        } else {
            Client::non_invite(printed, reliable, self.timers, now, &mut wants)
        };
        let branch: Box<[u8]> = branch.as_bytes().into();
        let remote = self.far_end(flow);
        self.open_client(
            tx,
            ClientEntry {
                machine,
                owner,
                flow,
                remote,
                branch,
                cancel: false,
                fate: Fate::Wanted,
                way,
                taken: None,
                acks: Vec::new(),
                strays: Vec::new(),
            },
        );
        self.run_client(tx, wants, None, now);
    }

    fn open_client(&mut self, tx: ClientTxId, entry: ClientEntry) {
        self.branches.insert((entry.branch.clone(), entry.cancel), tx);
        self.clients.insert(tx, entry);
    }

    /// Where a URI leads (RFC 3263 §4, without NAPTR and SRV): an address, or a name to resolve.
    fn place(&self, to: &Whither) -> Place {
        let uri = match to {
            Whither::Target(target) => return Place::At(*target),
            Whither::Uri(uri) => uri,
        };
        let Some(Uri::Sip(uri)) = Uri::parse(uri) else { return Place::Nowhere };
        let tcp = uri.params.get("transport").is_some_and(|t| t.eq_ignore_ascii_case(b"tcp"));
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let port = uri.port.unwrap_or(5060);
        match uri.host {
            Host::Ip(ip) => Place::At(Target { transport, addr: SocketAddr::new(ip, port) }),
            Host::Name(name) => match self.targets.get(&TargetName(CompactString::new(name))).and_then(|r| r.first()) {
                Some(reach) => Place::At(Target { transport, addr: SocketAddr::new(reach.ip, port) }),
                None => Place::Named { name: CompactString::new(name), port, transport },
            },
        }
    }

    fn ask(&mut self, name: CompactString, query: Query, now: Time) {
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
                Ok(ip) => self.query_answered(waiting, *ip, now),
                Err(why) => self.query_failed(waiting, why.clone(), now),
            }
        }
    }

    fn query_answered(&mut self, waiting: Query, ip: IpAddr, now: Time) {
        match waiting {
            Query::Request { tx, draft, slim, port, transport, owner } => {
                let target = Target { transport, addr: SocketAddr::new(ip, port) };
                self.request_at(Outgoing { tx, draft, slim, owner }, target, now);
            }
            Query::Ack { invite, draft, port, transport, side, tag } => {
                self.send_ack(invite, &draft, Target { transport, addr: SocketAddr::new(ip, port) }, side, tag, now);
            }
        }
    }

    /// A Contact that leads nowhere: where the peer was last heard is the best guess left.
    fn query_failed(&mut self, query: Query, why: String, now: Time) {
        match query {
            Query::Request { tx, draft, slim, owner, .. } => match owner.and_then(|o| self.last_flow(o.call, o.side)) {
                Some(Flow::Udp { remote, .. }) => {
                    self.request_at(Outgoing { tx, draft, slim, owner }, Target { transport: Transport::Udp, addr: remote }, now);
                }
                _ => self.no_response(tx, owner, 503, why),
            },
            Query::Ack { invite, draft, side, tag, .. } => {
                if let Some((flow, remote)) = self.clients.get(&invite).map(|e| (e.flow, e.remote)) {
                    let flow = self.revived(flow, remote, now);
                    self.send_ack_on(invite, &draft, flow, side, tag, now);
                }
            }
        }
    }

    /// The far end of a flow.
    fn far_end(&self, flow: Flow) -> SocketAddr {
        match flow {
            Flow::Udp { remote, .. } => remote,
            Flow::Stream(conn) => self.flows.conn(conn).map_or(SocketAddr::new(unspecified(), 0), |c| c.remote),
        }
    }

    /// The same flow, or for a stream that has gone a new one to the same place.
    fn revived(&mut self, flow: Flow, remote: SocketAddr, now: Time) -> Flow {
        match flow {
            Flow::Stream(conn) if self.flows.conn(conn).is_none() && remote.port() != 0 => {
                Flow::Stream(self.stream_to(Target { transport: Transport::Tcp, addr: remote }, now))
            }
            flow => flow,
        }
    }

    /// The connection to this address, dialled when there is none.
    pub(super) fn stream_to(&mut self, target: Target, _now: Time) -> ConnId {
        if let Some(conn) = self.flows.to(target.addr) {
            return conn;
        }
        let conn = ConnId(self.mint.number() | CONN_DIALLED);
        self.flows.dialling(conn, target.addr);
        self.actions.push_back(Action::Dial { conn, target });
        conn
    }

    fn is_up(&self, flow: Flow) -> bool {
        match flow {
            Flow::Udp { .. } => true,
            Flow::Stream(conn) => self.flows.conn(conn).is_some_and(|c| c.local.is_some()),
        }
    }

    /// Our face on a flow: for a Via, where the answer may come back to.
    fn face_on(&self, flow: Flow, side: Side) -> Face {
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

    // ---- ACK, CANCEL

    /// The ACK to a 2xx that the call took.
    pub(super) fn ack(&mut self, invite: ClientTxId, draft: Box<Draft>, to: &Whither, call: CallHandle, side: Side, now: Time) {
        // With late offer CXone may keep us waiting until timer M has ended the transaction; the ACK is still due.
        let tag = self.clients.get(&invite).and_then(|e| e.taken.clone()).unwrap_or_default();
        if let Some(flow) = self.live_stream(call, side) {
            return self.send_ack_on(invite, &draft, flow, side, tag, now);
        }
        match self.place(to) {
            Place::At(target) => self.send_ack(invite, &draft, target, side, tag, now),
            Place::Named { name, port, transport } => self.ask(name, Query::Ack { invite, draft, port, transport, side, tag }, now),
            // The 2xx named a place that is none: where its INVITE went is the best guess left.
            Place::Nowhere => {
                if let Some(flow) = self.clients.get(&invite).map(|e| e.flow) {
                    self.send_ack_on(invite, &draft, flow, side, tag, now);
                }
            }
        }
    }

    fn send_ack(&mut self, invite: ClientTxId, draft: &Draft, target: Target, side: Side, tag: Box<[u8]>, now: Time) {
        let flow = match target.transport {
            Transport::Tcp => Some(Flow::Stream(self.stream_to(target, now))),
            Transport::Udp => self.flows.udp(target.addr),
        };
        if let Some(flow) = flow {
            self.send_ack_on(invite, draft, flow, side, tag, now);
        }
    }

    fn send_ack_on(&mut self, invite: ClientTxId, draft: &Draft, flow: Flow, side: Side, tag: Box<[u8]>, now: Time) {
        let branch = self.mint.branch();
        let face = self.face_on(flow, side);
        let bytes = draft.print(Some(&self.flows.via(&face, branch.as_str())));
        if let Some(entry) = self.clients.get_mut(&invite)
            && entry.acks.len() < ACKS_MAX
        {
            entry.acks.push((tag, flow, bytes.clone()));
        }
        self.trace_ack(invite, &bytes, now);
        self.actions.push_back(Action::Send { flow, bytes });
    }

    fn trace_ack(&mut self, invite: ClientTxId, bytes: &Bytes, now: Time) {
        if let Some(owner) = self.clients.get(&invite).and_then(|e| e.owner) {
            self.trace_sent(owner.call, owner.side, bytes, now);
        }
    }

    /// Nobody waits for this INVITE any more.
    pub(super) fn abandon(&mut self, invite: ClientTxId, now: Time) {
        let Some(entry) = self.clients.get_mut(&invite) else {
            // It still waits for a name: then it never leaves.
            return self.forget_queries(invite);
        };
        if entry.fate == Fate::Wanted {
            entry.fate = Fate::CancelDue;
        }
        self.cancel_if_due(invite, now);
    }

    /// The call of this INVITE broke: it is given up, and a 2xx that nobody acknowledged will be ended like a stray one.
    pub(super) fn disown(&mut self, invite: ClientTxId, now: Time) {
        if let Some(entry) = self.clients.get_mut(&invite).filter(|e| e.acks.is_empty()) {
            entry.taken = None;
        }
        self.abandon(invite, now);
    }

    fn forget_queries(&mut self, tx: ClientTxId) {
        for asked in self.queries.values_mut() {
            asked.waiting.retain(|q| !matches!(q, Query::Request { tx: waiting, .. } if *waiting == tx));
        }
    }

    fn cancel_if_due(&mut self, invite: ClientTxId, now: Time) {
        let Some(entry) = self.clients.get_mut(&invite) else { return };
        if entry.fate != Fate::CancelDue || !entry.machine.is_proceeding() {
            return;
        }
        entry.fate = Fate::Cancelled { until: now + self.timers.t1 * 64 };
        let (flow, remote, branch, owner) = (entry.flow, entry.remote, entry.branch.clone(), entry.owner);
        let bytes = cancel_for(entry.machine.request());
        let reliable = self.flows.transport(flow).is_reliable();
        let tx = ClientTxId(self.mint.number());
        let mut wants = Vec::new();
        let machine = Client::non_invite(bytes.clone(), reliable, self.timers, now, &mut wants);
        if let Some(owner) = owner {
            self.trace_sent(owner.call, owner.side, &bytes, now);
        }
        self.open_client(
            tx,
            ClientEntry {
                machine,
                owner: None,
                flow,
                remote,
                branch,
                cancel: true,
                fate: Fate::Wanted,
                way: Way::Direct,
                taken: None,
                acks: Vec::new(),
                strays: Vec::new(),
            },
        );
        self.run_client(tx, wants, None, now);
        self.rearm_client(invite);
    }

    // ---- back in

    pub(super) fn on_response(&mut self, response: Message, flow: Flow, remote: SocketAddr, now: Time) {
        let key = match (response.check(), response.via()) {
            (Ok(()), Ok(via)) => via.branch().map(|b| (Box::<[u8]>::from(b), *response.method() == Method::CANCEL)),
            _ => None,
        };
        let Some(&tx) = key.and_then(|k| self.branches.get(&k)) else {
            return self.actions.push_back(Action::Dropped { remote, why: "response to nothing" });
        };
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        if matches!(entry.way, Way::Trial { .. }) {
            entry.way = Way::Long;
        }
        // RFC 3261 §18.2.2: over a new connection when that of the request is gone; a CANCEL or an ACK goes there, too.
        if matches!((entry.flow, flow), (Flow::Stream(old), Flow::Stream(_)) if self.flows.conn(old).is_none()) {
            entry.flow = flow;
        }
        let mut wants = Vec::new();
        entry.machine.on_response(&response, now, &mut wants);
        let traced = entry.owner.filter(|_| !wants.contains(&client::Out::Absorbed));
        if let Some(owner) = traced {
            self.trace_message(owner.call, owner.side, false, &response, now);
        }
        self.run_client(tx, wants, Some(&response), now);
        self.cancel_if_due(tx, now);
    }

    fn run_client(&mut self, tx: ClientTxId, wants: Vec<client::Out>, response: Option<&Message>, now: Time) {
        for want in wants {
            match want {
                client::Out::Send(bytes) => {
                    // A trial waits here and not in the edge: what was given up must not leave when the connection comes up late.
                    if let Some(entry) = self.clients.get(&tx).filter(|e| !matches!(e.way, Way::Trial { .. })) {
                        let (flow, remote, owner) = (entry.flow, entry.remote, entry.owner);
                        // A CANCEL or ACK follows its INVITE to the same address, port and transport (RFC 3261 §9.1, §17.1.1.3).
                        let flow = self.revived(flow, remote, now);
                        if let Some(entry) = self.clients.get_mut(&tx) {
                            entry.flow = flow;
                        }
                        self.send_of(flow, owner, bytes, now);
                    }
                }
                client::Out::Response => {
                    if let Some(response) = response {
                        self.deliver(tx, response, now);
                    }
                }
                client::Out::Expired(_) => {
                    let owner = self.clients.get(&tx).and_then(|e| e.owner.filter(|_| e.fate == Fate::Wanted));
                    self.no_response(tx, owner, 408, "no final answer within 64*T1".into());
                }
                client::Out::Terminated => self.close_client(tx),
                client::Out::Absorbed => {}
            }
        }
        self.rearm_client(tx);
    }

    fn send_of(&mut self, flow: Flow, owner: Option<ClientOwner>, bytes: Bytes, now: Time) {
        if let Some(owner) = owner {
            self.trace_sent(owner.call, owner.side, &bytes, now);
        }
        self.actions.push_back(Action::Send { flow, bytes });
    }

    fn rearm_client(&mut self, tx: ClientTxId) {
        if let Some(entry) = self.clients.get(&tx) {
            self.wheel.set(Owner::Client(tx), entry.deadline());
        }
    }

    fn deliver(&mut self, tx: ClientTxId, response: &Message, now: Time) {
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        let (owner, wanted) = (entry.owner, entry.fate == Fate::Wanted);
        let request = entry.machine.request().clone();
        let is_invite = owner.is_some_and(|o| o.used == Use::Invite);
        if is_invite && (200..300).contains(&response.status()) && !self.takes(tx, response, wanted, now) {
            return;
        }
        let Some(owner) = owner.filter(|_| wanted) else { return };
        if response.status() >= 200 && self.passed_for_nobody(owner, response.status(), now) {
            return;
        }
        if let Some(entry) = self.clients.get(&tx).filter(|e| response.status() >= 101 && !matches!(e.way, Way::Long)) {
            self.keep_flow(owner.call, owner.side, entry.flow);
        }
        self.with_call(owner.call, now, |c, cx| c.on_response(owner.side, tx, owner.used, response, &request, cx));
    }

    /// A request that one peer passed to the other through a call that is over since: its sender still gets its answer.
    pub(super) fn passed_for_nobody(&mut self, owner: ClientOwner, status: u16, now: Time) -> bool {
        match owner.used {
            Use::Passed(back) if !self.calls.contains_key(&owner.call) => {
                self.respond(back, Reply::new(status), now);
                true
            }
            _ => false,
        }
    }

    /// Whether this 2xx is the call's to take. A repetition gets its ACK again; a fork, or one that crossed our CANCEL, ACK and BYE
    /// along its own route set (RFC 3261 §13.2.2.4, §9.1).
    fn takes(&mut self, tx: ClientTxId, response: &Message, wanted: bool, now: Time) -> bool {
        let tag: Box<[u8]> = response.to_tag().unwrap_or_default().as_bytes().into();
        let Some(entry) = self.clients.get_mut(&tx) else { return false };
        if let Some((_, flow, bytes)) = entry.acks.iter().find(|(t, ..)| *t == tag) {
            let (flow, remote, bytes) = (*flow, entry.remote, bytes.clone());
            let flow = self.revived(flow, remote, now);
            self.trace_ack(tx, &bytes, now);
            self.actions.push_back(Action::Send { flow, bytes });
            return false;
        }
        let owner = entry.owner.map(|o| o.call);
        let alive = owner.is_some_and(|call| self.calls.contains_key(&call));
        match &entry.taken {
            Some(taken) if *taken == tag => false,
            None if wanted && alive => {
                entry.taken = Some(tag);
                true
            }
            _ => {
                self.end_stray(tx, response, tag, now);
                false
            }
        }
    }

    fn end_stray(&mut self, tx: ClientTxId, response: &Message, tag: Box<[u8]>, now: Time) {
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        if entry.strays.len() >= ACKS_MAX || entry.strays.contains(&tag) {
            return;
        }
        entry.strays.push(tag.clone());
        let (flow, side) = (entry.flow, entry.owner.map_or(Side::Callee, |o| o.side));
        let Some((dialog, ack, bye)) = ack_and_bye(entry.machine.request(), response) else { return };
        let to = Whither::Uri(dialog.next_hop().into());
        let out = Outgoing { tx: ClientTxId(self.mint.number()), draft: Box::new(bye), slim: None, owner: None };
        if matches!(flow, Flow::Stream(_)) && self.is_up(flow) {
            self.send_ack_on(tx, &ack, flow, side, tag, now);
            return self.start_client(out, flow, Way::Direct, now);
        }
        match self.place(&to) {
            Place::At(target) => {
                self.send_ack(tx, &ack, target, side, tag, now);
                self.request_at(out, target, now);
            }
            Place::Named { name, port, transport } => {
                self.ask(name, Query::Ack { invite: tx, draft: Box::new(ack), port, transport, side, tag }, now);
                self.request(out, &to, now);
            }
            // The 2xx named a place that is none: where its INVITE went is the best guess left.
            Place::Nowhere => {
                self.send_ack_on(tx, &ack, flow, side, tag, now);
                self.start_client(out, flow, Way::Direct, now);
            }
        }
    }

    fn no_response(&mut self, tx: ClientTxId, owner: Option<ClientOwner>, status: u16, why: String) {
        if let Some(owner) = owner {
            self.later.push_back(Later::NoResponse { owner, tx, status, why });
        }
    }

    pub(super) fn on_client_timeout(&mut self, tx: ClientTxId, now: Time) {
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        if matches!(&entry.way, Way::Trial { until, .. } if *until <= now) {
            return self.fall_back_to_udp(tx, now);
        }
        if matches!(entry.fate, Fate::Cancelled { until } if until <= now) && entry.machine.is_pending() {
            return self.close_client(tx);
        }
        let mut wants = Vec::new();
        entry.machine.on_timeout(now, &mut wants);
        self.run_client(tx, wants, None, now);
    }

    /// No TCP there: the same request over UDP, as a new transaction with a Via that says so.
    fn fall_back_to_udp(&mut self, tx: ClientTxId, now: Time) {
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        let (owner, flow, fate) = (entry.owner, entry.flow, std::mem::replace(&mut entry.fate, Fate::Wanted));
        let Way::Trial { draft, udp, .. } = std::mem::replace(&mut entry.way, Way::Direct) else { return };
        self.close_client(tx);
        self.give_up_dial(flow);
        if fate != Fate::Wanted {
            return;
        }
        if let Some(owner) = owner {
            self.warn(
                owner.call,
                format!("{} bytes are over udp_mtu, but no TCP connection to {}: sent over UDP", draft.size(), udp.addr),
                now,
            );
        }
        self.request_over_udp(Outgoing { tx, draft, slim: None, owner }, udp.addr, now);
    }

    /// A connection that is too late: what waits in it must not arrive after all, as a second INVITE.
    fn give_up_dial(&mut self, flow: Flow) {
        if let Flow::Stream(conn) = flow
            && self.flows.conn(conn).is_some_and(|c| c.local.is_none())
            && self.clients_on(flow).is_empty()
        {
            self.flows.lost(conn);
            self.actions.push_back(Action::Close { flow });
        }
    }

    fn close_client(&mut self, tx: ClientTxId) {
        self.wheel.set(Owner::Client(tx), None);
        if let Some(entry) = self.clients.remove(&tx) {
            self.branches.remove(&(entry.branch, entry.cancel));
        }
    }

    // ---- flows

    pub(super) fn on_flow_up(&mut self, conn: ConnId, local: SocketAddr, remote: SocketAddr, dialled: bool, now: Time) {
        let _ = dialled;
        self.flows.up(conn, local, remote);
        let flow = Flow::Stream(conn);
        for tx in self.clients_on(flow) {
            let Some(entry) = self.clients.get_mut(&tx) else { continue };
            if matches!(entry.way, Way::Trial { .. }) {
                entry.way = Way::Long;
                if entry.fate != Fate::Wanted {
                    self.close_client(tx);
                    continue;
                }
                let (owner, bytes) = (entry.owner, entry.machine.request().clone());
                self.send_of(flow, owner, bytes, now);
            }
            self.rearm_client(tx);
        }
    }

    pub(super) fn on_flow_lost(&mut self, flow: Flow, why: &LossReason, now: Time) {
        let text = match why {
            LossReason::NotConnected(why) | LossReason::Closed(why) | LossReason::Unreachable(why) => why.as_str(),
        };
        match flow {
            Flow::Stream(conn) => {
                self.flows.lost(conn);
                let written = !matches!(why, LossReason::NotConnected(_));
                self.stream_gone(conn, written, text, now);
            }
            // ICMP is a hint that anybody may forge; timers decide (RFC 3261 §18.4 leaves it to us).
            Flow::Udp { .. } => {}
        }
    }

    /// What still waited for a first answer on this stream hears of it (RFC 3261 §17.1.4). An INVITE that was written may have
    /// arrived: its transaction stays, so that an answer over another connection is cancelled, or acknowledged and ended.
    pub(super) fn stream_gone(&mut self, conn: ConnId, written: bool, why: &str, now: Time) {
        for tx in self.clients_on(Flow::Stream(conn)) {
            let Some(entry) = self.clients.get_mut(&tx) else { continue };
            if matches!(entry.way, Way::Trial { .. }) {
                self.fall_back_to_udp(tx, now);
                continue;
            }
            if !entry.machine.is_pending() || entry.machine.is_proceeding() {
                continue;
            }
            let owner = entry.owner.filter(|_| entry.fate == Fate::Wanted);
            let mut wants = Vec::new();
            if written && owner.is_some_and(|o| o.used == Use::Invite) {
                entry.fate = Fate::CancelDue;
            } else {
                entry.machine.on_transport_error(&mut wants);
            }
            self.no_response(tx, owner, 503, format!("connection: {why}"));
            self.run_client(tx, wants, None, now);
        }
    }

    /// In order of their ids: the order must be the same in every run.
    fn clients_on(&self, flow: Flow) -> Vec<ClientTxId> {
        let mut all: Vec<ClientTxId> = self.clients.iter().filter(|(_, e)| e.flow == flow).map(|(tx, _)| *tx).collect();
        all.sort_unstable();
        all
    }
}
