//! The user agent's one task: transactions and dialogs of all its calls.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand_core::OsRng;
use rand_core::TryRngCore;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::rules::Target;
use crate::call::rules::Transport;
use crate::dialog::Dialog;
use crate::dialog::ack_and_bye;
use crate::ids::LocalTag;
use crate::ids::Minter;
use crate::mock::sdp;
use crate::mock::sdp::LocalAudio;
use crate::mock::ua::Lines;
use crate::mock::ua::Order;
use crate::mock::ua::UaCall;
use crate::mock::ua::UaEvent;
use crate::mock::ua::UaIncoming;
use crate::mock::ua::UaInvite;
use crate::mock::ua::UaOptions;
use crate::mock::ua::description;
use crate::mock::ua::wires::Heard;
use crate::mock::ua::wires::Wire;
use crate::mock::ua::wires::Wires;
use crate::time::Time;
use crate::transaction::ServerKey;
use crate::transaction::cancel_for;
use crate::transaction::client;
use crate::transaction::client::Client;
use crate::transaction::server;
use crate::transaction::server::Server;
use crate::wire::draft::Draft;
use crate::wire::header::Via;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::uri::Host;
use crate::wire::uri::Uri;
use crate::wire::uri::host_port;

const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE";

/// Transactions of either kind at a time; a further request is dropped, for its sender to repeat.
const TRANSACTIONS_MAX: usize = 100_000;

const SDP_TYPE: &str = "application/sdp";

/// A client transaction: branch and method (RFC 3261 §17.1.3).
#[derive(Clone, PartialEq, Eq, Debug)]
struct ClientKey(String, Method);

impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0, self.1.as_bytes()).hash(state);
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Alarm {
    Client(ClientKey),
    Server(ServerKey),
    /// The 2xx of this call is repeated.
    Call(u64),
}

/// Ordered by time only.
#[derive(Debug)]
struct Alarms(Time, Alarm);

impl PartialEq for Alarms {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Alarms {}

impl PartialOrd for Alarms {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarms {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[derive(Debug)]
struct ServerTx {
    server: Server,
    wire: Wire,
    call: Option<u64>,
}

#[derive(Debug)]
struct ClientTx {
    client: Client,
    wire: Wire,
    call: Option<u64>,
}

/// What an INVITE of a call has come to.
#[derive(Debug)]
enum Invite {
    /// Ours to answer.
    Received { request: Message, source: SocketAddr, key: ServerKey },
    /// Our 2xx waits for its ACK (RFC 3261 §13.3.1.4).
    Answered { key: ServerKey, ok: Bytes, at: Time, interval: Duration, until: Time },
    /// The peer's to answer; `cancel` once a CANCEL is wanted.
    Sent { key: ClientKey, cancel: bool },
    /// Answered and acknowledged by us: the ACK is repeated for each repeated 2xx.
    Acknowledged { ack: Bytes, wire: Wire },
    /// Nothing is open.
    Settled,
}

#[derive(Debug)]
struct Call {
    events: mpsc::Sender<UaEvent>,
    name: CallName,
    dialog: Option<Dialog>,
    invite: Invite,
    audio: Option<LocalAudio>,
    /// The wire that the INVITE used.
    wire: Wire,
    remote: SocketAddr,
}

/// SIP Call-ID and our tag.
type CallName = (String, String);

#[derive(Debug)]
pub struct Endpoint {
    options: UaOptions,
    wires: Wires,
    orders_in: mpsc::Sender<Order>,
    orders: mpsc::Receiver<Order>,
    incoming: mpsc::Sender<UaIncoming>,
    ids: Ids,
    started: Instant,
    calls: HashMap<u64, Call>,
    names: HashMap<CallName, u64>,
    servers: HashMap<ServerKey, ServerTx>,
    clients: HashMap<ClientKey, ClientTx>,
    alarms: BinaryHeap<Reverse<Alarms>>,
}

struct Ids(Minter);

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids")
    }
}

impl Endpoint {
    pub fn new(
        options: UaOptions,
        wires: Wires,
        orders_in: mpsc::Sender<Order>,
        orders: mpsc::Receiver<Order>,
        incoming: mpsc::Sender<UaIncoming>,
    ) -> io::Result<Endpoint> {
        let mut seed = [0; 32];
        OsRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
        Ok(Endpoint {
            options,
            wires,
            orders_in,
            orders,
            incoming,
            ids: Ids(Minter::new(seed, 0)),
            started: Instant::now(),
            calls: HashMap::new(),
            names: HashMap::new(),
            servers: HashMap::new(),
            clients: HashMap::new(),
            alarms: BinaryHeap::new(),
        })
    }

