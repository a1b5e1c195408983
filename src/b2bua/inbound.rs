//! Requests of peers: from the datagram to the transaction, the dialog, or a refusal.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::b2bua::B2bua;
use crate::b2bua::calls::Later;
use crate::b2bua::gate::Entrance;
use crate::b2bua::give_room_back;
use crate::b2bua::io::Action;
use crate::b2bua::io::Flow;
use crate::b2bua::screen::screen;
use crate::b2bua::timers::Owner;
use crate::call::leg::ALLOW;
use crate::call::out::Reply;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::ids::CallHandle;
use crate::ids::LocalTag;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::ids::SipCallId;
use crate::report::Fact;
use crate::time::Time;
use crate::transaction::MergeKey;
use crate::transaction::ServerKey;
use crate::transaction::server;
use crate::transaction::server::Server;
use crate::wire::draft::Draft;
use crate::wire::draft::reason_phrase;
use crate::wire::message::FrameError;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::salvage::salvage;

/// One request of a peer, until its transaction ends.
#[derive(Debug)]
pub struct ServerEntry {
    machine: Server,
    method: Method,
    /// Until its final answer: after that only the machine's last response is of use, and there are many that wait for their timers.
    request: Option<Message>,
    pub remote: SocketAddr,
    pub flow: Flow,
    /// Where responses go when a stream is lost (RFC 3261 §18.2.2).
    via_addr: SocketAddr,
    pub owner: Option<(CallHandle, Side)>,
    key: ServerKey,
    merge: Option<MergeKey>,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub flow: Flow,
    pub remote: SocketAddr,
    pub local: SocketAddr,
}

impl ServerEntry {
    /// No final answer yet.
    pub fn is_pending(&self) -> bool {
        self.machine.is_pending()
    }
}

impl B2bua {
    pub(super) fn on_sip(&mut self, flow: Flow, remote: SocketAddr, local: SocketAddr, bytes: Bytes, now: Time) {
        if self.standing(remote, true).is_stranger() {
            return self.actions.push_back(Action::Dropped { remote, why: "stranger" });
        }
        self.flows.saw(remote.ip(), local.ip());
        match Message::parse(bytes.clone()) {
            Err(e) => {
                self.actions.push_back(Action::Dropped { remote, why: e.why });
                self.refuse_unframed(&bytes, Source { flow, remote, local }, e.why, now);
            }
            // An allow entry with a port lets in that port only, outside a dialog (product.md §2).
            Ok(message) if message.is_request() && message.to_tag().is_none() && self.standing(remote, false).is_stranger() => {
                self.actions.push_back(Action::Dropped { remote, why: "stranger" });
            }
            Ok(message) if message.is_request() => self.on_request(message, Source { flow, remote, local }, now),
            Ok(message) => self.on_response(message, flow, remote, now),
        }
    }

    /// A stream that lost its framing: what came is answered 400 when it can be, and the stream is closed.
    pub(super) fn on_broken(&mut self, flow: Flow, remote: SocketAddr, local: SocketAddr, why: &FrameError, head: Bytes, now: Time) {
        self.actions.push_back(Action::Dropped { remote, why: why.why });
        match Message::parse(head.clone()) {
            Ok(message) => self.refuse_unread(&message, Source { flow, remote, local }, why.why, now),
            Err(_) => self.refuse_unframed(&head, Source { flow, remote, local }, why.why, now),
        }
        self.actions.push_back(Action::Close { flow });
        if let Flow::Stream(conn) = flow {
            self.flows.lost(conn);
            self.stream_gone(conn, true, "framing lost", now);
        }
    }

    /// More than we take in one message: who sent it shall not wait for an answer in vain.
    fn refuse_unframed(&mut self, raw: &[u8], source: Source, why: &'static str, now: Time) {
        if let Some(request) = salvage(raw) {
            self.refuse_unread(&request, source, why, now);
        }
    }

