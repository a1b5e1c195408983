//! Calls in the stairwell: how one starts, and how its wishes become actions.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use bytes::Bytes;

use crate::b2bua::B2bua;
use crate::b2bua::Map;
use crate::b2bua::give_room_back;
use crate::b2bua::inbound::ServerEntry;
use crate::b2bua::inbound::Source;
use crate::b2bua::io::Action;
use crate::b2bua::io::Entry;
use crate::b2bua::io::Flow;
use crate::b2bua::io::Reach;
use crate::b2bua::outbound::ClientOwner;
use crate::b2bua::outbound::Outgoing;
use crate::b2bua::timers::Owner;
use crate::call::Call;
use crate::call::Start;
use crate::call::anchor::MediaOrder;
use crate::call::anchor::PortPair;
use crate::call::escalation::Marker;
use crate::call::out::Cx;
use crate::call::out::Hop;
use crate::call::out::Out;
use crate::call::out::Reply;
use crate::call::out::Use;
use crate::call::out::Whither;
use crate::call::rules::Carried;
use crate::call::rules::Plan;
use crate::call::rules::Refusal;
use crate::call::rules::Resolve;
use crate::call::rules::Situation;
use crate::call::rules::TargetName;
use crate::call::rules::Transport;
use crate::call::rules::Verdict;
use crate::dialog::Dialog;
use crate::ids::CallHandle;
use crate::ids::CallId;
use crate::ids::ClientTxId;
use crate::ids::ContactId;
use crate::ids::LocalTag;
use crate::ids::RecordId;
use crate::ids::ServerTxId;
use crate::ids::Side;
use crate::ids::SipCallId;
use crate::policy::admission::admit;
use crate::report::CallEvent;
use crate::report::Fact;
use crate::time::Time;
use crate::wire::header::NameAddr;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::sdp::Sdp;

/// A call, and what the stairwell must know of it: also what is needed to end it when its own state can not be trusted any more.
#[derive(Debug)]
pub struct CallEntry {
    call: Call,
    id: CallId,
    contact: Option<ContactId>,
    tags: Vec<LocalTag>,
    /// Lent out, and not given back by the call.
    pairs: Vec<PortPair>,
    /// What each side's last message came on.
    flows: [Option<Flow>; 2],
    /// What it takes to say BYE to each side without the call's help.
    partings: [Option<Box<Dialog>>; 2],
    /// Our last INVITE to each side.
    invites_out: [Option<ClientTxId>; 2],
    /// Requests of the peers that may still be unanswered.
    open: Vec<ServerTxId>,
}

/// Answered requests are forgotten when a call has so many open ones.
const OPEN_REQUESTS_SWEPT_AT: usize = 16;

impl CallEntry {
    fn new(call: Call, arrival: &Arrival<'_>, contact: Option<ContactId>, pairs: Vec<PortPair>) -> CallEntry {
        CallEntry {
            call,
            id: arrival.id.clone(),
            contact,
            tags: Vec::new(),
            pairs,
            flows: [None, None],
            partings: [None, None],
            invites_out: [None, None],
            open: vec![arrival.tx],
        }
    }
}

/// CXone's INVITE before it is a call.
struct Arrival<'a> {
    tx: ServerTxId,
    invite: &'a Message,
    source: Source,
    id: CallId,
    offer: Option<Sdp>,
    /// The media family: of the offer, else of the signalling.
    v6: bool,
}

/// What a call is told once the present step is done.
#[derive(Debug)]
pub enum Later {
    NoResponse { owner: ClientOwner, tx: ClientTxId, status: u16, why: String },
    Unacknowledged { call: CallHandle, side: Side },
}

/// `max_cps`: a bucket with a burst of one second.
#[derive(Debug)]
pub struct Rate {
    per_second: u64,
    /// Millionths of an INVITE.
    level: u64,
    at: Time,
}

impl Rate {
    pub fn new(per_second: u32, now: Time) -> Rate {
        Rate { per_second: u64::from(per_second), level: u64::from(per_second) * 1_000_000, at: now }
    }

    /// Takes one; `false`: the bucket is empty.
    pub fn take(&mut self, now: Time) -> bool {
        let gained = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.per_second * 1_000_000);
        self.at = now;
        match self.level.checked_sub(1_000_000) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}

