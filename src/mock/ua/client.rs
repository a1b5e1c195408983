//! What the user agent asks: requests that go out, and the responses to them.

use std::cmp::Reverse;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::dialog::Dialog;
use crate::dialog::ack_and_bye;
use crate::mock::sdp;
use crate::mock::sdp::LocalAudio;
use crate::mock::ua::Lines;
use crate::mock::ua::UaEvent;
use crate::mock::ua::UaInvite;
use crate::mock::ua::endpoint::ALLOW;
use crate::mock::ua::endpoint::Alarm;
use crate::mock::ua::endpoint::Alarms;
use crate::mock::ua::endpoint::Call;
use crate::mock::ua::endpoint::ClientKey;
use crate::mock::ua::endpoint::ClientTx;
use crate::mock::ua::endpoint::Endpoint;
use crate::mock::ua::endpoint::Invite;
use crate::mock::ua::endpoint::SDP_TYPE;
use crate::mock::ua::endpoint::TRANSACTIONS_MAX;
use crate::mock::ua::wires::Wire;
use crate::time::Time;
use crate::transaction::cancel_for;
use crate::transaction::client;
use crate::transaction::client::Client;
use crate::wire::draft::Draft;
use crate::wire::header::Via;
use crate::wire::message::Message;
use crate::wire::method::Method;
use crate::wire::uri::Host;
use crate::wire::uri::Uri;
use crate::wire::uri::host_port;

impl Endpoint {
    pub(super) fn request(&mut self, call: u64, method: Method, lines: &Lines) {
        let Some(state) = self.calls.get_mut(&call) else { return };
        let fallback = (state.wire, state.remote);
        let Some(dialog) = state.dialog.as_mut() else { return };
        let mut draft = dialog.request(method.clone());
        let target = target_of(dialog.next_hop());
        self.common(&mut draft, call);
        for (name, value) in lines {
            draft.put(name, value);
        }
        let (wire, remote) = self.way(target, fallback);
        self.start_client(&draft, wire, remote, Some(call));
    }

    /// Along the Contact or the first route; where that is a name, or a transport that we have not, along the INVITE's way.
    pub(super) fn way(&mut self, target: Option<Target>, fallback: (Wire, SocketAddr)) -> (Wire, SocketAddr) {
        let wire = target.and_then(|t| Some((self.wires.towards(t)?, t.addr)));
        wire.unwrap_or(fallback)
    }

    pub(super) fn place(&mut self, invite: &UaInvite, audio: LocalAudio, events: mpsc::Sender<UaEvent>) -> Option<u64> {
        self.sweep();
        if self.calls.len() >= self.options.calls_max {
            return None;
        }
        let wire = self.wires.towards(invite.target)?;
        let call = self.ids.0.number();
        let (call_id, tag) = (self.ids.0.sip_call_id(), self.ids.0.local_tag());
        let mut draft = Draft::request(Method::INVITE, invite.uri.as_bytes());
        draft.put("Max-Forwards", "70").put("From", format!("{};tag={tag}", invite.from)).put("To", &invite.to);
        draft.put("Call-ID", call_id.as_str()).put("CSeq", "1 INVITE");
        draft.put("Contact", self.contact(wire.transport(), invite.target.addr)).put("Allow", ALLOW);
        draft.put("User-Agent", &self.options.agent);
        for (name, value) in &invite.lines {
            draft.put(name, value);
        }
        draft.body(SDP_TYPE, sdp::offer(audio));
        let name = (call_id.as_str().to_owned(), tag.as_str().to_owned());
        let branch = self.ids.0.branch();
        let key = ClientKey(branch.as_str().to_owned(), Method::INVITE);
        let remote = invite.target.addr;
        let sent = Invite::Sent { key, cancel: false };
        let state = Call { events, name: name.clone(), dialog: None, invite: sent, audio: Some(audio), wire, remote };
        self.calls.insert(call, state);
        self.names.insert(name, call);
        self.start(&draft, branch.as_str(), wire, remote, Some(call));
        Some(call)
    }