    fn refuse_unread(&mut self, request: &Message, source: Source, why: &'static str, now: Time) {
        let stranger = self.standing(source.remote, request.to_tag().is_some()).is_stranger();
        if stranger || !request.is_request() || *request.method() == Method::ACK {
            return;
        }
        let reason = request.check().err().map_or_else(|| format!("Bad Request: {why}"), |defect| defect.reason.into_owned());
        let reply = Reply::new(400).reason(reason);
        self.say_refused(request, source.remote, &reply, now);
        self.refuse_stateless(request, source, reply);
    }

    fn on_request(&mut self, request: Message, source: Source, now: Time) {
        if let Err(defect) = request.check() {
            if *request.method() == Method::ACK {
                return self.actions.push_back(Action::Dropped { remote: source.remote, why: "malformed ACK" });
            }
            let reply = Reply::new(defect.status).reason(defect.reason);
            self.say_refused(&request, source.remote, &reply, now);
            return self.refuse_stateless(&request, source, reply);
        }
        let key = ServerKey::of(&request);
        if let Some(&tx) = self.server_keys.get(&key) {
            return self.on_repeated(tx, &request, source, now);
        }
        if *request.method() == Method::ACK {
            return self.on_ack(&request, source, now);
        }
        if self.servers.len() >= self.limits.server_transactions {
            return self.refuse_stateless(&request, source, Reply::new(503).reason("Too Many Transactions").header("Retry-After", "5"));
        }
        if let Some(reply) = self.who_is_it(&request, source, now) {
            let tag = self.gate.tag(&request);
            return self.refuse_with(&request, source, reply, &tag);
        }
        let merge = MergeKey::of(&request);
        let is_merged = merge.as_ref().is_some_and(|m| self.merged.contains_key(m)) && *request.method() != Method::CANCEL;
        let tx = self.open_server(&request, source, key, merge.filter(|_| !is_merged), now);
        if is_merged {
            // RFC 3261 §8.2.2.2: the same request over another path.
            return self.respond(tx, Reply::new(482), now);
        }
        match request.method() {
            Method::Known(rsip::Method::Cancel) => self.on_cancel(tx, &request, now),
            _ => self.on_new_request(tx, &request, source, now),
        }
    }

    /// What an INVITE of CXone's hears that did not prove who sent it (RFC 3261 §22.1). Nothing is kept of it.
    fn who_is_it(&mut self, request: &Message, source: Source, now: Time) -> Option<Reply> {
        let asked = !self.config.cxone.username.is_empty() && *request.method() == Method::INVITE && request.to_tag().is_none();
        if !asked || self.standing(source.remote, false).side() != Some(Side::Caller) {
            return None;
        }
        match self.gate.check(request, &self.config.cxone, &mut self.mint, now) {
            Entrance::Open => None,
            Entrance::Closed(reply) => Some(reply),
        }
    }

    fn open_server(&mut self, request: &Message, source: Source, key: ServerKey, merge: Option<MergeKey>, now: Time) -> ServerTxId {
        let tx = ServerTxId(self.mint.number());
        let reliable = self.flows.transport(source.flow).is_reliable();
        let via_addr = via_address(request, source.remote, self.flows.transport(source.flow));
        let flow = match source.flow {
            Flow::Udp { listener, .. } => Flow::Udp { listener, remote: via_addr },
            stream => stream,
        };
        let invite = *request.method() == Method::INVITE;
        let machine = if invite { Server::invite(reliable, self.timers, now) } else { Server::non_invite(reliable, self.timers, now) };
        if let Some(merge) = merge.clone() {
            self.merged.insert(merge, tx);
        }
        self.server_keys.insert(key.clone(), tx);
        let entry = ServerEntry {
            machine,
            method: request.method().clone(),
            request: Some(request.clone()),
            remote: source.remote,
            flow,
            via_addr,
            owner: None,
            key,
            merge,
        };
        self.servers.insert(tx, entry);
        tx
    }

    /// A request of a transaction that is there: a repetition, or the ACK to what it answered.
    fn on_repeated(&mut self, tx: ServerTxId, request: &Message, source: Source, now: Time) {
        let Some(entry) = self.servers.get_mut(&tx) else { return };
        let mut wants = Vec::new();
        entry.machine.on_request(request, now, &mut wants);
        if wants.contains(&server::Out::Ack) {
            self.on_ack(request, source, now);
        }
        self.run_server(tx, wants);
    }

