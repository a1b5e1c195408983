//! What only an INVITE of ours needs: ACKs to its 2xx, giving it up, and 2xx that nobody waits for.

use crate::b2bua::B2bua;
use crate::b2bua::FORKS_ENDED_MAX;
use crate::b2bua::digest::Answered;
use crate::b2bua::io::Action;
use crate::b2bua::io::Flow;
use crate::b2bua::outbound::ACKS_MAX;
use crate::b2bua::outbound::ClientEntry;
use crate::b2bua::outbound::Fate;
use crate::b2bua::outbound::Outgoing;
use crate::b2bua::outbound::Way;
use crate::b2bua::places::Place;
use crate::b2bua::places::Query;
use crate::call::out::Whither;
use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::dialog::ack_again;
use crate::dialog::ack_and_bye;
use crate::ids::CallHandle;
use crate::ids::ClientTxId;
use crate::ids::Side;
use crate::time::Time;
use crate::transaction::cancel_for;
use crate::transaction::client::Client;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use bytes::Bytes;

impl B2bua {
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

    pub(super) fn send_ack(&mut self, invite: ClientTxId, draft: &Draft, target: Target, side: Side, tag: Box<[u8]>, now: Time) {
        let flow = match target.transport {
            Transport::Tcp | Transport::Tls => Some(Flow::Stream(self.stream_to(target))),
            Transport::Udp => self.flows.udp(target.addr),
        };
        if let Some(flow) = flow {
            self.send_ack_on(invite, draft, flow, side, tag, now);
        }
    }

    pub(super) fn send_ack_on(&mut self, invite: ClientTxId, draft: &Draft, flow: Flow, side: Side, tag: Box<[u8]>, now: Time) {
        let branch = self.mint.branch();
        let face = self.face_on(flow, side);
        let mut draft = draft.clone();
        self.credentials_of(invite, &mut draft);
        let bytes = draft.print(Some(&self.flows.via(&face, branch.as_str())));
        if let Some(entry) = self.clients.get_mut(&invite)
            && entry.acks.len() < ACKS_MAX
        {
            entry.acks.push((tag, flow, bytes.clone()));
        }
        self.trace_ack(invite, &bytes, now);
        self.actions.push_back(Action::Send { flow, bytes });
    }

    pub(super) fn trace_ack(&mut self, invite: ClientTxId, bytes: &Bytes, now: Time) {
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

    pub(super) fn forget_queries(&mut self, tx: ClientTxId) {
        for asked in self.queries.values_mut() {
            asked.waiting.retain(|q| !matches!(q, Query::Request { tx: waiting, .. } if *waiting == tx));
        }
    }

    pub(super) fn cancel_if_due(&mut self, invite: ClientTxId, now: Time) {
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
                again: None,
            },
        );
        self.run_client(tx, wants, None, now);
        self.rearm_client(invite);
    }

    /// Whether this 2xx is the call's to take. A repetition gets its ACK again; a fork, or one that crossed our CANCEL, ACK and BYE
    /// along its own route set (RFC 3261 §13.2.2.4, §9.1).
    pub(super) fn takes(&mut self, tx: ClientTxId, response: &Message, wanted: bool, now: Time) -> bool {
        let tag: Box<[u8]> = response.to_tag().unwrap_or_default().as_bytes().into();
        let Some(entry) = self.clients.get_mut(&tx) else { return false };
        if let Some((_, flow, bytes)) = entry.acks.iter().find(|(t, ..)| *t == tag) {
            let (flow, remote, bytes) = (*flow, entry.remote, bytes.clone());
            let flow = self.revived(flow, remote);
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
            _ if entry.is_reinvite() => {
                self.ack_alone(tx, response, tag, now);
                false
            }
            _ => {
                self.end_stray(tx, response, tag, now);
                false
            }
        }
    }

    /// The ACK to the 2xx of a re-INVITE whose call is over: its dialog has had its BYE.
    fn ack_alone(&mut self, tx: ClientTxId, response: &Message, tag: Box<[u8]>, now: Time) {
        let Some(entry) = self.clients.get(&tx) else { return };
        let (flow, remote, side) = (entry.flow, entry.remote, entry.owner.map_or(Side::Callee, |o| o.side));
        let Some(ack) = ack_again(entry.machine.request(), response) else { return };
        let flow = self.revived(flow, remote);
        self.send_ack_on(tx, &ack, flow, side, tag, now);
    }

    pub(super) fn end_stray(&mut self, tx: ClientTxId, response: &Message, tag: Box<[u8]>, now: Time) {
        let Some(entry) = self.clients.get_mut(&tx) else { return };
        if entry.strays.len() >= FORKS_ENDED_MAX || entry.strays.contains(&tag) {
            return;
        }
        entry.strays.push(tag.clone());
        let (flow, side) = (entry.flow, entry.owner.map_or(Side::Callee, |o| o.side));
        let Some((dialog, ack, bye)) = ack_and_bye(entry.machine.request(), response) else { return };
        let to = Whither::Uri(dialog.next_hop().into());
        let out =
            Outgoing { tx: ClientTxId(self.mint.number()), draft: Box::new(bye), slim: None, owner: None, answered: Answered::default() };
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
}