    pub(super) fn start_client(&mut self, draft: &Draft, wire: Wire, remote: SocketAddr, call: Option<u64>) {
        let branch = self.ids.0.branch();
        self.start(draft, branch.as_str(), wire, remote, call);
    }

    pub(super) fn start(&mut self, draft: &Draft, branch: &str, wire: Wire, remote: SocketAddr, call: Option<u64>) {
        let bytes = draft.print(Some(&self.via(wire, remote, branch)));
        self.start_printed(ClientKey(branch.to_owned(), draft.method().clone()), bytes, wire, call);
    }

    pub(super) fn start_printed(&mut self, key: ClientKey, bytes: Bytes, wire: Wire, call: Option<u64>) {
        if self.clients.len() >= TRANSACTIONS_MAX {
            return;
        }
        let (mut out, now, timers) = (Vec::new(), self.now(), self.options.timers);
        let reliable = wire.transport().is_reliable();
        let client = match key.1 == Method::INVITE {
            true => Client::invite(bytes, reliable, timers, now, &mut out),
            false => Client::non_invite(bytes, reliable, timers, now, &mut out),
        };
        self.clients.insert(key.clone(), ClientTx { client, wire, call });
        self.run_client(&key, out, None);
    }

    pub(super) fn via(&self, wire: Wire, remote: SocketAddr, branch: &str) -> String {
        let transport = wire.transport();
        let addr = host_port(self.wires.local(transport, remote.ip()));
        format!("SIP/2.0/{} {addr};rport;branch={branch}", transport.as_str())
    }

    /// RFC 3261 §9.1: not before a provisional answer, and not after a final one.
    pub(super) fn cancel(&mut self, call: u64) {
        let Some(Invite::Sent { key, cancel: true }) = self.calls.get(&call).map(|c| &c.invite) else { return };
        let cancel_key = ClientKey(key.0.clone(), Method::CANCEL);
        let Some(tx) = self.clients.get(key).filter(|tx| tx.client.is_proceeding()) else { return };
        let (bytes, wire) = (cancel_for(tx.client.request()), tx.wire);
        if !bytes.is_empty() && !self.clients.contains_key(&cancel_key) {
            self.start_printed(cancel_key, bytes, wire, None);
        }
    }