/// The resolved names, as policy sees them.
struct Names<'a>(&'a Map<TargetName, Vec<Reach>>);

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Names({})", self.0.len())
    }
}

impl Resolve for Names<'_> {
    fn addresses(&self, name: &TargetName) -> Vec<IpAddr> {
        self.0.get(name).map(|all| all.iter().map(|r| r.ip).collect()).unwrap_or_default()
    }
}

fn at(side: Side) -> usize {
    match side {
        Side::Caller => 0,
        Side::Callee => 1,
    }
}

impl B2bua {
    // ---- a call starts

    pub(super) fn on_invite(&mut self, tx: ServerTxId, invite: &Message, source: Source, now: Time) {
        self.respond(tx, Reply::new(100), now);
        if invite.contact().is_none() {
            return self.refuse_invite(tx, invite, source, Reply::new(400).reason("Missing Contact"), now);
        }
        let offer = match (invite.body(), Sdp::parse(invite.body())) {
            (_, Ok(offer)) => Some(offer),
            (body, Err(_)) if body.is_empty() => None,
            (_, Err(_)) => return self.refuse_invite(tx, invite, source, Reply::new(400).reason("Bad SDP"), now),
        };
        let takes = |v6: bool| self.config.media.bind.iter().any(|ip| ip.is_ipv6() == v6);
        let asked = offer.as_ref().and_then(Sdp::rtp).map(|rtp| rtp.is_ipv6());
        let v6 = asked.unwrap_or_else(|| source.local.ip().is_ipv6() && takes(true));
        if !takes(v6) {
            // No failure of ours that may pass, as a 503 would say.
            let reason = format!("Not Acceptable Here: no {} address for media", if v6 { "IPv6" } else { "IPv4" });
            return self.refuse_invite(tx, invite, source, Reply::new(488).reason(reason), now);
        }
        let arrival = Arrival { tx, invite, source, id: self.mint.call_id(), offer, v6 };
        let Ok(verdict) = catch_unwind(AssertUnwindSafe(|| self.verdict(&arrival, now))) else {
            return self.never_began(tx, &arrival.id, now);
        };
        match verdict {
            Verdict::Refusal(refusal) => self.refuse_call(&arrival, refusal, now),
            Verdict::Plan(plan) => self.start_call(arrival, *plan, now),
        }
    }

    fn refuse_invite(&mut self, tx: ServerTxId, invite: &Message, source: Source, reply: Reply, now: Time) {
        self.say_refused(invite, source.remote, &reply, now);
        self.respond(tx, reply, now);
    }

    /// A bug before there was a call: this INVITE gets 500, and nothing else is touched.
    fn never_began(&mut self, tx: ServerTxId, id: &CallId, now: Time) {
        self.report(id, None, Fact::Broken { what: "admission of an INVITE panicked; it is refused" }, now);
        self.respond(tx, Reply::new(500), now);
    }

    fn verdict(&mut self, arrival: &Arrival<'_>, now: Time) -> Verdict {
        let Arrival { invite, source, id, v6: family, .. } = arrival;
        let family = *family;
        let callee_local = self.callee_local();
        let face = |side, local| self.flows.face(&self.config, side, Transport::Udp, local).host_port();
        let (our_host, caller_host) = (face(Side::Callee, callee_local), face(Side::Caller, source.local.ip()));
        let needed = 1 + usize::from(family == callee_local.is_ipv6());
        let ports_free = self.ledger.free(family) >= needed && self.ledger.free(callee_local.is_ipv6()) >= 1;
        let rate_ok = self.rate.take(now);
        let dice = u16::try_from(self.mint.below(1000)).unwrap_or_default();
        let situation = Situation {
            calls: self.calls.len(),
            draining: self.is_draining(),
            rate_ok,
            ports_free,
            resolve: &Names(&self.targets),
            call_id: id.as_str(),
            dice,
            our_host: &our_host,
            our_host_caller: &caller_host,
        };
        admit(&self.config, invite, &situation)
    }

