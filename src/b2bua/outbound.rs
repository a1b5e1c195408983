//! Requests of ours: where they go, over what, and what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::b2bua::B2bua;
use crate::b2bua::FORKS_ENDED_MAX;
use crate::b2bua::calls::Later;
use crate::b2bua::digest::Again;
use crate::b2bua::digest::Answered;
use crate::b2bua::give_room_back;
use crate::b2bua::io::Action;
use crate::b2bua::io::Flow;
use crate::b2bua::io::LossReason;
use crate::b2bua::places::Place;
use crate::b2bua::places::Query;
use crate::b2bua::timers::Owner;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::ids::CallHandle;
use crate::ids::ClientTxId;
use crate::ids::ConnId;
use crate::ids::Side;
use crate::time::Time;
use crate::transaction::client;
use crate::transaction::client::Client;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use crate::wire::method::Method;

/// A request over `udp_mtu` waits so long for a TCP connection before it leaves over UDP (product.md `udp_mtu`).
pub(super) const TCP_TRIAL: Duration = Duration::from_millis(500);
/// More than our Via line ever takes.
const VIA_BYTES_MAX: usize = 160;
/// As long as every branch that we mint.
const BRANCH_SAMPLE: &str = "z9hG4bK0123456789abcdef";
/// ACKs kept of one INVITE: of the 2xx that was taken, and of forks.
pub(super) const ACKS_MAX: usize = FORKS_ENDED_MAX + 1;

/// Who hears of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOwner {
    pub call: CallHandle,
    pub side: Side,
    pub used: Use,
}

/// What has become of an INVITE that nobody waits for any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The leg waits for it.
    Wanted,
    /// CANCEL goes out with the first provisional answer (RFC 3261 §9.1).
    CancelDue,
    /// CANCEL is out; the INVITE is given up at that time if nothing final comes (RFC 3261 §9.1: 64·T1).
    Cancelled { until: Time },
}

/// How a request is on its way.
#[derive(Debug)]
pub(super) enum Way {
    Direct,
    /// Over TCP only because it is long: UDP when there is no connection by then.
    Trial {
        draft: Box<Draft>,
        /// What was too long; `draft` may have lost headers to the budget since.
        bytes: usize,
        udp: Target,
        until: Time,
    },
    /// Over TCP only because it is long, and the connection is up. What follows it in the dialog goes where the Contact says.
    Long,
}

/// A request of ours, until its transaction ends.
#[derive(Debug)]
pub struct ClientEntry {
    pub(super) machine: Client,
    pub(super) owner: Option<ClientOwner>,
    pub(super) flow: Flow,
    /// The far end of `flow`, for when that is a stream that has gone.
    pub(super) remote: SocketAddr,
    pub(super) branch: Box<[u8]>,
    pub(super) cancel: bool,
    pub(super) fate: Fate,
    pub(super) way: Way,
    /// To tag of the 2xx that the call took.
    pub(super) taken: Option<Box<[u8]>>,
    /// ACKs by the To tag of their 2xx, sent again with each repetition of it (RFC 3261 §13.2.2.4).
    pub(super) acks: Vec<(Box<[u8]>, Flow, Bytes)>,
    /// To tags of 2xx that nobody takes: each gets one ACK and one BYE, however often it comes while a name is looked up.
    pub(super) strays: Vec<Box<[u8]>>,
    /// What a challenge is answered with; `None`: it is not.
    pub(super) again: Option<Box<Again>>,
}

impl ClientEntry {
    /// A leg waits for the answer. For that to a re-INVITE even when it sent a CANCEL: its dialog goes on.
    pub(super) fn is_wanted(&self) -> bool {
        self.fate == Fate::Wanted || self.is_reinvite()
    }

