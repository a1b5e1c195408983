//! What the user agent answers: requests that come in, responses of the calls' owners.

use std::cmp::Reverse;
use std::net::SocketAddr;

use tokio::sync::mpsc;

use crate::dialog::Dialog;
use crate::ids::LocalTag;
use crate::mock::sdp;
use crate::mock::sdp::LocalAudio;
use crate::mock::ua::Lines;
use crate::mock::ua::UaCall;
use crate::mock::ua::UaEvent;
use crate::mock::ua::UaIncoming;
use crate::mock::ua::description;
use crate::mock::ua::endpoint::ALLOW;
use crate::mock::ua::endpoint::Alarm;
use crate::mock::ua::endpoint::Alarms;
use crate::mock::ua::endpoint::Call;
use crate::mock::ua::endpoint::Endpoint;
use crate::mock::ua::endpoint::Invite;
use crate::mock::ua::endpoint::SDP_TYPE;
use crate::mock::ua::endpoint::ServerTx;
use crate::mock::ua::endpoint::TRANSACTIONS_MAX;
use crate::mock::ua::wires::Wire;
use crate::time::Time;
use crate::transaction::ServerKey;
use crate::transaction::server;
use crate::transaction::server::Server;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;

impl Endpoint {
    pub(super) fn on_request(&mut self, request: Message, wire: Wire, source: SocketAddr) {
        let key = ServerKey::of(&request);
        if let Some(tx) = self.servers.get_mut(&key) {
            let (mut out, now) = (Vec::new(), Time::default() + self.started.elapsed());
            tx.server.on_request(&request, now, &mut out);
            let is_dialogs = out.contains(&server::Out::Ack);
            self.run_server(&key, out);
            if is_dialogs {
                self.on_ack(&request);
            }
            return;
        }
        match request.method() {
            method if *method == Method::ACK => self.on_ack(&request),
            _ if self.servers.len() >= TRANSACTIONS_MAX => {}
            method if *method == Method::INVITE => {
                let server = Server::invite(wire.transport().is_reliable(), self.options.timers, self.now());
                self.add_server(&key, server, &request, wire, source);
                self.on_invite(request, key, wire, source);
            }
            _ => {
                let server = Server::non_invite(wire.transport().is_reliable(), self.options.timers, self.now());
                self.add_server(&key, server, &request, wire, source);
                self.on_other(&request, &key, source);
            }
        }
    }

    pub(super) fn add_server(&mut self, key: &ServerKey, server: Server, request: &Message, wire: Wire, source: SocketAddr) {
        let wire = self.reply_wire(request, wire, source);
        self.servers.insert(key.clone(), ServerTx { server, wire, call: None });
    }

    /// RFC 3261 §18.2.2, RFC 3581 §4: over UDP to the source, at its port when the peer asked for that, else at the port of its Via.
    pub(super) fn reply_wire(&self, request: &Message, wire: Wire, source: SocketAddr) -> Wire {
        match (wire, request.via()) {
            (Wire::Udp(_), Ok(via)) if via.rport().is_none() => Wire::Udp(SocketAddr::new(source.ip(), via.port.unwrap_or(5060))),
            _ => wire,
        }
    }

    pub(super) fn on_invite(&mut self, request: Message, key: ServerKey, wire: Wire, source: SocketAddr) {
        if let Some(call) = self.call_of(&request) {
            return self.on_reinvite(call, &request, &key, source);
        }
        let trying = Draft::response(&request, source, 100, "", None);
        self.respond(&key, &trying);
        if request.to_tag().is_some() {
            return self.refuse(&key, &request, source, 481);
        }
        self.sweep();
        let tag = self.ids.0.local_tag();
        let Some(dialog) = Dialog::uas(&request, tag.clone()) else {
            return self.refuse(&key, &request, source, 400);
        };
        if self.calls.len() >= self.options.calls_max {
            return self.refuse(&key, &request, source, 503);
        }
        let call = self.ids.0.number();
        let name = (dialog.call_id().as_str().to_owned(), tag.as_str().to_owned());
        let (events_in, events) = mpsc::channel(super::UA_EVENTS_WAITING_MAX);
        let local = self.wires.local(wire.transport(), source.ip()).ip();
        let owned = UaCall { key: call, local, orders: self.orders_in.clone(), events };
        let incoming = UaIncoming { invite: request.clone(), source, call: owned };
        let invite = Invite::Received { request: request.clone(), source, key: key.clone() };
        let state = Call { events: events_in, name: name.clone(), dialog: Some(dialog), invite, audio: None, wire, remote: source };
        self.calls.insert(call, state);
        self.names.insert(name, call);
        if let Some(tx) = self.servers.get_mut(&key) {
            tx.call = Some(call);
        }
        if self.incoming.try_send(incoming).is_err() {
            self.forget(call);
            self.refuse(&key, &request, source, 503);
        }
    }