    pub async fn run(mut self) {
        loop {
            let alarm = self.alarms.peek().map(|Reverse(a)| self.started + Duration::from_micros(a.0.as_micros()));
            tokio::select! {
                heard = self.wires.next() => match heard {
                    Some(heard) => self.hear(heard),
                    None => return,
                },
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                () = tokio::time::sleep_until(alarm.unwrap_or(self.started)), if alarm.is_some() => self.fire(),
            }
        }
    }

    fn now(&self) -> Time {
        Time::default() + self.started.elapsed()
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Accepted { stream, peer } => self.wires.accepted(stream, peer),
            Heard::Message { wire, source, bytes } => {
                let Ok(message) = Message::parse(bytes) else { return };
                match (message.is_request(), message.check()) {
                    (true, Ok(())) => self.on_request(message, wire, source),
                    (true, Err(defect)) if *message.method() != Method::ACK => {
                        let draft = Draft::response(&message, source, defect.status, &defect.reason, None);
                        let wire = self.reply_wire(&message, wire, source);
                        self.wires.send(wire, draft.print(None));
                    }
                    (false, Ok(())) => self.on_response(&message),
                    _ => {}
                }
            }
            Heard::Gone { conn } => {
                self.wires.gone(conn);
                let lost: Vec<ClientKey> =
                    self.clients.iter().filter(|(_, tx)| tx.wire == Wire::Tcp(conn)).map(|(key, _)| key.clone()).collect();
                for key in lost {
                    self.unsendable(&key);
                }
            }
        }
    }

    // Requests that come in.

