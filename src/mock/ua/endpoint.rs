//! The user agent's one task: its calls, what their owners want, its timers.

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

use crate::call::rules::Transport;
use crate::dialog::Dialog;
use crate::ids::Minter;
use crate::mock::sdp::LocalAudio;
use crate::mock::ua::Order;
use crate::mock::ua::UaEvent;
use crate::mock::ua::UaIncoming;
use crate::mock::ua::UaOptions;
use crate::mock::ua::wires::Heard;
use crate::mock::ua::wires::Wire;
use crate::mock::ua::wires::Wires;
use crate::time::Time;
use crate::transaction::ServerKey;
use crate::transaction::client::Client;
use crate::transaction::server::Server;
use crate::wire::draft::Draft;
use crate::wire::message::Message;
use crate::wire::method::Method;
use crate::wire::uri::host_port;

pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, NOTIFY, UPDATE";

/// Transactions of either kind at a time; a further request is dropped, for its sender to repeat.
pub(super) const TRANSACTIONS_MAX: usize = 100_000;

pub(super) const SDP_TYPE: &str = "application/sdp";

/// A client transaction: branch and method (RFC 3261 §17.1.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClientKey(pub(super) String, pub(super) Method);

impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0, self.1.as_bytes()).hash(state);
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    Client(ClientKey),
    Server(ServerKey),
    /// The 2xx of this call is repeated.
    Call(u64),
}

/// Ordered by time only.
#[derive(Debug)]
pub(super) struct Alarms(pub(super) Time, pub(super) Alarm);

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
pub(super) struct ServerTx {
    pub(super) server: Server,
    pub(super) wire: Wire,
    pub(super) call: Option<u64>,
}

#[derive(Debug)]
pub(super) struct ClientTx {
    pub(super) client: Client,
    pub(super) wire: Wire,
    pub(super) call: Option<u64>,
}

/// What an INVITE of a call has come to.
#[derive(Debug)]
pub(super) enum Invite {
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
pub(super) struct Call {
    pub(super) events: mpsc::Sender<UaEvent>,
    pub(super) name: CallName,
    pub(super) dialog: Option<Dialog>,
    pub(super) invite: Invite,
    pub(super) audio: Option<LocalAudio>,
    /// The wire that the INVITE used.
    pub(super) wire: Wire,
    pub(super) remote: SocketAddr,
}

/// SIP Call-ID and our tag.
pub(super) type CallName = (String, String);

#[derive(Debug)]
pub struct Endpoint {
    pub(super) options: UaOptions,
    pub(super) wires: Wires,
    pub(super) orders_in: mpsc::Sender<Order>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) incoming: mpsc::Sender<UaIncoming>,
    pub(super) ids: Ids,
    pub(super) started: Instant,
    pub(super) calls: HashMap<u64, Call>,
    pub(super) names: HashMap<CallName, u64>,
    pub(super) servers: HashMap<ServerKey, ServerTx>,
    pub(super) clients: HashMap<ClientKey, ClientTx>,
    pub(super) alarms: BinaryHeap<Reverse<Alarms>>,
}

pub(super) struct Ids(pub(super) Minter);

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

    pub(super) fn now(&self) -> Time {
        Time::default() + self.started.elapsed()
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Accepted { stream, peer, tls } => self.wires.accepted(stream, peer, tls),
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
                let lost: Vec<ClientKey> = self
                    .clients
                    .iter()
                    .filter(|(_, tx)| matches!(tx.wire, Wire::Tcp(c) | Wire::Tls(c) if c == conn))
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in lost {
                    self.unsendable(&key);
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Invite { invite, audio, events, reply } => {
                let call = self.place(&invite, audio, events);
                if reply.send(call).is_err()
                    && let Some(call) = call
                {
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

    pub(super) fn forget(&mut self, call: u64) {
        if let Some(gone) = self.calls.remove(&call) {
            self.names.remove(&gone.name);
        }
    }

    pub(super) fn tell(&mut self, call: u64, event: UaEvent) {
        if let Some(call) = self.calls.get(&call) {
            // An owner that does not listen loses it.
            let _ = call.events.try_send(event);
        }
    }

    /// Contact, Allow and our name: in all that we send in a call.
    pub(super) fn common(&self, draft: &mut Draft, call: u64) {
        let Some(state) = self.calls.get(&call) else { return };
        draft.put("Contact", self.contact(state.wire.transport(), state.remote));
        draft.put("Allow", ALLOW);
        draft.put(if draft.status() == 0 { "User-Agent" } else { "Server" }, &self.options.agent);
    }

    pub(super) fn contact(&self, transport: Transport, remote: SocketAddr) -> String {
        let addr = host_port(self.wires.local(transport, remote.ip()));
        let transport = transport.as_str().to_ascii_lowercase();
        format!("<sip:{}@{addr};transport={transport}>", self.options.user)
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
}