    pub(super) fn on_response(&mut self, response: &Message) {
        let branch = response.via().ok().and_then(|via: Via<'_>| via.branch().map(|b| String::from_utf8_lossy(b).into_owned()));
        let Some(key) = branch.map(|branch| ClientKey(branch, response.method().clone())) else { return };
        let Some(tx) = self.clients.get_mut(&key) else { return };
        let (mut out, now) = (Vec::new(), Time::default() + self.started.elapsed());
        tx.client.on_response(response, now, &mut out);
        self.run_client(&key, out, Some(response));
    }

    pub(super) fn run_client(&mut self, key: &ClientKey, out: Vec<client::Out>, response: Option<&Message>) {
        for out in out {
            let Some(tx) = self.clients.get(key) else { return };
            let (wire, call) = (tx.wire, tx.call);
            match out {
                client::Out::Send(bytes) => {
                    if !self.wires.send(wire, bytes) {
                        return self.unsendable(key);
                    }
                }
                client::Out::Response => {
                    if let (Some(call), Some(response)) = (call, response) {
                        self.answered(call, key, response);
                    }
                }
                client::Out::Expired(_) => self.unanswered(call, key, 408),
                client::Out::Terminated => drop(self.clients.remove(key)),
                client::Out::Absorbed => {}
            }
        }
        if let Some((at, _)) = self.clients.get(key).and_then(|tx| tx.client.deadline()) {
            self.alarms.push(Reverse(Alarms(at, Alarm::Client(key.clone()))));
        }
    }

    /// RFC 3261 §8.1.3.1: as if 503 had been the answer.
    pub(super) fn unsendable(&mut self, key: &ClientKey) {
        let Some(tx) = self.clients.get_mut(key) else { return };
        let (pending, call) = (tx.client.is_pending(), tx.call);
        let mut out = Vec::new();
        tx.client.on_transport_error(&mut out);
        if pending {
            self.unanswered(call, key, 503);
        }
        if out.contains(&client::Out::Terminated) {
            self.clients.remove(key);
        }
    }

    pub(super) fn unanswered(&mut self, call: Option<u64>, key: &ClientKey, status: u16) {
        let Some(call) = call else { return };
        if key.1 == Method::INVITE {
            self.settle(call);
        }
        self.tell(call, UaEvent::Response { method: key.1.clone(), status, message: None });
    }

    pub(super) fn answered(&mut self, call: u64, key: &ClientKey, response: &Message) {
        if key.1 == Method::INVITE {
            let fresh = self.invite_answered(call, key, response);
            if !fresh {
                return;
            }
        }
        let (method, status) = (key.1.clone(), response.status());
        self.tell(call, UaEvent::Response { method, status, message: Some(response.clone()) });
    }

    /// Whether the owner has not heard of it yet.
    pub(super) fn invite_answered(&mut self, call: u64, key: &ClientKey, response: &Message) -> bool {
        let Some(invite) = self.clients.get(key).map(|tx| tx.client.request().clone()) else { return false };
        let Some(state) = self.calls.get(&call) else {
            // Its owner has gone: nobody wants what was answered.
            let wire = self.clients.get(key).map(|tx| tx.wire);
            if let (200..=299, Some(wire)) = (response.status(), wire)
                && let Some(remote) = self.wires.peer(wire)
            {
                self.end_fork(&invite, response, (wire, remote));
            }
            return false;
        };
        let fallback = (state.wire, state.remote);
        match (response.status(), &state.invite) {
            (100..=199, Invite::Sent { .. }) => {
                self.cancel(call);
                true
            }
            (200..=299, Invite::Sent { .. }) => {
                let Ok(request) = Message::parse(invite) else { return false };
                let Some(dialog) = Dialog::uac(&request, response) else { return false };
                let ack = dialog.ack(dialog.local_seq());
                let (wire, remote) = self.way(target_of(dialog.next_hop()), fallback);
                let branch = self.ids.0.branch();
                let ack = ack.print(Some(&self.via(wire, remote, branch.as_str())));
                self.wires.send(wire, ack.clone());
                if let Some(state) = self.calls.get_mut(&call) {
                    state.dialog = Some(dialog);
                    state.invite = Invite::Acknowledged { ack, wire };
                }
                true
            }
            (200..=299, Invite::Acknowledged { ack, wire }) => {
                let (ack, wire) = (ack.clone(), *wire);
                let ours = state.dialog.as_ref().map(|d| d.remote_tag().as_str());
                if ours == response.to_tag() {
                    self.wires.send(wire, ack);
                } else {
                    self.end_fork(&invite, response, fallback);
                }
                false
            }
            (300.., Invite::Sent { .. }) => {
                self.settle(call);
                true
            }
            _ => false,
        }
    }

    /// RFC 3261 §13.2.2.4: another 2xx than the first is acknowledged, and ended.
    pub(super) fn end_fork(&mut self, invite: &Bytes, response: &Message, fallback: (Wire, SocketAddr)) {
        let Some((dialog, ack, bye)) = ack_and_bye(invite, response) else { return };
        let (wire, remote) = self.way(target_of(dialog.next_hop()), fallback);
        let branch = self.ids.0.branch();
        let ack = ack.print(Some(&self.via(wire, remote, branch.as_str())));
        self.wires.send(wire, ack);
        self.start_client(&bye, wire, remote, None);
    }
}

/// The address that a URI names literally.
fn target_of(uri: &[u8]) -> Option<Target> {
    let Uri::Sip(uri) = Uri::parse(uri)? else { return None };
    let Host::Ip(ip) = uri.host else { return None };
    let transport = match uri.params.get("transport") {
        Some(t) if t.eq_ignore_ascii_case(b"tls") => Transport::Tls,
        Some(t) if t.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        _ => Transport::Udp,
    };
    Some(Target { transport, addr: SocketAddr::new(ip, uri.port.unwrap_or(transport.default_port())) })
}