    /// The ACK to a 2xx belongs to the dialog (RFC 3261 §13.3.1.4).
    fn on_ack(&mut self, ack: &Message, source: Source, now: Time) {
        match self.dialog_of(ack, source.remote) {
            Some((call, side)) => {
                self.keep_flow(call, side, source.flow);
                self.trace_message(call, side, false, ack, now);
                self.with_call(call, now, |c, cx| c.on_ack(side, ack, cx));
            }
            // To a challenge, of which nothing was kept.
            None if self.gate.has_answered(ack) => {}
            None => self.actions.push_back(Action::Dropped { remote: source.remote, why: "ACK for no dialog" }),
        }
    }

    /// RFC 3261 §9.2.
    fn on_cancel(&mut self, tx: ServerTxId, cancel: &Message, now: Time) {
        let invite = self.server_keys.get(&ServerKey::cancelled(cancel)).copied();
        let Some((invite, entry)) = invite.and_then(|i| self.servers.get(&i).map(|e| (i, e))) else {
            return self.respond(tx, Reply::new(481), now);
        };
        let (owner, pending) = (entry.owner, entry.machine.is_pending());
        let tag = self.tag_of(invite).or_else(|| self.first_tag(owner?.0));
        let reply = Reply::new(200);
        self.respond(tx, if let Some(tag) = &tag { reply.tag(tag) } else { reply }, now);
        if let (Some((call, side)), true) = (owner, pending) {
            self.trace_message(call, side, false, cancel, now);
            self.with_call(call, now, |c, cx| c.on_cancel(side, cancel, cx));
        }
    }

    /// The To tag that an INVITE's answers carry; its CANCEL's should be the same (RFC 3261 §9.2).
    fn tag_of(&self, invite: ServerTxId) -> Option<LocalTag> {
        let last = self.servers.get(&invite)?.machine.last()?.clone();
        Message::parse(last).ok()?.to_tag().map(LocalTag::new)
    }

    fn on_new_request(&mut self, tx: ServerTxId, request: &Message, source: Source, now: Time) {
        let outside = request.to_tag().is_none();
        let side = self.standing(source.remote, !outside).side();
        if let Some(reply) = screen(request) {
            self.say_refused(request, source.remote, &reply, now);
            return self.respond(tx, reply, now);
        }
        if !outside {
            return self.on_dialog_request(tx, request, source, now);
        }
        match (request.method(), side) {
            (_, None) => self.forget_server(tx, source),
            (Method::Known(rsip::Method::Options), _) => self.on_options(tx, now),
            (Method::Known(rsip::Method::Invite), Some(Side::Caller)) => self.on_invite(tx, request, source, now),
            (Method::Known(rsip::Method::Invite), Some(Side::Callee)) => {
                self.respond(tx, Reply::new(403).reason("No INVITE Accepted Here"), now);
            }
            (Method::Known(rsip::Method::Refer | rsip::Method::Message), _) => {
                self.respond(tx, Reply::new(405).header("Allow", ALLOW), now);
            }
            _ => self.respond(tx, Reply::new(481), now),
        }
    }

    fn on_dialog_request(&mut self, tx: ServerTxId, request: &Message, source: Source, now: Time) {
        let Some((call, side)) = self.dialog_of(request, source.remote) else {
            return self.respond(tx, Reply::new(481), now);
        };
        if let Some(entry) = self.servers.get_mut(&tx) {
            entry.owner = Some((call, side));
        }
        self.keep_open(call, tx);
        self.trace_message(call, side, false, request, now);
        self.keep_flow(call, side, source.flow);
        if *request.method() == Method::INVITE {
            self.respond(tx, Reply::new(100), now);
        }
        self.with_call(call, now, |c, cx| c.on_request(side, request, tx, cx));
    }

    /// The leg that this request's To tag names, when its source may speak for that side.
    fn dialog_of(&self, request: &Message, remote: SocketAddr) -> Option<(CallHandle, Side)> {
        let (call, side) = *self.owners.get(&LocalTag::new(request.to_tag()?))?;
        self.standing(remote, true).may_be(side).then_some((call, side))
    }

