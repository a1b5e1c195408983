//! A small SIP user agent for the mocks: real sockets, our wire, our transaction machines, many calls at a time.
//!
//! It answers by itself what needs no decision (OPTIONS, INFO, NOTIFY, BYE, re-INVITE and UPDATE with the call's own audio) and tells
//! the call's owner of it.

mod client;
mod endpoint;
mod server;
mod wires;

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::call::rules::Target;
use crate::mock::sdp::LocalAudio;
use crate::mock::ua::endpoint::Endpoint;
use crate::mock::ua::wires::Wires;
use crate::transaction::Timers;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;

/// Calls at a time; a further INVITE gets 503.
pub const UA_CALLS_MAX: usize = 10_000;

/// Events of one call that its owner has not taken yet; a further one is lost.
pub const UA_EVENTS_WAITING_MAX: usize = 64;

/// New calls that nobody has taken yet; a further INVITE gets 503.
pub const UA_INCOMING_WAITING_MAX: usize = 1024;

const ORDERS_WAITING_MAX: usize = 1024;

/// A listener for TLS.
#[derive(Clone, Debug)]
pub struct UaTls {
    pub listen: SocketAddr,
    pub server: Arc<ServerConfig>,
}

/// How to be a user agent.
#[derive(Clone, Debug)]
pub struct UaOptions {
    pub udp: Option<SocketAddr>,
    pub tcp: Option<SocketAddr>,
    pub tls: Option<UaTls>,
    /// The user part of our Contact.
    pub user: String,
    /// User-Agent and Server.
    pub agent: String,
    pub timers: Timers,
    pub calls_max: usize,
}

impl Default for UaOptions {
    fn default() -> UaOptions {
        let agent = "backchannel-mock".to_owned();
        UaOptions { udp: None, tcp: None, tls: None, user: "mock".to_owned(), agent, timers: Timers::default(), calls_max: UA_CALLS_MAX }
    }
}

/// Headers to add, in order.
pub type Lines = Vec<(String, String)>;

/// What happens in a call.
#[derive(Clone, Debug)]
pub enum UaEvent {
    /// A response to a request of ours. 408 without a message: nobody answered; 503 without one: it could not be sent.
    Response { method: Method, status: u16, message: Option<Message> },
    /// A request in the dialog; it has been answered.
    Request(Message),
    /// The ACK to our 2xx.
    Acknowledged(Message),
    /// The peer took its INVITE back; it has been answered 487.
    Cancelled(Message),
    /// Nobody acknowledged our 2xx.
    Unacknowledged,
    /// The offer has no PCMU: instead of what was wanted, 488 went out.
    Unsuitable,
}

/// A call that came in. Nothing but 100 has been answered.
#[derive(Debug)]
pub struct UaIncoming {
    pub invite: Message,
    pub source: SocketAddr,
    pub call: UaCall,
}

/// An INVITE to send.
#[derive(Clone, Debug)]
pub struct UaInvite {
    pub target: Target,
    pub uri: String,
    /// From and To values without tags.
    pub from: String,
    pub to: String,
    pub lines: Lines,
}

/// What the owner of a call wants.
#[derive(Debug)]
enum Order {
    Invite { invite: UaInvite, audio: LocalAudio, events: mpsc::Sender<UaEvent>, reply: oneshot::Sender<Option<u64>> },
    Respond { call: u64, status: u16, audio: Option<LocalAudio>, lines: Lines },
    Request { call: u64, method: Method, lines: Lines },
    Cancel { call: u64 },
    Forget { call: u64 },
}

/// One call, owned. The user agent forgets it when this is dropped.
#[derive(Debug)]
pub struct UaCall {
    key: u64,
    /// Our address towards the peer.
    local: IpAddr,
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<UaEvent>,
}

impl UaCall {
    pub fn local(&self) -> IpAddr {
        self.local
    }

    /// A number for the `o=` line that no other call has.
    pub fn session(&self) -> u64 {
        self.key
    }