    /// Our address towards the first target that is resolved.
    fn callee_local(&self) -> IpAddr {
        let first = self.config.synthflow.targets.iter().find_map(|t| self.targets.get(&t.name)?.first());
        first.map_or_else(|| self.flows.own(false), |r| r.local)
    }

    fn refuse_call(&mut self, arrival: &Arrival<'_>, refusal: Refusal, now: Time) {
        let Refusal { status, reason, headers, why } = refusal;
        let caller_call_id = SipCallId::new(arrival.invite.call_id().unwrap_or_default());
        self.report(&arrival.id, None, Fact::Refused { caller_call_id, source: arrival.source.remote, status, why }, now);
        self.respond(arrival.tx, Reply::new(status).reason(reason).headers(headers), now);
    }

    fn start_call(&mut self, mut arrival: Arrival<'_>, mut plan: Plan, now: Time) {
        let hops = self.hops(&plan);
        let callee_v6 = hops.first().is_some_and(|h| h.target.addr.is_ipv6());
        let pairs = (self.ledger.take(arrival.v6), self.ledger.take(callee_v6));
        let (Some(caller_pair), Some(callee_pair)) = pairs else {
            for pair in [pairs.0, pairs.1].into_iter().flatten() {
                self.give_back(pair, now);
            }
            let headers = vec![Carried { name: Bytes::from_static(b"Retry-After"), value: Bytes::from_static(b"5") }];
            let refusal = Refusal { status: 503, reason: "No Media Ports".into(), headers, why: "no media port is free".into() };
            return self.refuse_call(&arrival, refusal, now);
        };
        let handle = CallHandle(self.mint.number());
        if let Some(entry) = self.servers.get_mut(&arrival.tx) {
            entry.owner = Some((handle, Side::Caller));
        }
        let (contact, warnings) = (plan.contact.clone(), std::mem::take(&mut plan.warnings));
        let start = self.start_of(&mut arrival, hops, caller_pair, callee_pair);
        let mut outs = Vec::new();
        let mint = &mut self.mint;
        let started = catch_unwind(AssertUnwindSafe(|| Call::start(start, plan, &mut Cx { mint, out: &mut outs, now })));
        let call = match started {
            Ok(Ok(call)) => call,
            failed => {
                self.give_back(caller_pair, now);
                self.give_back(callee_pair, now);
                let Ok(Err(no)) = failed else { return self.never_began(arrival.tx, &arrival.id, now) };
                let why = format!("no common codec: offered {}, ours {}", no.offered, no.ours);
                return self.refuse_call(&arrival, Refusal::without_words(488, why), now);
            }
        };
        let pairs = vec![caller_pair, callee_pair];
        let entry = CallEntry::new(call, &arrival, contact, pairs);
        self.calls.insert(handle, Box::new(entry));
        self.keep_flow(handle, Side::Caller, arrival.source.flow);
        self.trace_message(handle, Side::Caller, false, arrival.invite, now);
        self.report_offer(handle, &arrival, now);
        for text in warnings {
            self.warn(handle, text, now);
        }
        self.dispatch(handle, outs, now);
        self.bind_ahead();
    }

    fn start_of(&self, arrival: &mut Arrival<'_>, hops: Vec<Hop>, caller_pair: PortPair, callee_pair: PortPair) -> Start {
        let local = arrival.source.local.ip();
        let callee_local = hops.first().map_or(local, |h| self.local_towards(h.target.addr.ip()));
        Start {
            invite: exact(arrival.invite),
            offer: arrival.offer.take(),
            invite_tx: arrival.tx,
            caller_face: self.flows.face(&self.config, Side::Caller, self.flows.transport(arrival.source.flow), local),
            hops,
            timers: self.timers,
            caller_media: (caller_pair, self.flows.media_ip(&self.config, Side::Caller, caller_pair.ip, local)),
            callee_media: (callee_pair, self.flows.media_ip(&self.config, Side::Callee, callee_pair.ip, callee_local)),
        }
    }

    fn hops(&self, plan: &Plan) -> Vec<Hop> {
        let hop = |p: &crate::call::rules::PlannedTarget| Hop {
            target: p.target,
            shown: p.shown.clone(),
            face: self.flows.face(&self.config, Side::Callee, p.target.transport, self.local_towards(p.target.addr.ip())),
        };
        plan.targets.iter().map(hop).collect()
    }