    fn on_options(&mut self, tx: ServerTxId, now: Time) {
        let reply = if self.is_draining() {
            Reply::new(503).reason("Draining").header("Retry-After", "30")
        } else if self.calls.len() >= self.config.node.max_calls {
            Reply::new(503).reason("max_calls Reached").header("Retry-After", "5")
        } else {
            Reply::new(200).header("Allow", ALLOW).header("Accept", "application/sdp").header("Accept-Encoding", "identity")
        };
        self.respond(tx, reply, now);
    }

    // ---- answers

    /// Answers through the transaction.
    pub(super) fn respond(&mut self, tx: ServerTxId, reply: Reply, now: Time) {
        let Some(entry) = self.servers.get(&tx) else { return };
        let tag = if reply.status > 100 && reply.tag.is_none() { Some(self.mint.local_tag()) } else { reply.tag.clone() };
        let Some(request) = &entry.request else { return };
        let draft = draft_reply(request, entry.remote, &reply, tag.as_ref());
        let (owner, bytes) = (entry.owner, draft.print(None));
        if let Some((call, side)) = owner
            && self.report_messages
            && let Ok(message) = Message::parse(bytes.clone())
        {
            self.trace_message(call, side, true, &message, now);
        }
        let Some(entry) = self.servers.get_mut(&tx) else { return };
        let mut wants = Vec::new();
        entry.machine.respond(reply.status, bytes, now, &mut wants);
        if reply.status >= 200 {
            entry.request = None;
        }
        self.run_server(tx, wants);
    }

    /// The last chance of a request whose call is over.
    pub(super) fn answer_if_open(&mut self, tx: ServerTxId, status: u16, now: Time) {
        if self.servers.get(&tx).is_some_and(ServerEntry::is_pending) {
            self.respond(tx, Reply::new(status), now);
        }
    }

    /// Whether this answer is a 2xx to BYE, and on which side.
    pub(super) fn is_farewell(&self, tx: ServerTxId, status: u16) -> Option<Side> {
        let entry = self.servers.get(&tx).filter(|e| e.method == Method::BYE && (200..300).contains(&status))?;
        entry.owner.map(|(_, side)| side)
    }

    /// The 2xx of an INVITE once more.
    pub(super) fn repeat(&mut self, tx: ServerTxId, now: Time) {
        let Some(entry) = self.servers.get_mut(&tx) else { return };
        let Some(last) = entry.machine.last().cloned() else { return };
        let mut wants = Vec::new();
        entry.machine.respond(200, last, now, &mut wants);
        self.run_server(tx, wants);
    }

    /// An INVITE that never became a call is a line in the log all the same: whoever looks for the call finds why.
    pub(super) fn say_refused(&mut self, request: &Message, remote: SocketAddr, reply: &Reply, now: Time) {
        if *request.method() != Method::INVITE || request.to_tag().is_some() {
            return;
        }
        let phrase = if reply.reason.is_empty() { reason_phrase(reply.status) } else { reply.reason.as_str() };
        let told = reply.headers.iter().filter(|h| *h.name != *b"Allow");
        let why = told.fold(phrase.to_owned(), |why, h| {
            format!("{why}; {}: {}", String::from_utf8_lossy(&h.name), String::from_utf8_lossy(&h.value))
        });
        let caller_call_id = SipCallId::new(request.call_id().unwrap_or_default());
        let id = self.mint.call_id();
        self.report(&id, None, Fact::Refused { caller_call_id, source: remote, status: reply.status, why }, now);
    }

    /// Answers without keeping state (RFC 3261 §8.2.7): for what is not worth any.
    fn refuse_stateless(&mut self, request: &Message, source: Source, reply: Reply) {
        // One that cannot be read is repeated as it came, and the answer goes to where the request came from.
        if request.value(Name::Via).is_none() {
            return self.actions.push_back(Action::Dropped { remote: source.remote, why: "no Via" });
        }
        let tag = self.mint.local_tag();
        self.refuse_with(request, source, reply, &tag);
    }

