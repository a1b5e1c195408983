//! First floor: one request reliably answered (RFC 3261 §17, RFC 6026). No flow, no Via, no user: the stairwell attaches those.

pub mod client;
pub mod server;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::time::Time;
use crate::wire::draft::Draft;
use crate::wire::header::Via;
use crate::wire::message::Line;
use crate::wire::message::Message;
use crate::wire::message::Name;
use crate::wire::method::Method;
use crate::wire::uri::Host;

/// T1, T2, T4 (RFC 3261 §17.1.1.2, table 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
}

/// Table 4's values: 500 ms, 4 s, 5 s.
impl Default for Timers {
    fn default() -> Timers {
        Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timers {
    /// 64*T1: timers B, F, H, J, L and M.
    fn sixty_four_t1(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// The RFC's names of timers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Timer {
    A,
    B,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
}

/// A running retransmission timer (A, E or G): when it fires, and the interval that led there, from which the next one is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Resend {
    at: Time,
    interval: Duration,
}

impl Resend {
    /// `None` over a reliable transport: TCP repeats by itself (RFC 3261 §17.1.1.2, §17.1.2.2, §17.2.1).
    fn start(interval: Duration, reliable: bool, now: Time) -> Option<Resend> {
        (!reliable).then(|| Resend::after(interval, now))
    }

    /// Counted from the moment of firing, so that a late wake-up sends one message and not all that it missed.
    fn after(interval: Duration, now: Time) -> Resend {
        Resend { at: now + interval, interval }
    }

    /// The interval doubles with each retransmission.
    fn doubled(self) -> Duration {
        self.interval.saturating_mul(2)
    }
}

/// The timers of a state: the one that repeats, and the one that ends.
#[derive(Clone, Copy, Default)]
struct Running {
    resend: Option<(Time, Timer)>,
    end: Option<(Time, Timer)>,
}

impl Running {
    fn of(resend: Option<Resend>, repeats: Timer, end: Time, ends: Timer) -> Running {
        Running { resend: resend.map(|r| (r.at, repeats)), end: Some((end, ends)) }
    }

    fn end(at: Time, timer: Timer) -> Running {
        Running { resend: None, end: Some((at, timer)) }
    }

    /// The earliest; of two at the same time the one that ends.
    fn first(self) -> Option<(Time, Timer)> {
        match (self.resend, self.end) {
            (Some(resend), Some(end)) if resend.0 < end.0 => Some(resend),
            (resend, end) => end.or(resend),
        }
    }

    /// The one to fire. When both are due only the end does: a retransmission that nobody will wait for is not sent.
    fn due(self, now: Time) -> Option<Timer> {
        let is_due = |timer: Option<(Time, Timer)>| timer.filter(|&(at, _)| at <= now).map(|(_, timer)| timer);
        is_due(self.end).or_else(|| is_due(self.resend))
    }
}

/// What a branch begins with that is unique over space and time (RFC 3261 §8.1.1.7).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// Key of a server transaction (RFC 3261 §17.2.3): branch, sent-by and method (ACK counts as INVITE), or the RFC 2543 fallback.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServerKey(Box<[u8]>);

impl ServerKey {
    /// Of a request that passed `Message::check`.
    pub fn of(request: &Message) -> ServerKey {
        match request.method() {
            method if *method == Method::ACK => ServerKey::with(request, &Method::INVITE),
            method => ServerKey::with(request, method),
        }
    }

    /// The INVITE that this CANCEL is for (RFC 3261 §9.2).
    pub fn cancelled(cancel: &Message) -> ServerKey {
        ServerKey::with(cancel, &Method::INVITE)
    }

    fn with(request: &Message, method: &Method) -> ServerKey {
        let via = request.via().ok();
        let key = match via.as_ref().and_then(unique_branch) {
            Some((via, branch)) => Key::new(1).part(branch).sent_by(via).part(method.as_bytes()),
            None => ServerKey::rfc_2543(request, method),
        };
        ServerKey(key.done())
    }

    /// The To tag is left out, although §17.2.3 compares it: the INVITE has none, its ACK has the one of our response, and both must find
    /// the same transaction. Nothing is lost, as two requests that differ in the To tag alone cannot share From tag, Call-ID and CSeq.
    fn rfc_2543(request: &Message, method: &Method) -> Key {
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        Key::new(2)
            .part(request.uri())
            .part(request.from_tag().unwrap_or_default().as_bytes())
            .part(request.call_id().unwrap_or_default().as_bytes())
            .part(&number.to_be_bytes())
            .part(request.elements(Name::Via).next().unwrap_or_default())
            .part(method.as_bytes())
    }
}

/// A branch that names its transaction: the magic cookie and something behind it.
fn unique_branch<'a, 'v>(via: &'v Via<'a>) -> Option<(&'v Via<'a>, &'a [u8])> {
    let branch = via.branch()?;
    let (cookie, rest) = branch.split_at_checked(MAGIC_COOKIE.len())?;
    (cookie.eq_ignore_ascii_case(MAGIC_COOKIE) && !rest.is_empty()).then_some((via, branch))
}

/// What makes two requests the same one that came over two paths (RFC 3261 §8.2.2.2): From tag, Call-ID, CSeq.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MergeKey(Box<[u8]>);

impl MergeKey {
    /// `None` when the request has a To tag: the rule is for requests outside a dialog.
    pub fn of(request: &Message) -> Option<MergeKey> {
        if request.to_tag().is_some() {
            return None;
        }
        let cseq = request.cseq().ok()?;
        let key = Key::new(3)
            .part(request.from_tag().unwrap_or_default().as_bytes())
            .part(request.call_id().ok()?.as_bytes())
            .part(&cseq.number.to_be_bytes())
            .part(cseq.method);
        Some(MergeKey(key.done()))
    }
}

/// Parts with their lengths before them: no two lists of parts print alike, whatever a peer writes into them.
struct Key(Vec<u8>);

impl Key {
    fn new(kind: u8) -> Key {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(kind);
        Key(bytes)
    }

    fn part(mut self, part: &[u8]) -> Key {
        self.0.extend_from_slice(&part.len().to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// Host without case and port with its default (RFC 3261 §18.2.1, §19.1.4). An address is kept as such: `::1` has many spellings.
    fn sent_by(self, via: &Via<'_>) -> Key {
        let default = if via.transport.eq_ignore_ascii_case(b"TLS") { 5061 } else { 5060 };
        let port = via.port.unwrap_or(default).to_be_bytes();
        match via.host {
            Host::Name(name) => {
                let mut key = self.part(name.as_bytes());
                let start = key.0.len() - name.len();
                key.0[start..].make_ascii_lowercase();
                key.part(b"name").part(&port)
            }
            Host::Ip(IpAddr::V4(ip)) => self.part(&ip.octets()).part(b"ip").part(&port),
            Host::Ip(IpAddr::V6(ip)) => self.part(&ip.octets()).part(b"ip").part(&port),
        }
    }

    fn done(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }
}

/// The ACK to a non-2xx final response (RFC 3261 §17.1.1.3), made from the INVITE as it was sent. Empty when `invite` is no message.
pub fn ack_for(invite: &Bytes, response: &Message) -> Bytes {
    follow_up(invite, Method::ACK, Some(response))
}

/// The CANCEL for an INVITE as it was sent (RFC 3261 §9.1): same Request-URI, Call-ID, To, From, CSeq number, Route and top Via. Empty
/// when `invite` is no message.
pub fn cancel_for(invite: &Bytes) -> Bytes {
    follow_up(invite, Method::CANCEL, None)
}

/// A request of the same hop as `invite`. `answer`: the response whose To (and tag) it carries, else the INVITE's.
fn follow_up(invite: &Bytes, method: Method, answer: Option<&Message>) -> Bytes {
    let Ok(invite) = Message::parse(invite.clone()) else {
        return Bytes::new();
    };
    let via = invite.elements(Name::Via).next().unwrap_or_default();
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    let to = answer.and_then(|response| line(response, Name::To)).or_else(|| line(&invite, Name::To));
    let mut draft = Draft::request(method.clone(), invite.uri());
    draft.put("Via", via).keep_all(&invite, Name::Route).put("Max-Forwards", "70");
    for kept in [line(&invite, Name::From), to, line(&invite, Name::CallId)].into_iter().flatten() {
        draft.keep(kept);
    }
    draft.put("CSeq", format!("{number} {method}"));
    draft.print(None)
}

fn line(message: &Message, name: Name) -> Option<Line<'_>> {
    message.lines().find(|line| line.name == name)
}