    /// CXone's INVITE, and our 100 to it, which left before there was a call to speak of.
    fn report_offer(&mut self, call: CallHandle, arrival: &Arrival<'_>, now: Time) {
        if self.report_messages {
            let line = "100 Trying (INVITE)".to_owned();
            self.report_of(call, Fact::Message { side: Side::Caller, sent: true, line, note: String::new() }, now);
        }
        let user = |name: Name| {
            let view = NameAddr::parse(arrival.invite.value(name).unwrap_or_default());
            String::from_utf8_lossy(view.and_then(|v| v.user()).unwrap_or(b"anonymous")).into_owned()
        };
        let fact = Fact::Offered {
            caller_call_id: SipCallId::new(arrival.invite.call_id().unwrap_or_default()),
            source: arrival.source.remote,
            from: user(Name::From),
            to: user(Name::To),
        };
        self.report_of(call, fact, now);
    }

    // ---- a call runs

    /// One step of a call, behind the panic wall: a bug ends this call and no other.
    pub(super) fn with_call(&mut self, handle: CallHandle, now: Time, step: impl FnOnce(&mut Call, &mut Cx<'_>)) {
        let Some(entry) = self.calls.get_mut(&handle) else { return };
        let mut outs = Vec::new();
        let mint = &mut self.mint;
        let done = catch_unwind(AssertUnwindSafe(|| step(&mut entry.call, &mut Cx { mint, out: &mut outs, now })));
        match done {
            Ok(()) => self.dispatch(handle, outs, now),
            Err(_) => self.call_broke(handle, now),
        }
    }

    /// Half-made actions are dropped; what the stairwell holds of the call is given back.
    fn call_broke(&mut self, handle: CallHandle, now: Time) {
        let Some(entry) = self.calls.get(&handle) else { return };
        let (id, contact, open) = (entry.id.clone(), entry.contact.clone(), entry.open.clone());
        let (partings, invites_out) = (entry.partings.clone(), entry.invites_out);
        self.report(&id, contact.as_ref(), Fact::Broken { what: "the call's machine panicked; the call is ended" }, now);
        for tx in open {
            self.answer_if_open(tx, 500, now);
        }
        for invite in invites_out.into_iter().flatten() {
            self.disown(invite, now);
        }
        for (side, dialog) in [Side::Caller, Side::Callee].into_iter().zip(partings) {
            if let Some(dialog) = dialog {
                self.part(handle, side, *dialog, now);
            }
        }
        for side in [Side::Caller, Side::Callee] {
            self.actions.push_back(Action::Media { call: handle, side, order: MediaOrder::Close });
        }
        self.remove_call(handle, now);
    }

    /// BYE to a leg whose call can not say it any more.
    fn part(&mut self, call: CallHandle, side: Side, dialog: Dialog, now: Time) {
        let to = Whither::Uri(dialog.next_hop().into());
        let mut draft = dialog.parting_bye();
        draft.put("Reason", "Q.850;cause=41;text=\"internal error\"");
        let owner = Some(ClientOwner { call, side, used: Use::Bye });
        let out = Outgoing { tx: ClientTxId(self.mint.number()), draft: Box::new(draft), slim: None, owner };
        self.request(out, &to, now);
    }

    fn dispatch(&mut self, handle: CallHandle, outs: Vec<Out>, now: Time) {
        for out in outs {
            self.dispatch_one(handle, out, now);
        }
        if let Some(entry) = self.calls.get(&handle) {
            self.wheel.set(Owner::Call(handle), entry.call.deadline());
        }
    }

    fn dispatch_one(&mut self, handle: CallHandle, out: Out, now: Time) {
        match out {
            Out::Respond { tx, reply } => {
                if let Some(side) = self.is_farewell(tx, reply.status)
                    && let Some(entry) = self.calls.get_mut(&handle)
                {
                    entry.partings[at(side)] = None;
                }
                self.respond(tx, *reply, now);
            }
            Out::Repeat { tx } => self.repeat(tx, now),
            Out::Request { tx, draft, slim, to, used, side } => {
                let owner = Some(ClientOwner { call: handle, side, used });
                if let Some(entry) = self.calls.get_mut(&handle) {
                    match used {
                        Use::Invite | Use::Reinvite => entry.invites_out[at(side)] = Some(tx),
                        Use::Bye => entry.partings[at(side)] = None,
                        Use::Notify | Use::Update | Use::Prack | Use::Passed(_) => {}
                    }
                }
                self.request(Outgoing { tx, draft, slim, owner }, &to, now);
            }
            Out::Ack { invite, draft, to, side } => self.ack(invite, draft, &to, handle, side, now),
            Out::Abandon { invite } => self.abandon(invite, now),
            Out::Confirmed { side, dialog } => {
                if let Some(entry) = self.calls.get_mut(&handle) {
                    entry.partings[at(side)] = Some(dialog);
                }
            }
            Out::Own { tag, side } => {
                if let Some(entry) = self.calls.get_mut(&handle) {
                    entry.tags.push(tag.clone());
                }
                self.owners.insert(tag, (handle, side));
            }
            Out::Media { side, order } => self.actions.push_back(Action::Media { call: handle, side, order }),
            Out::GiveBack { pair } => {
                if let Some(entry) = self.calls.get_mut(&handle) {
                    entry.pairs.retain(|p| *p != pair);
                }
                self.give_back(pair, now);
            }
            Out::RecordIntent { signal } => self.record(handle, Some(Marker::Intent), Entry::SignalRecorded { call: handle, signal }),
            Out::RecordRequesting { try_no } => {
                self.record(handle, Some(Marker::Requesting { try_no }), Entry::SignalRequesting { call: handle, try_no });
            }
            Out::RecordSettled { outcome } => self.record(handle, None, Entry::SignalSettled { call: handle, outcome }),
            Out::Signal { try_no, signal, until } => self.actions.push_back(Action::Signal { call: handle, try_no, signal, until }),
            Out::CancelSignal => self.actions.push_back(Action::CancelSignal { call: handle }),
            Out::Report(fact) => self.report_of(handle, fact, now),
            Out::Over => self.remove_call(handle, now),
        }
    }

    fn remove_call(&mut self, handle: CallHandle, now: Time) {
        self.wheel.set(Owner::Call(handle), None);
        let Some(entry) = self.calls.remove(&handle) else { return };
        // RFC 3261 §15.1.2: what is still unanswered when the dialog ends gets 487.
        for tx in &entry.open {
            self.answer_if_open(*tx, 487, now);
        }
        // A stuck journal must not collect what nobody waits for.
        self.records.retain(|(_, call, _)| *call != handle);
        for tag in &entry.tags {
            self.owners.remove(tag);
        }
        give_room_back(&mut self.owners);
        for pair in entry.pairs {
            self.give_back(pair, now);
        }
    }

    fn give_back(&mut self, pair: PortPair, now: Time) {
        self.ledger.give_back(pair, now);
        self.wheel.set(Owner::Ports, self.ledger.deadline());
        self.bind_ahead();
    }

    pub(super) fn on_later(&mut self, later: Later, now: Time) {
        match later {
            Later::NoResponse { owner, tx, status, why } => {
                let ClientOwner { call, side, used } = owner;
                if !self.passed_for_nobody(owner, status, now) {
                    self.with_call(call, now, |c, cx| c.on_no_response(side, tx, used, status, why, cx));
                }
            }
            Later::Unacknowledged { call, side } => self.with_call(call, now, |c, cx| c.on_unacknowledged(side, cx)),
        }
    }

    /// A request of this call that must be answered, at the latest when the call ends.
    pub(super) fn keep_open(&mut self, call: CallHandle, tx: ServerTxId) {
        let servers = &self.servers;
        if let Some(entry) = self.calls.get_mut(&call) {
            if entry.open.len() >= OPEN_REQUESTS_SWEPT_AT {
                entry.open.retain(|open| servers.get(open).is_some_and(ServerEntry::is_pending));
            }
            entry.open.push(tx);
        }
    }

    /// The tag that this call's answers to its INVITE begin with.
    pub(super) fn first_tag(&self, call: CallHandle) -> Option<LocalTag> {
        self.calls.get(&call)?.tags.first().cloned()
    }

    // ---- the flow of a leg

    /// In-dialog requests go where the peer last spoke, when that is a stream.
    pub(super) fn keep_flow(&mut self, call: CallHandle, side: Side, flow: Flow) {
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.flows[at(side)] = Some(flow);
        }
    }