    /// Answers the INVITE: with a description when `audio` is given (the answer to its offer, or an offer when it had none). An offer
    /// without PCMU gets 488 instead.
    pub async fn respond(&self, status: u16, audio: Option<LocalAudio>, lines: Lines) {
        self.order(Order::Respond { call: self.key, status, audio, lines }).await;
    }

    /// Sends a request in the dialog.
    pub async fn request(&self, method: Method, lines: Lines) {
        self.order(Order::Request { call: self.key, method, lines }).await;
    }

    /// Takes our INVITE back, as soon as it may be (RFC 3261 §9.1). Its answer comes as any other.
    pub async fn cancel(&self) {
        self.order(Order::Cancel { call: self.key }).await;
    }

    /// The next event; `None` when the user agent is gone.
    pub async fn next(&mut self) -> Option<UaEvent> {
        self.events.recv().await
    }

    async fn order(&self, order: Order) {
        // A user agent that is gone is told by `next`.
        let _ = self.orders.send(order).await;
    }
}

impl Drop for UaCall {
    fn drop(&mut self) {
        // When the queue is full the call is found abandoned by its closed channel.
        let _ = self.orders.try_send(Order::Forget { call: self.key });
    }
}

/// Places calls.
#[derive(Clone, Debug)]
pub struct UaHandle {
    orders: mpsc::Sender<Order>,
}

impl UaHandle {
    /// Sends an INVITE that offers `audio`. `None`: too many calls, no such transport, or the user agent is gone.
    pub async fn invite(&self, invite: UaInvite, audio: LocalAudio) -> Option<UaCall> {
        let (events_in, events) = mpsc::channel(UA_EVENTS_WAITING_MAX);
        let (reply, key) = oneshot::channel();
        self.orders.send(Order::Invite { invite, audio, events: events_in, reply }).await.ok()?;
        let key = key.await.ok()??;
        Some(UaCall { key, local: audio.addr.ip(), orders: self.orders.clone(), events })
    }
}

/// A user agent that is bound and does nothing yet.
#[derive(Debug)]
pub struct Ua {
    udp: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    handle: UaHandle,
    endpoint: Endpoint,
}

impl Ua {
    /// Binds; calls that come in go to the receiver. Without a receiver to take them they get 503.
    pub async fn bind(options: UaOptions) -> io::Result<(Ua, mpsc::Receiver<UaIncoming>)> {
        let wires = Wires::bind(options.udp, options.tcp, options.tls.as_ref()).await?;
        let (udp, tcp, tls) = (wires.udp_addr(), wires.tcp_addr(), wires.tls_addr());
        let (orders_in, orders) = mpsc::channel(ORDERS_WAITING_MAX);
        let (incoming_in, incoming) = mpsc::channel(UA_INCOMING_WAITING_MAX);
        let endpoint = Endpoint::new(options, wires, orders_in.clone(), orders, incoming_in)?;
        Ok((Ua { udp, tcp, tls, handle: UaHandle { orders: orders_in }, endpoint }, incoming))
    }

    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp
    }

    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls
    }

    pub fn handle(&self) -> UaHandle {
        self.handle.clone()
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        self.endpoint.run().await;
    }
}

/// Lines of a message whose names begin with `X-`, spelled as they came, in order.
pub fn x_headers(message: &Message) -> Lines {
    let extension = message.lines().filter(|l| l.spelled.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"X-")));
    extension.map(|l| (text(l.spelled), text(l.value))).collect()
}

/// The value of the first line of that name, as text.
pub fn header(message: &Message, name: &str) -> Option<String> {
    message.named(name).next().map(text)
}

/// The Reason header (RFC 3326), as text.
pub fn reason(message: &Message) -> Option<String> {
    message.value(Name::Reason).map(text)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The body, when there is one.
fn description(message: &Message) -> Option<Bytes> {
    Some(message.body()).filter(|body| !body.is_empty())
}