    pub(super) fn is_reinvite(&self) -> bool {
        self.owner.is_some_and(|o| o.used == Use::Reinvite)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
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

/// A request on its way out.
pub struct Outgoing {
    pub tx: ClientTxId,
    pub draft: Box<Draft>,
    pub slim: Option<Box<Draft>>,
    pub owner: Option<ClientOwner>,
    /// Challenges that this request has answered by now.
    pub answered: Answered,
}

impl B2bua {
    // ---- out

    pub(super) fn request(&mut self, mut out: Outgoing, to: &Whither, now: Time) {
        let leg_flow = out.owner.and_then(|o| self.live_stream(o.call, o.side));
        match (self.place(to), leg_flow) {
            // An in-dialog request of a stream leg goes on that stream (RFC 5626 §5.3): the peer may accept no other.
            (Place::At(_) | Place::Named { .. }, Some(flow)) if matches!(to, Whither::Uri(_)) => {
                self.authorize_ahead(&mut out, self.far_end(flow));
                self.start_client(out, flow, Way::Direct, now)
            }
            (Place::At(target), _) => self.request_at(out, target, now),
            (Place::Named { name, port, transport }, _) => {
                let Outgoing { tx, draft, slim, owner, .. } = out;
                self.ask(name, Query::Request { tx, draft, slim, port, transport, owner }, now);
            }
            (Place::Nowhere, _) => self.no_response(out.tx, out.owner, 503, "no address to send to".into()),
        }
    }

    pub(super) fn request_at(&mut self, mut out: Outgoing, target: Target, now: Time) {
        if self.clients.len() >= self.limits.client_transactions {
            return self.no_response(out.tx, out.owner, 503, "too many transactions".into());
        }
        self.authorize_ahead(&mut out, target.addr);
        match target.transport {
            Transport::Tcp | Transport::Tls => {
                let flow = Flow::Stream(self.stream_to(target));
                self.start_client(out, flow, Way::Direct, now);
            }
            Transport::Udp => {
                // RFC 3261 §18.1.1: what is longer than the path may carry goes over a congestion-controlled transport.
                if self.is_long(&out, target.addr) {
                    let bytes = out.draft.size();
                    let udp = out.slim.take().unwrap_or_else(|| out.draft.clone());
                    let until = now + TCP_TRIAL;
                    let flow = Flow::Stream(self.stream_to(Target { transport: Transport::Tcp, addr: target.addr }));
                    return self.start_client(out, flow, Way::Trial { draft: udp, bytes, udp: target, until }, now);
                }
                if let Some(slim) = out.slim.take() {
                    out.draft = slim;
                }
                self.request_over_udp(out, target.addr, now);
            }
        }
    }

    /// Whether this request is over `udp_mtu` as it would leave over UDP, to the byte: sizes near the limit are printed.
    pub(super) fn is_long(&self, out: &Outgoing, addr: SocketAddr) -> bool {
        let most = self.config.sip.udp_mtu;
        if out.draft.size() + VIA_BYTES_MAX <= most || out.draft.size() > most + VIA_BYTES_MAX {
            return out.draft.size() > most;
        }
        let Some(flow) = self.flows.udp(addr) else { return false };
        let face = self.face_on(flow, out.owner.map_or(Side::Callee, |o| o.side));
        out.draft.print(Some(&self.flows.via(&face, BRANCH_SAMPLE))).len() > most
    }

    pub(super) fn request_over_udp(&mut self, out: Outgoing, addr: SocketAddr, now: Time) {
        match self.flows.udp(addr) {
            Some(flow) => self.start_client(out, flow, Way::Direct, now),
            None => self.no_response(out.tx, out.owner, 503, format!("no UDP listener reaches {addr}")),
        }
    }

    pub(super) fn start_client(&mut self, out: Outgoing, flow: Flow, way: Way, now: Time) {
        let again = self.again(&out);
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
                again,
            },
        );
        self.run_client(tx, wants, None, now);
    }