    fn refuse_with(&mut self, request: &Message, source: Source, reply: Reply, tag: &LocalTag) {
        let draft = draft_reply(request, source.remote, &reply, Some(tag));
        let flow = match source.flow {
            Flow::Udp { listener, .. } => Flow::Udp { listener, remote: via_address(request, source.remote, Transport::Udp) },
            stream => stream,
        };
        self.actions.push_back(Action::Send { flow, bytes: draft.print(None) });
    }

    pub(super) fn on_server_timeout(&mut self, tx: ServerTxId, now: Time) {
        let Some(entry) = self.servers.get_mut(&tx) else { return };
        let mut wants = Vec::new();
        entry.machine.on_timeout(now, &mut wants);
        self.run_server(tx, wants);
    }

    fn run_server(&mut self, tx: ServerTxId, wants: Vec<server::Out>) {
        for want in wants {
            match want {
                server::Out::Send(bytes) => self.send_response(tx, bytes),
                server::Out::Expired(_) => {
                    if let Some((call, side)) = self.servers.get(&tx).and_then(|e| e.owner) {
                        self.later.push_back(Later::Unacknowledged { call, side });
                    }
                }
                server::Out::Terminated => self.close_server(tx),
                server::Out::Acknowledged | server::Out::Ack | server::Out::Absorbed => {}
            }
        }
        if let Some(entry) = self.servers.get(&tx) {
            self.wheel.set(Owner::Server(tx), entry.machine.deadline().map(|(at, _)| at));
        }
    }

    /// RFC 3261 §18.2.2: on the connection of the request; when that is gone, on a new one to where the Via says.
    fn send_response(&mut self, tx: ServerTxId, bytes: Bytes) {
        let Some(entry) = self.servers.get(&tx) else { return };
        let (mut flow, via_addr) = (entry.flow, entry.via_addr);
        if let Flow::Stream(conn) = flow
            && self.flows.conn(conn).is_none()
        {
            flow = Flow::Stream(self.stream_to(Target { transport: self.flows.transport(flow), addr: via_addr }));
            if let Some(entry) = self.servers.get_mut(&tx) {
                entry.flow = flow;
            }
        }
        self.actions.push_back(Action::Send { flow, bytes });
    }

    fn close_server(&mut self, tx: ServerTxId) {
        self.wheel.set(Owner::Server(tx), None);
        if let Some(entry) = self.servers.remove(&tx) {
            self.server_keys.remove(&entry.key);
            if let Some(merge) = entry.merge {
                self.merged.remove(&merge);
            }
            give_room_back(&mut self.servers);
            give_room_back(&mut self.server_keys);
            give_room_back(&mut self.merged);
        }
    }

    /// A stranger after all: nothing is answered, nothing kept.
    fn forget_server(&mut self, tx: ServerTxId, source: Source) {
        self.close_server(tx);
        self.actions.push_back(Action::Dropped { remote: source.remote, why: "stranger" });
    }
}

fn draft_reply(request: &Message, remote: SocketAddr, reply: &Reply, tag: Option<&LocalTag>) -> Draft {
    let mut draft = Draft::response(request, remote, reply.status, &reply.reason, tag);
    if let Some(contact) = &reply.contact {
        draft.keep_all(request, Name::RecordRoute).put("Contact", contact);
    }
    for h in &reply.headers {
        draft.put(std::str::from_utf8(&h.name).unwrap_or("X-Unreadable"), &h.value);
    }
    if let Some((content_type, body)) = &reply.body {
        draft.body(content_type, body.clone());
    }
    draft
}

/// RFC 3261 §18.2.2, RFC 3581 §4: the source address; its port with `rport`, else the sent-by port. A `maddr` is not followed: it
/// would let a peer point us at others. A new stream goes to the sent-by port: where the old one came from nobody listens.
fn via_address(request: &Message, remote: SocketAddr, transport: Transport) -> SocketAddr {
    match request.via() {
        Ok(via) if transport == Transport::Udp && via.params.get("rport").is_some() => remote,
        Ok(via) => SocketAddr::new(remote.ip(), via.port.unwrap_or(transport.default_port())),
        Err(_) => remote,
    }
}