    /// Calls whose owner went without a word.
    pub(super) fn sweep(&mut self) {
        if self.calls.len() < self.options.calls_max {
            return;
        }
        let abandoned: Vec<u64> = self.calls.iter().filter(|(_, c)| c.events.is_closed()).map(|(key, _)| *key).collect();
        for call in abandoned {
            self.forget(call);
        }
    }

    /// A new offer in the call: answered with the same audio. Without an offer ours is repeated.
    pub(super) fn on_reinvite(&mut self, call: u64, request: &Message, key: &ServerKey, source: SocketAddr) {
        let number = request.cseq().map_or(0, |c| c.number);
        let Some(state) = self.calls.get_mut(&call) else { return };
        let in_order = state.dialog.as_mut().is_some_and(|d| d.on_request(number).is_ok());
        if !in_order {
            return self.refuse(key, request, source, 500);
        }
        let settled = matches!(state.invite, Invite::Settled | Invite::Acknowledged { .. });
        let Some(audio) = state.audio.filter(|_| settled) else {
            // RFC 3261 §14.2
            return self.refuse(key, request, source, 491);
        };
        if let Some(tx) = self.servers.get_mut(key) {
            tx.call = Some(call);
        }
        if let Some(state) = self.calls.get_mut(&call) {
            state.invite = Invite::Received { request: request.clone(), source, key: key.clone() };
            if let Some(dialog) = state.dialog.as_mut() {
                dialog.refresh_target(request);
            }
        }
        self.answer(call, 200, Some(audio), Lines::new());
        self.tell(call, UaEvent::Request(request.clone()));
    }

    pub(super) fn on_other(&mut self, request: &Message, key: &ServerKey, source: SocketAddr) {
        let method = request.method().clone();
        if method == Method::CANCEL {
            return self.on_cancel(request, key, source);
        }
        let known = [Method::BYE, Method::OPTIONS, Method::INFO, Method::NOTIFY, Method::UPDATE].contains(&method);
        if !known {
            return self.refuse(key, request, source, 405);
        }
        let Some(call) = self.call_of(request) else {
            let outside = method == Method::OPTIONS && request.to_tag().is_none();
            return self.refuse(key, request, source, if outside { 200 } else { 481 });
        };
        let number = request.cseq().map_or(0, |c| c.number);
        let Some(state) = self.calls.get_mut(&call) else { return };
        if state.dialog.as_mut().is_none_or(|d| d.on_request(number).is_err()) {
            return self.refuse(key, request, source, 500);
        }
        let mut ok = Draft::response(request, source, 200, "", None);
        self.common(&mut ok, call);
        if let (Some(offer), true) = (description(request), method == Method::UPDATE) {
            let answer = self.calls.get(&call).and_then(|c| sdp::answer(&offer, c.audio?));
            let Some(answer) = answer else { return self.refuse(key, request, source, 488) };
            ok.body(SDP_TYPE, answer);
        }
        self.respond(key, &ok);
        self.tell(call, UaEvent::Request(request.clone()));
    }

    /// RFC 3261 §9.2
    pub(super) fn on_cancel(&mut self, request: &Message, key: &ServerKey, source: SocketAddr) {
        let cancelled = ServerKey::cancelled(request);
        let Some((call, pending)) = self.servers.get(&cancelled).map(|tx| (tx.call, tx.server.is_pending())) else {
            return self.refuse(key, request, source, 481);
        };
        self.refuse(key, request, source, 200);
        let invite = call.and_then(|call| self.calls.get(&call)).map(|c| &c.invite);
        if let (Some(call), true, Some(Invite::Received { request: invite, source, .. })) = (call, pending, invite) {
            let (invite, source) = (invite.clone(), *source);
            let tag = self.tag_of(call);
            let terminated = Draft::response(&invite, source, 487, "", tag.as_ref());
            self.respond(&cancelled, &terminated);
            self.settle(call);
            self.tell(call, UaEvent::Cancelled(request.clone()));
        }
    }

    pub(super) fn on_ack(&mut self, ack: &Message) {
        let Some(call) = self.call_of(ack) else { return };
        if self.calls.get(&call).is_some_and(|c| matches!(c.invite, Invite::Answered { .. })) {
            self.settle(call);
            self.tell(call, UaEvent::Acknowledged(ack.clone()));
        }
    }

