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
        let key = match via.as_ref().and_then(|via| Some((via, via.unique_branch()?))) {
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

/// Messages and virtual time for the tests of this floor.
#[cfg(test)]
mod testing {
    use super::*;

    pub const INVITE: &str = "INVITE sip:bot@example.com;transport=udp SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKaaa1\r\n\
        Route: <sip:p1.example.com;lr>\r\n\
        Max-Forwards: 69\r\n\
        Route: <sip:p2.example.com;lr>,<sip:p3.example.com;lr>\r\n\
        From: \"A, B\" <sip:a@example.com>;tag=f1\r\n\
        To: <sip:bot@example.com>\r\n\
        Call-ID: c1@192.0.2.1\r\n\
        CSeq: 7 INVITE\r\n\
        Contact: <sip:a@192.0.2.1>\r\n\
        X-Note: hello\r\n\
        Content-Type: text/plain\r\n\
        Content-Length: 3\r\n\
        \r\n\
        abc";

    pub fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    pub fn request(method: &str) -> Message {
        message(&INVITE.replace("INVITE", method))
    }

    pub fn response(status: u16, to_tag: &str) -> Message {
        message(&format!(
            "SIP/2.0 {status} Whatever\r\n\
             Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKaaa1;received=192.0.2.9\r\n\
             f: \"A, B\" <sip:a@example.com>;tag=f1\r\n\
             t: <sip:bot@example.com>;tag={to_tag}\r\n\
             i: c1@192.0.2.1\r\n\
             CSeq: 7 INVITE\r\n\
             l: 0\r\n\r\n"
        ))
    }

    pub fn ms(ms: u64) -> Time {
        Time::from_micros(ms * 1_000)
    }

    /// What a log line of a test says of bytes sent: method or status.
    pub fn head(sent: &Bytes) -> String {
        let text = String::from_utf8_lossy(sent);
        text.trim_start_matches("SIP/2.0 ").split(' ').next().unwrap_or_default().to_owned()
    }

    /// xorshift64: a seed names its walk.
    pub struct Dice(u64);

    impl Dice {
        pub fn new(seed: u64) -> Dice {
            Dice((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        }

        pub fn below(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::INVITE;
    use super::testing::message;
    use super::testing::request;
    use super::testing::response;
    use super::*;

    fn text(bytes: &Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn with_via(method: &str, via: &str) -> Message {
        message(&INVITE.replace("INVITE", method).replace("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKaaa1", via))
    }

    #[test]
    fn the_ack_to_a_refusal_is_made_as_the_clause_says() {
        let invite = Bytes::from_static(INVITE.as_bytes());
        let ack = message(&text(&ack_for(&invite, &response(486, "t9"))));
        // §17.1.1.3: "The ACK request constructed by the client transaction MUST contain values for the Call-ID, From, and Request-URI
        // that are equal to the values of those header fields in the request passed to the transport by the client transaction".
        assert_eq!(ack.uri(), b"sip:bot@example.com;transport=udp");
        assert_eq!(ack.value(Name::From), Some(&b"\"A, B\" <sip:a@example.com>;tag=f1"[..]));
        assert_eq!(ack.value(Name::CallId), Some(&b"c1@192.0.2.1"[..]));
        // "The To header field in the ACK MUST equal the To header field in the response being acknowledged".
        assert_eq!(ack.to_tag(), Some("t9"));
        // "The ACK MUST contain a single Via header field, and this MUST be equal to the top Via header field of the original request."
        assert_eq!(ack.elements(Name::Via).collect::<Vec<_>>(), [&b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKaaa1"[..]]);
        // "The CSeq header field in the ACK MUST contain the same value for the sequence number as was present in the original request,
        // but the method parameter MUST be equal to "ACK"."
        assert_eq!(ack.value(Name::CSeq), Some(&b"7 ACK"[..]));
        // "If the INVITE request whose response is being acknowledged had Route header fields, those header fields MUST appear in the ACK."
        assert_eq!(ack.elements(Name::Route).count(), 3);
        assert_eq!(ack.value(Name::MaxForwards), Some(&b"70"[..]));
        assert_eq!(ack.value(Name::ContentLength), Some(&b"0"[..]));
        assert_eq!(ack.lines().count(), 9, "and nothing else:\n{}", text(ack.raw()));
        assert!(ack.body().is_empty());
        assert_eq!(ack.check(), Ok(()));
    }

    #[test]
    fn the_cancel_names_the_invite_and_only_that() {
        let cancel = message(&text(&cancel_for(&Bytes::from_static(INVITE.as_bytes()))));
        // §9.1: "The Request-URI, Call-ID, To, the numeric part of CSeq, and From header fields in the CANCEL request MUST be identical to
        // those in the request being cancelled, including tags."
        assert_eq!(*cancel.method(), Method::CANCEL);
        assert_eq!(cancel.uri(), b"sip:bot@example.com;transport=udp");
        assert_eq!(cancel.value(Name::To), Some(&b"<sip:bot@example.com>"[..]));
        assert_eq!(cancel.value(Name::From), Some(&b"\"A, B\" <sip:a@example.com>;tag=f1"[..]));
        assert_eq!(cancel.value(Name::CallId), Some(&b"c1@192.0.2.1"[..]));
        assert_eq!(cancel.value(Name::CSeq), Some(&b"7 CANCEL"[..]));
        // "A CANCEL constructed by a client MUST have only a single Via header field value matching the top Via value in the request being
        // cancelled." "If the request being cancelled contains a Route header field, the CANCEL request MUST include that Route […]."
        assert_eq!(cancel.elements(Name::Via).count(), 1);
        assert_eq!(cancel.elements(Name::Route).count(), 3);
        assert_eq!(cancel.lines().count(), 9, "and nothing else:\n{}", text(cancel.raw()));
        assert_eq!(ServerKey::cancelled(&cancel), ServerKey::of(&message(INVITE)));
    }

    #[test]
    fn only_the_top_via_goes_on() {
        let two =
            INVITE.replace("bKaaa1\r\n", "bKaaa1, SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKlow\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKlower\r\n");
        let cancel = message(&text(&cancel_for(&Bytes::from(two))));
        assert_eq!(cancel.elements(Name::Via).collect::<Vec<_>>(), [&b"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKaaa1"[..]]);
    }

    #[test]
    fn what_is_no_message_gets_no_follow_up() {
        assert!(cancel_for(&Bytes::from_static(b"hello")).is_empty());
        assert!(ack_for(&Bytes::new(), &response(486, "t")).is_empty());
    }

    #[test]
    fn the_ack_finds_the_invite_and_other_methods_do_not() {
        // §17.2.3: "the method of the request matches the one that created the transaction, except for ACK, where the method of the request
        // that created the transaction is INVITE."
        let invite = ServerKey::of(&request("INVITE"));
        assert_eq!(ServerKey::of(&request("ACK")), invite);
        assert_ne!(ServerKey::of(&request("CANCEL")), invite);
        assert_ne!(ServerKey::of(&request("BYE")), invite);
        assert_eq!(ServerKey::cancelled(&request("CANCEL")), invite);
    }

    #[test]
    fn branch_and_sent_by_make_the_key() {
        let of = |via: &str| ServerKey::of(&with_via("INVITE", via));
        let key = of("SIP/2.0/UDP Host.example.com:5060;branch=z9hG4bKx");
        assert_eq!(of("SIP/2.0/UDP hOST.Example.com ; rport;branch=z9hG4bKx"), key, "host without case, port with its default");
        assert_eq!(of("SIP/2.0/UDP host.example.com;branch=z9hG4bKx;received=1.2.3.4"), key, "other parameters do not count");
        assert_ne!(of("SIP/2.0/UDP host.example.com:5061;branch=z9hG4bKx"), key);
        assert_ne!(of("SIP/2.0/UDP other.example.com;branch=z9hG4bKx"), key);
        assert_ne!(of("SIP/2.0/UDP host.example.com;branch=z9hG4bKX"), key, "a branch is unique as it is written");
        assert_eq!(of("SIP/2.0/TLS h;branch=z9hG4bKx"), of("SIP/2.0/TLS h:5061;branch=z9hG4bKx"));
        assert_eq!(of("SIP/2.0/UDP [::1];branch=z9hG4bKx"), of("SIP/2.0/UDP [0:0::1]:5060;branch=z9hG4bKx"));
        assert_ne!(of("SIP/2.0/UDP 97.98.99.100;branch=z9hG4bKx"), of("SIP/2.0/UDP abcd;branch=z9hG4bKx"));
    }

    #[test]
    fn with_a_unique_branch_nothing_else_of_the_message_counts() {
        let invite = request("INVITE");
        let other = message(&INVITE.replace("c1@192.0.2.1", "c2").replace("tag=f1", "tag=f2").replace("CSeq: 7", "CSeq: 8"));
        assert_eq!(ServerKey::of(&invite), ServerKey::of(&other));
    }

    #[test]
    fn a_bare_cookie_or_an_old_branch_falls_back_to_rfc_2543() {
        for via in ["SIP/2.0/UDP h;branch=z9hG4bK", "SIP/2.0/UDP h", "SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP h;branch=z9hG4b"] {
            let invite = with_via("INVITE", via);
            let key = ServerKey::of(&invite);
            // §17.2.3: "The ACK request matches a transaction if the Request-URI, From tag, Call-ID, CSeq number (not the method), and top
            // Via header field match those of the INVITE request which created the transaction, and the To tag of the ACK matches the To
            // tag of the response sent by the server transaction."
            let ack = message(&text(with_via("ACK", via).raw()).replace("To: <sip:bot@example.com>", "To: <sip:bot@example.com>;tag=ours"));
            assert_eq!(ServerKey::of(&ack), key, "{via}");
            assert_eq!(ServerKey::cancelled(&with_via("CANCEL", via)), key, "{via}");
            assert_ne!(ServerKey::of(&with_via("CANCEL", via)), key, "{via}");
            let same = text(invite.raw());
            for (old, new) in [("bot@example.com;", "bob@example.com;"), ("tag=f1", "tag=f2"), ("c1@", "c2@"), ("CSeq: 7", "CSeq: 8")] {
                let other = same.replacen(old, new, 1);
                assert_ne!(same, other);
                assert_ne!(ServerKey::of(&message(&other)), key, "{via} {new}");
            }
            assert_ne!(ServerKey::of(&with_via("INVITE", &format!("{via};x=1"))), key, "{via}");
        }
    }

    #[test]
    fn a_merged_request_shares_from_tag_call_id_and_cseq_over_another_path() {
        // §8.2.2.2: "If the request has no tag in the To header field, the UAS core MUST check the request against ongoing transactions. If
        // the From tag, Call-ID, and CSeq exactly match those associated with an ongoing transaction, but the request does not match that
        // transaction […], the UAS core SHOULD generate a 482".
        let (one, two) = (request("INVITE"), with_via("INVITE", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKother"));
        assert_ne!(ServerKey::of(&one), ServerKey::of(&two));
        assert_eq!(MergeKey::of(&one), MergeKey::of(&two));
        assert!(MergeKey::of(&one).is_some());
        assert_ne!(MergeKey::of(&one), MergeKey::of(&request("OPTIONS")));
        assert_ne!(MergeKey::of(&one), MergeKey::of(&message(&INVITE.replace("tag=f1", "tag=f2"))));
        assert_ne!(MergeKey::of(&one), MergeKey::of(&message(&INVITE.replace("c1@", "c2@"))));
        assert_ne!(MergeKey::of(&one), MergeKey::of(&message(&INVITE.replace("CSeq: 7", "CSeq: 8"))));
        let inside = INVITE.replace("To: <sip:bot@example.com>", "To: <sip:bot@example.com>;tag=x");
        assert_eq!(MergeKey::of(&message(&inside)), None);
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        assert_ne!(Key::new(1).part(b"ab").part(b"c").done(), Key::new(1).part(b"a").part(b"bc").done());
        assert_ne!(Key::new(1).part(b"").part(b"a").done(), Key::new(1).part(b"a").part(b"").done());
    }
}