    fn on_request(&mut self, request: Message, wire: Wire, source: SocketAddr) {
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

    fn add_server(&mut self, key: &ServerKey, server: Server, request: &Message, wire: Wire, source: SocketAddr) {
        let wire = self.reply_wire(request, wire, source);
        self.servers.insert(key.clone(), ServerTx { server, wire, call: None });
    }

    /// RFC 3261 §18.2.2, RFC 3581 §4: over UDP to the source, at its port when the peer asked for that, else at the port of its Via.
    fn reply_wire(&self, request: &Message, wire: Wire, source: SocketAddr) -> Wire {
        match (wire, request.via()) {
            (Wire::Udp(_), Ok(via)) if via.rport().is_none() => {
                Wire::Udp(SocketAddr::new(source.ip(), via.port.unwrap_or(5060)))
            }
            _ => wire,
        }
    }

    fn on_invite(&mut self, request: Message, key: ServerKey, wire: Wire, source: SocketAddr) {
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
    fn sweep(&mut self) {
        if self.calls.len() < self.options.calls_max {
            return;
        }
        let abandoned: Vec<u64> = self.calls.iter().filter(|(_, c)| c.events.is_closed()).map(|(key, _)| *key).collect();
        for call in abandoned {
            self.forget(call);
        }
    }

    /// A new offer in the call: answered with the same audio. Without an offer ours is repeated.
    fn on_reinvite(&mut self, call: u64, request: &Message, key: &ServerKey, source: SocketAddr) {
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

    fn on_other(&mut self, request: &Message, key: &ServerKey, source: SocketAddr) {
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
    fn on_cancel(&mut self, request: &Message, key: &ServerKey, source: SocketAddr) {
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

    fn on_ack(&mut self, ack: &Message) {
        let Some(call) = self.call_of(ack) else { return };
        if self.calls.get(&call).is_some_and(|c| matches!(c.invite, Invite::Answered { .. })) {
            self.settle(call);
            self.tell(call, UaEvent::Acknowledged(ack.clone()));
        }
    }

    fn call_of(&self, request: &Message) -> Option<u64> {
        let name = (request.call_id().ok()?.to_owned(), request.to_tag()?.to_owned());
        let call = *self.names.get(&name)?;
        let dialog = self.calls.get(&call)?.dialog.as_ref()?;
        dialog.owns(request).then_some(call)
    }

    fn tag_of(&self, call: u64) -> Option<LocalTag> {
        self.calls.get(&call)?.dialog.as_ref().map(|d| d.local_tag().clone())
    }

    fn settle(&mut self, call: u64) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.invite = Invite::Settled;
        }
    }

    /// A response outside a call, or one that needs nothing of it.
    fn refuse(&mut self, key: &ServerKey, request: &Message, source: SocketAddr, status: u16) {
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

    fn respond(&mut self, key: &ServerKey, draft: &Draft) {
        let now = self.now();
        let mut out = Vec::new();
        if let Some(tx) = self.servers.get_mut(key) {
            tx.server.respond(draft.status(), draft.print(None), now, &mut out);
        }
        self.run_server(key, out);
    }

    fn run_server(&mut self, key: &ServerKey, out: Vec<server::Out>) {
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

    // Orders of the calls' owners.

    fn obey(&mut self, order: Order) {
        match order {
            Order::Invite { invite, audio, events, reply } => {
                let call = self.place(&invite, audio, events);
                if reply.send(call).is_err() && let Some(call) = call {
                    self.forget(call);
                }
            }
            Order::Respond { call, status, audio, lines } => self.answer(call, status, audio, lines),
            Order::Request { call, method, lines } => self.request(call, method, &lines),
            Order::Cancel { call } => {
                if let Some(Call { invite: Invite::Sent { cancel, .. }, .. }) = self.calls.get_mut(&call) {
                    *cancel = true;
                    self.cancel(call);
                }
            }
            Order::Forget { call } => self.forget(call),
        }
    }

    fn forget(&mut self, call: u64) {
        if let Some(gone) = self.calls.remove(&call) {
            self.names.remove(&gone.name);
        }
    }

    fn tell(&mut self, call: u64, event: UaEvent) {
        if let Some(call) = self.calls.get(&call) {
            // An owner that does not listen loses it.
            let _ = call.events.try_send(event);
        }
    }

    /// Contact, Allow and our name: in all that we send in a call.
    fn common(&self, draft: &mut Draft, call: u64) {
        let Some(state) = self.calls.get(&call) else { return };
        draft.put("Contact", self.contact(state.wire.transport(), state.remote));
        draft.put("Allow", ALLOW);
        draft.put(if draft.status() == 0 { "User-Agent" } else { "Server" }, &self.options.agent);
    }

    fn contact(&self, transport: Transport, remote: SocketAddr) -> String {
        let addr = host_port(self.wires.local(transport, remote.ip()));
        let transport = transport.as_str().to_ascii_lowercase();
        format!("<sip:{}@{addr};transport={transport}>", self.options.user)
    }

    fn answer(&mut self, call: u64, status: u16, audio: Option<LocalAudio>, lines: Lines) {
        let Some(state) = self.calls.get(&call) else { return };
        let Invite::Received { request, source, key } = &state.invite else { return };
        let (request, source, key) = (request.clone(), *source, key.clone());
        let body = audio.map(|audio| match description(&request) {
            Some(offer) => sdp::answer(&offer, audio),
            None => Some(sdp::offer(audio)),
        });
        let status = if body == Some(None) { 488 } else { status };
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
    }

    fn request(&mut self, call: u64, method: Method, lines: &Lines) {
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
    fn way(&mut self, target: Option<Target>, fallback: (Wire, SocketAddr)) -> (Wire, SocketAddr) {
        let wire = target.and_then(|t| Some((self.wires.towards(t)?, t.addr)));
        wire.unwrap_or(fallback)
    }

    fn place(&mut self, invite: &UaInvite, audio: LocalAudio, events: mpsc::Sender<UaEvent>) -> Option<u64> {
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

    fn start_client(&mut self, draft: &Draft, wire: Wire, remote: SocketAddr, call: Option<u64>) {
        let branch = self.ids.0.branch();
        self.start(draft, branch.as_str(), wire, remote, call);
    }

    fn start(&mut self, draft: &Draft, branch: &str, wire: Wire, remote: SocketAddr, call: Option<u64>) {
        let bytes = draft.print(Some(&self.via(wire, remote, branch)));
        self.start_printed(ClientKey(branch.to_owned(), draft.method().clone()), bytes, wire, call);
    }

    fn start_printed(&mut self, key: ClientKey, bytes: Bytes, wire: Wire, call: Option<u64>) {
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

    fn via(&self, wire: Wire, remote: SocketAddr, branch: &str) -> String {
        let transport = wire.transport();
        let addr = host_port(self.wires.local(transport, remote.ip()));
        format!("SIP/2.0/{} {addr};rport;branch={branch}", transport.as_str())
    }

    /// RFC 3261 §9.1: not before a provisional answer, and not after a final one.
    fn cancel(&mut self, call: u64) {
        let Some(Invite::Sent { key, cancel: true }) = self.calls.get(&call).map(|c| &c.invite) else { return };
        let cancel_key = ClientKey(key.0.clone(), Method::CANCEL);
        let Some(tx) = self.clients.get(key).filter(|tx| tx.client.is_proceeding()) else { return };
        let (bytes, wire) = (cancel_for(tx.client.request()), tx.wire);
        if !bytes.is_empty() && !self.clients.contains_key(&cancel_key) {
            self.start_printed(cancel_key, bytes, wire, None);
        }
    }

    // Responses and timers.

    fn on_response(&mut self, response: &Message) {
        let branch = response.via().ok().and_then(|via: Via<'_>| via.branch().map(|b| String::from_utf8_lossy(b).into_owned()));
        let Some(key) = branch.map(|branch| ClientKey(branch, response.method().clone())) else { return };
        let Some(tx) = self.clients.get_mut(&key) else { return };
        let (mut out, now) = (Vec::new(), Time::default() + self.started.elapsed());
        tx.client.on_response(response, now, &mut out);
        self.run_client(&key, out, Some(response));
    }

    fn run_client(&mut self, key: &ClientKey, out: Vec<client::Out>, response: Option<&Message>) {
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
    fn unsendable(&mut self, key: &ClientKey) {
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

    fn unanswered(&mut self, call: Option<u64>, key: &ClientKey, status: u16) {
        let Some(call) = call else { return };
        if key.1 == Method::INVITE {
            self.settle(call);
        }
        self.tell(call, UaEvent::Response { method: key.1.clone(), status, message: None });
    }

    fn answered(&mut self, call: u64, key: &ClientKey, response: &Message) {
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
    fn invite_answered(&mut self, call: u64, key: &ClientKey, response: &Message) -> bool {
        let Some(invite) = self.clients.get(key).map(|tx| tx.client.request().clone()) else { return false };
        let Some(state) = self.calls.get(&call) else { return false };
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
    fn end_fork(&mut self, invite: &Bytes, response: &Message, fallback: (Wire, SocketAddr)) {
        let Some((dialog, ack, bye)) = ack_and_bye(invite, response) else { return };
        let (wire, remote) = self.way(target_of(dialog.next_hop()), fallback);
        let branch = self.ids.0.branch();
        let ack = ack.print(Some(&self.via(wire, remote, branch.as_str())));
        self.wires.send(wire, ack);
        self.start_client(&bye, wire, remote, None);
    }

    fn fire(&mut self) {
        let now = self.now();
        while self.alarms.peek().is_some_and(|Reverse(a)| a.0 <= now) {
            let Some(Reverse(Alarms(_, alarm))) = self.alarms.pop() else { return };
            match alarm {
                Alarm::Client(key) => {
                    let mut out = Vec::new();
                    // An alarm that a later state has made void finds nothing due.
                    if let Some(tx) = self.clients.get_mut(&key) {
                        tx.client.on_timeout(now, &mut out);
                    }
                    if !out.is_empty() {
                        self.run_client(&key, out, None);
                    }
                }
                Alarm::Server(key) => {
                    let mut out = Vec::new();
                    if let Some(tx) = self.servers.get_mut(&key) {
                        tx.server.on_timeout(now, &mut out);
                    }
                    if !out.is_empty() {
                        self.run_server(&key, out);
                    }
                }
                Alarm::Call(call) => self.repeat_ok(call, now),
            }
        }
    }

    /// RFC 3261 §13.3.1.4: the 2xx again, over every transport, until its ACK or for 64*T1.
    fn repeat_ok(&mut self, call: u64, now: Time) {
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

/// The address that a URI names literally.
fn target_of(uri: &[u8]) -> Option<Target> {
    let Uri::Sip(uri) = Uri::parse(uri)? else { return None };
    let Host::Ip(ip) = uri.host else { return None };
    let tcp = uri.params.get("transport").is_some_and(|t| t.eq_ignore_ascii_case(b"tcp"));
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    Some(Target { transport, addr: SocketAddr::new(ip, uri.port.unwrap_or(5060)) })
}