    pub(super) fn call_of(&self, request: &Message) -> Option<u64> {
        let name = (request.call_id().ok()?.to_owned(), request.to_tag()?.to_owned());
        let call = *self.names.get(&name)?;
        let dialog = self.calls.get(&call)?.dialog.as_ref()?;
        dialog.owns(request).then_some(call)
    }

    pub(super) fn tag_of(&self, call: u64) -> Option<LocalTag> {
        self.calls.get(&call)?.dialog.as_ref().map(|d| d.local_tag().clone())
    }

    pub(super) fn settle(&mut self, call: u64) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.invite = Invite::Settled;
        }
    }

    /// A response outside a call, or one that needs nothing of it.
    pub(super) fn refuse(&mut self, key: &ServerKey, request: &Message, source: SocketAddr, status: u16) {
        let tag = self.ids.0.local_tag();
        let mut draft = Draft::response(request, source, status, "", Some(&tag));
        draft.put("Allow", ALLOW).put("Server", &self.options.agent);
        match status {
            503 => drop(draft.put("Retry-After", "5")),
            200 if *request.method() == Method::OPTIONS => drop(draft.put("Accept", SDP_TYPE)),
            _ => {}
        }
        self.respond(key, &draft);
    }

    pub(super) fn respond(&mut self, key: &ServerKey, draft: &Draft) {
        let now = self.now();
        let mut out = Vec::new();
        if let Some(tx) = self.servers.get_mut(key) {
            tx.server.respond(draft.status(), draft.print(None), now, &mut out);
        }
        self.run_server(key, out);
    }

    pub(super) fn run_server(&mut self, key: &ServerKey, out: Vec<server::Out>) {
        let Some(tx) = self.servers.get(key) else { return };
        let wire = tx.wire;
        if let Some((at, _)) = tx.server.deadline() {
            self.alarms.push(Reverse(Alarms(at, Alarm::Server(key.clone()))));
        }
        for out in out {
            match out {
                // A lost connection is the peer's to notice: it has the timers for it.
                server::Out::Send(bytes) => drop(self.wires.send(wire, bytes)),
                server::Out::Terminated => drop(self.servers.remove(key)),
                _ => {}
            }
        }
    }

    pub(super) fn answer(&mut self, call: u64, status: u16, audio: Option<LocalAudio>, lines: Lines) {
        let Some(state) = self.calls.get(&call) else { return };
        let Invite::Received { request, source, key } = &state.invite else { return };
        let (request, source, key) = (request.clone(), *source, key.clone());
        let body = audio.map(|audio| match description(&request) {
            Some(offer) => sdp::answer(&offer, audio),
            None => Some(sdp::offer(audio)),
        });
        let unsuitable = body == Some(None);
        let status = if unsuitable { 488 } else { status };
        let mut draft = Draft::response(&request, source, status, "", self.tag_of(call).as_ref());
        // RFC 3261 §12.1.1
        draft.keep_all(&request, Name::RecordRoute);
        self.common(&mut draft, call);
        for (name, value) in &lines {
            draft.put(name, value);
        }
        if let Some(body) = body.flatten() {
            draft.body(SDP_TYPE, body);
        }
        self.respond(&key, &draft);
        let now = self.now();
        let Some(state) = self.calls.get_mut(&call) else { return };
        state.audio = audio.or(state.audio);
        let t1 = self.options.timers.t1;
        match status {
            100..=199 => {}
            200..=299 => {
                let at = now + t1;
                state.invite = Invite::Answered { key, ok: draft.print(None), at, interval: t1, until: now + t1 * 64 };
                self.alarms.push(Reverse(Alarms(at, Alarm::Call(call))));
            }
            _ => state.invite = Invite::Settled,
        }
        if unsuitable {
            self.tell(call, UaEvent::Unsuitable);
        }
    }

    /// RFC 3261 §13.3.1.4: the 2xx again, over every transport, until its ACK or for 64*T1.
    pub(super) fn repeat_ok(&mut self, call: u64, now: Time) {
        let timers = self.options.timers;
        let Some(Call { invite, .. }) = self.calls.get_mut(&call) else { return };
        let Invite::Answered { key, ok, at, interval, until } = invite else { return };
        if *at > now {
            return;
        }
        if now >= *until {
            self.settle(call);
            return self.tell(call, UaEvent::Unacknowledged);
        }
        *interval = (*interval * 2).min(timers.t2);
        *at = now + *interval;
        let (key, ok) = (key.clone(), ok.clone());
        self.alarms.push(Reverse(Alarms(*at, Alarm::Call(call))));
        let mut out = Vec::new();
        if let Some(tx) = self.servers.get_mut(&key) {
            tx.server.respond(200, ok, now, &mut out);
        }
        self.run_server(&key, out);
    }
}