    /// Where that peer was last heard, whatever its Contact says.
    pub(super) fn last_flow(&self, call: CallHandle, side: Side) -> Option<Flow> {
        self.calls.get(&call)?.flows[at(side)]
    }

    pub(super) fn live_stream(&self, call: CallHandle, side: Side) -> Option<Flow> {
        let flow = self.last_flow(call, side)?;
        matches!(flow, Flow::Stream(conn) if self.flows.conn(conn).is_some()).then_some(flow)
    }

    // ---- the journal's answers

    fn record(&mut self, call: CallHandle, marker: Option<Marker>, entry: Entry) {
        let record = RecordId(self.mint.number());
        if let Some(marker) = marker {
            self.records.push_back((record, call, marker));
        }
        self.actions.push_back(Action::Record { record, entry });
    }

    pub(super) fn on_recorded(&mut self, up_to: RecordId, now: Time) {
        while let Some((record, call, marker)) = self.records.front().cloned() {
            if record > up_to {
                break;
            }
            self.records.pop_front();
            self.with_call(call, now, |c, cx| c.on_recorded(marker, None, cx));
        }
    }

    pub(super) fn on_record_failed(&mut self, record: RecordId, why: &str, now: Time) {
        let Some(at) = self.records.iter().position(|(r, ..)| *r == record) else { return };
        if let Some((_, call, marker)) = self.records.remove(at) {
            self.with_call(call, now, |c, cx| c.on_recorded(marker, Some(why.to_string()), cx));
        }
    }