    pub(super) fn open_client(&mut self, tx: ClientTxId, entry: ClientEntry) {
        self.branches.insert((entry.branch.clone(), entry.cancel), tx);
        self.clients.insert(tx, entry);
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

    pub(super) fn run_client(&mut self, mut tx: ClientTxId, wants: Vec<client::Out>, response: Option<&Message>, now: Time) {
        for want in wants {
            match want {
                client::Out::Send(bytes) => {
                    // A trial waits here and not in the edge: what was given up must not leave when the connection comes up late.
                    if let Some(entry) = self.clients.get(&tx).filter(|e| !matches!(e.way, Way::Trial { .. })) {
                        let (flow, remote, owner) = (entry.flow, entry.remote, entry.owner);
                        // A CANCEL or ACK follows its INVITE to the same address, port and transport (RFC 3261 §9.1, §17.1.1.3).
                        let flow = self.revived(flow, remote);
                        if let Some(entry) = self.clients.get_mut(&tx) {
                            entry.flow = flow;
                        }
                        self.send_of(flow, owner, bytes, now);
                    }
                }
                client::Out::Response => {
                    let Some(response) = response else { continue };
                    match self.answer_challenge(tx, response, now) {
                        // What else this transaction wants is for the one that was set aside.
                        Some(aside) => tx = aside,
                        None => self.deliver(tx, response, now),
                    }
                }
                client::Out::Expired(_) => {
                    self.target_failed(tx, "no answer to a call");
                    let owner = self.clients.get(&tx).and_then(|e| e.owner.filter(|_| e.is_wanted()));
                    self.no_response(tx, owner, 408, "no final answer within 64*T1".into());
                }
                client::Out::Terminated => self.close_client(tx),
                client::Out::Absorbed => {}
            }
        }
        self.rearm_client(tx);
    }

    pub(super) fn send_of(&mut self, flow: Flow, owner: Option<ClientOwner>, bytes: Bytes, now: Time) {
        if let Some(owner) = owner {
            self.trace_sent(owner.call, owner.side, &bytes, now);
        }
        self.actions.push_back(Action::Send { flow, bytes });
    }

    pub(super) fn rearm_client(&mut self, tx: ClientTxId) {
        if let Some(entry) = self.clients.get(&tx) {
            self.wheel.set(Owner::Client(tx), entry.deadline());
        }
    }

    pub(super) fn deliver(&mut self, tx: ClientTxId, response: &Message, now: Time) {
        self.heard_of_target(tx, response, now);
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        let (owner, wanted) = (entry.owner, entry.is_wanted());
        let request = entry.machine.request().clone();
        let is_invite = owner.is_some_and(|o| matches!(o.used, Use::Invite | Use::Reinvite));
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

    pub(super) fn no_response(&mut self, tx: ClientTxId, owner: Option<ClientOwner>, status: u16, why: String) {
        self.probe_failed(tx, &why);
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
            let owner = entry.owner.filter(|_| entry.is_reinvite());
            self.no_response(tx, owner, 408, "no final answer within 64*T1 of a CANCEL".into());
            return self.close_client(tx);
        }
        let mut wants = Vec::new();
        entry.machine.on_timeout(now, &mut wants);
        self.run_client(tx, wants, None, now);
    }

    /// No TCP there: the same request over UDP, as a new transaction with a Via that says so.
    pub(super) fn fall_back_to_udp(&mut self, tx: ClientTxId, now: Time) {
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        let (owner, flow, fate) = (entry.owner, entry.flow, std::mem::replace(&mut entry.fate, Fate::Wanted));
        let answered = entry.again.take().map(|a| a.answered).unwrap_or_default();
        let Way::Trial { draft, bytes, udp, .. } = std::mem::replace(&mut entry.way, Way::Direct) else { return };
        self.close_client(tx);
        self.give_up_dial(flow);
        if fate != Fate::Wanted {
            return;
        }
        if let Some(owner) = owner {
            self.warn(
                owner.call,
                format!("{bytes} bytes are over udp_mtu, but no TCP connection to {}: {} bytes sent over UDP", udp.addr, draft.size()),
                now,
            );
        }
        self.request_over_udp(Outgoing { tx, draft, slim: None, owner, answered }, udp.addr, now);
    }

    /// A connection that is too late: what waits in it must not arrive after all, as a second INVITE.
    pub(super) fn give_up_dial(&mut self, flow: Flow) {
        if let Flow::Stream(conn) = flow
            && self.flows.conn(conn).is_some_and(|c| c.local.is_none())
            && self.clients_on(flow).is_empty()
        {
            self.flows.lost(conn);
            self.actions.push_back(Action::Close { flow });
        }
    }

    pub(super) fn close_client(&mut self, tx: ClientTxId) {
        self.wheel.set(Owner::Client(tx), None);
        if let Some(entry) = self.clients.remove(&tx) {
            self.branches.remove(&(entry.branch, entry.cancel));
            give_room_back(&mut self.clients);
            give_room_back(&mut self.branches);
        }
    }

    // ---- flows

    pub(super) fn on_flow_up(&mut self, conn: ConnId, local: SocketAddr, remote: SocketAddr, now: Time) {
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
            // Over another connection the answer may come all the same, and its 2xx must be heard; timer B decides.
            if written && entry.is_reinvite() {
                continue;
            }
            let owner = entry.owner.filter(|_| entry.fate == Fate::Wanted);
            if !written {
                self.target_failed(tx, why);
            }
            let Some(entry) = self.clients.get_mut(&tx) else { continue };
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
    pub(super) fn clients_on(&self, flow: Flow) -> Vec<ClientTxId> {
        let mut all: Vec<ClientTxId> = self.clients.iter().filter(|(_, e)| e.flow == flow).map(|(tx, _)| *tx).collect();
        all.sort_unstable();
        all
    }
}