    // ---- reports

    pub(super) fn report(&mut self, id: &CallId, contact: Option<&ContactId>, fact: Fact, now: Time) {
        let event = CallEvent { at: now, call: id.clone(), contact: contact.cloned(), fact };
        self.actions.push_back(Action::Report(Box::new(event)));
    }

    fn report_of(&mut self, call: CallHandle, fact: Fact, now: Time) {
        let Some(entry) = self.calls.get(&call) else { return };
        let (id, contact) = (entry.id.clone(), entry.contact.clone());
        self.report(&id, contact.as_ref(), fact, now);
    }

    pub(super) fn warn(&mut self, call: CallHandle, text: String, now: Time) {
        self.report_of(call, Fact::Warning { text }, now);
    }

    /// For ladders: the start line, and what matters in the message.
    pub(super) fn trace_message(&mut self, call: CallHandle, side: Side, sent: bool, message: &Message, now: Time) {
        if !self.report_messages {
            return;
        }
        let line = if message.is_request() {
            format!("{} {}", message.method(), String::from_utf8_lossy(message.uri()))
        } else {
            format!("{} {} ({})", message.status(), String::from_utf8_lossy(message.reason()), message.method())
        };
        let note = note(message);
        self.report_of(call, Fact::Message { side, sent, line, note }, now);
    }

    pub(super) fn trace_sent(&mut self, call: CallHandle, side: Side, bytes: &Bytes, now: Time) {
        if self.report_messages
            && let Ok(message) = Message::parse(bytes.clone())
        {
            self.trace_message(call, side, true, &message, now);
        }
    }
}

/// X-EI, the body of a NOTIFY, a Refer-To, a Reason: what a reader of a ladder looks for.
fn note(message: &Message) -> String {
    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    if let Some(x_ei) = message.named("X-EI").next() {
        return format!("X-EI: {}", text(x_ei));
    }
    if let Some(refer_to) = message.value(Name::ReferTo) {
        return format!("Refer-To: {}", text(refer_to));
    }
    if message.value(Name::Event).is_some() && !message.body().is_empty() {
        return text(&message.body()).trim().to_string();
    }
    message.value(Name::Reason).map(|r| format!("Reason: {}", text(r))).unwrap_or_default()
}

/// A copy that does not pin the buffer it was received in.
fn exact(message: &Message) -> Message {
    Message::parse(Bytes::copy_from_slice(message.raw())).unwrap_or_else(|_| message.clone())
}
