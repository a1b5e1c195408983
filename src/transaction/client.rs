//! Client transactions: INVITE (RFC 3261 §17.1.1 with RFC 6026 §7.2) and non-INVITE (§17.1.2).

use std::time::Duration;

use bytes::Bytes;

use crate::time::Time;
use crate::transaction::Resend;
use crate::transaction::Running;
use crate::transaction::Timer;
use crate::transaction::Timers;
use crate::transaction::ack_for;
use crate::wire::message::Message;

/// What a client transaction wants. Each response that comes in makes exactly one `Response` or `Absorbed`, beside any `Send`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    Send(Bytes),
    /// The response just received goes up. In Accepted every 2xx does (RFC 6026 §7.2): the user tells retransmissions from forks.
    Response,
    /// A retransmission of a response that was already passed up; dealt with here.
    Absorbed,
    /// Timer B or F: no final answer (for the user: 408).
    Expired(Timer),
    Terminated,
}

/// One request of ours.
#[derive(Debug)]
pub struct Client {
    request: Bytes,
    reliable: bool,
    timers: Timers,
    machine: Machine,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Machine {
    Invite(Invite),
    NonInvite(NonInvite),
}

/// RFC 3261 figure 5, with RFC 6026 figure 3.
///
/// ```text
///                 │ INVITE from the user: Send
///                 ▼
///   A: Send ┌─► Calling ──────────────┬──────────────────┬───────────────┐
///           └──── │ 1xx: Response     │ 2xx: Response    │ 300-699:      │ B: Expired, transport error
///                 ▼                   │                  │ Response,     │
/// 1xx:      ┌─► Proceeding ───────────┤                  │ Send ACK      │
/// Response  └──── │ 300-699: Response, Send ACK          │               │
///                 │                   │ 2xx: Response    │               │
///                 ▼                   ▼                  │               │
/// 300-699:  ┌─► Completed ◄───────────┼──────────────────┘               │
/// Send ACK  └──── │ D,                │                                  │
///                 │ transport error   ▼                                  │
///                 │                 Accepted ◄─┐ 2xx: Response           │
///                 │                   │ M  ────┘                         │
///                 ▼                   ▼                                  │
///               Terminated ◄──────────┴──────────────────────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Invite {
    Calling { a: Option<Resend>, b: Time },
    Proceeding,
    Completed { d: Time },
    Accepted { m: Time },
    Terminated,
}

/// RFC 3261 figure 6.
///
/// ```text
///                 │ request from the user: Send
///                 ▼
///   E: Send ┌─► Trying ─────────────┬─────────────────────┐
///           └──── │ 1xx: Response   │ 200-699: Response   │ F: Expired, transport error
///                 ▼                 │                     │
///   E: Send ┌─► Proceeding ─────────┼─────────────────────┤
/// 1xx:      └──── │ 200-699:        │                     │
/// Response        │ Response        │                     │
///                 ▼                 │                     │
///               Completed ◄─────────┘                     │
///                 │ K                                     │
///                 ▼                                       │
///               Terminated ◄──────────────────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NonInvite {
    Trying { e: Option<Resend>, f: Time },
    Proceeding { e: Option<Resend>, f: Time },
    Completed { k: Time },
    Terminated,
}

#[derive(Clone, Copy)]
enum Event<'a> {
    /// 100-199
    Provisional,
    /// 200-299
    Success(Time),
    /// 300-699
    Failure(&'a Message, Time),
    Fires(Timer, Time),
    TransportError,
}

/// "At least 32 seconds" (RFC 3261 §17.1.1.2): the server's timer H with the default T1, as its true T1 is not known here.
const TIMER_D_MIN: Duration = Duration::from_secs(32);

impl Client {
    /// Starts in Calling; pushes the first `Send`.
    pub fn invite(request: Bytes, reliable: bool, timers: Timers, now: Time, out: &mut Vec<Out>) -> Client {
        out.push(Out::Send(request.clone()));
        let calling = Invite::Calling { a: Resend::start(timers.t1, reliable, now), b: now + timers.sixty_four_t1() };
        Client { request, reliable, timers, machine: Machine::Invite(calling) }
    }

    /// Starts in Trying; pushes the first `Send`.
    pub fn non_invite(request: Bytes, reliable: bool, timers: Timers, now: Time, out: &mut Vec<Out>) -> Client {
        out.push(Out::Send(request.clone()));
        let trying = NonInvite::Trying { e: Resend::start(timers.t1, reliable, now), f: now + timers.sixty_four_t1() };
        Client { request, reliable, timers, machine: Machine::NonInvite(trying) }
    }

    /// A response with the branch and CSeq method of the request (RFC 3261 §17.1.3).
    pub fn on_response(&mut self, response: &Message, now: Time, out: &mut Vec<Out>) {
        match response.status() {
            100..=199 => self.on(Event::Provisional, out),
            200..=299 => self.on(Event::Success(now), out),
            300..=699 => self.on(Event::Failure(response, now), out),
            _ if self.is_terminated() => {}
            _ => out.push(Out::Absorbed),
        }
    }

    /// Fires what is due at `now`; nothing when nothing is.
    pub fn on_timeout(&mut self, now: Time, out: &mut Vec<Out>) {
        if let Some(timer) = self.running().due(now) {
            self.on(Event::Fires(timer, now), out);
        }
    }

    /// The transport says that the request (or the ACK) cannot go out (RFC 3261 §17.1.4): straight to Terminated, without `Expired`. In
    /// states that send nothing more (Accepted; Completed of a non-INVITE) it changes nothing, and their timer ends them.
    pub fn on_transport_error(&mut self, out: &mut Vec<Out>) {
        self.on(Event::TransportError, out);
    }

    /// The earliest timer. `None` in Terminated, and in Proceeding of an INVITE: the ringing time is the user's.
    pub fn deadline(&self) -> Option<(Time, Timer)> {
        self.running().first()
    }

    /// The request as it was sent, for `cancel_for`.
    pub fn request(&self) -> &Bytes {
        &self.request
    }

    /// A provisional response has come and no final one: a CANCEL may go (RFC 3261 §9.1).
    pub fn is_proceeding(&self) -> bool {
        matches!(self.machine, Machine::Invite(Invite::Proceeding) | Machine::NonInvite(NonInvite::Proceeding { .. }))
    }

    /// Still without a final response.
    pub fn is_pending(&self) -> bool {
        match self.machine {
            Machine::Invite(state) => matches!(state, Invite::Calling { .. } | Invite::Proceeding),
            Machine::NonInvite(state) => matches!(state, NonInvite::Trying { .. } | NonInvite::Proceeding { .. }),
        }
    }

    /// Over: `Terminated` was pushed.
    pub fn is_terminated(&self) -> bool {
        matches!(self.machine, Machine::Invite(Invite::Terminated) | Machine::NonInvite(NonInvite::Terminated))
    }

    fn running(&self) -> Running {
        match self.machine {
            Machine::Invite(state) => match state {
                Invite::Calling { a, b } => Running::of(a, Timer::A, b, Timer::B),
                Invite::Completed { d } => Running::end(d, Timer::D),
                Invite::Accepted { m } => Running::end(m, Timer::M),
                Invite::Proceeding | Invite::Terminated => Running::default(),
            },
            Machine::NonInvite(state) => match state {
                NonInvite::Trying { e, f } | NonInvite::Proceeding { e, f } => Running::of(e, Timer::E, f, Timer::F),
                NonInvite::Completed { k } => Running::end(k, Timer::K),
                NonInvite::Terminated => Running::default(),
            },
        }
    }

    fn on(&mut self, event: Event<'_>, out: &mut Vec<Out>) {
        self.machine = match self.machine {
            Machine::Invite(state) => Machine::Invite(self.on_invite(state, event, out)),
            Machine::NonInvite(state) => Machine::NonInvite(self.on_non_invite(state, event, out)),
        };
    }

    fn on_invite(&self, state: Invite, event: Event<'_>, out: &mut Vec<Out>) -> Invite {
        match (state, event) {
            // §17.1.1.2: "When timer A fires, the client transaction MUST retransmit the request […] and MUST reset the timer with a
            // value of 2*T1."
            (Invite::Calling { a: Some(a), b }, Event::Fires(Timer::A, now)) => {
                out.push(Out::Send(self.request.clone()));
                Invite::Calling { a: Some(Resend::after(a.doubled(), now)), b }
            }
            // §17.1.1.2: still in Calling when timer B fires.
            (Invite::Calling { .. }, Event::Fires(Timer::B, _)) => {
                out.extend([Out::Expired(Timer::B), Out::Terminated]);
                Invite::Terminated
            }
            // §17.1.1.2: retransmissions stop, and the response goes up; so does each further one.
            (Invite::Calling { .. } | Invite::Proceeding, Event::Provisional) => {
                out.push(Out::Response);
                Invite::Proceeding
            }
            // RFC 6026 §8.4: timer M is 64*T1 over every transport.
            (Invite::Calling { .. } | Invite::Proceeding, Event::Success(now)) => {
                out.push(Out::Response);
                Invite::Accepted { m: now + self.timers.sixty_four_t1() }
            }
            // §17.1.1.2: pass it up and acknowledge it; timer D is zero over a reliable transport.
            (Invite::Calling { .. } | Invite::Proceeding, Event::Failure(response, now)) => {
                self.acknowledge(response, out);
                out.push(Out::Response);
                if self.reliable {
                    out.push(Out::Terminated);
                    return Invite::Terminated;
                }
                Invite::Completed { d: now + self.timers.sixty_four_t1().max(TIMER_D_MIN) }
            }
            // §17.1.1.2: each retransmission of the final response is acknowledged, and none goes up.
            (Invite::Completed { .. }, Event::Failure(response, _)) => {
                self.acknowledge(response, out);
                out.push(Out::Absorbed);
                state
            }
            // RFC 6026 §8.4: every 2xx goes up, without an ACK of ours.
            (Invite::Accepted { .. }, Event::Success(_)) => {
                out.push(Out::Response);
                state
            }
            // §17.1.1.2 (D); RFC 6026 §8.4 (M)
            (Invite::Completed { .. }, Event::Fires(Timer::D, _)) | (Invite::Accepted { .. }, Event::Fires(Timer::M, _)) => {
                out.push(Out::Terminated);
                Invite::Terminated
            }
            // §17.1.4
            (Invite::Calling { .. } | Invite::Proceeding | Invite::Completed { .. }, Event::TransportError) => {
                out.push(Out::Terminated);
                Invite::Terminated
            }
            (Invite::Terminated, _) => Invite::Terminated,
            // A late provisional, or a final response of another class than the first: the outcome stands.
            (_, Event::Provisional | Event::Success(_) | Event::Failure(..)) => {
                out.push(Out::Absorbed);
                state
            }
            (_, Event::Fires(..) | Event::TransportError) => state,
        }
    }

    fn on_non_invite(&self, state: NonInvite, event: Event<'_>, out: &mut Vec<Out>) -> NonInvite {
        match (state, event) {
            // §17.1.2.2: "When the timer fires again, it is reset to a MIN(4*T1, T2)", and so on.
            (NonInvite::Trying { e: Some(e), f }, Event::Fires(Timer::E, now)) => {
                out.push(Out::Send(self.request.clone()));
                NonInvite::Trying { e: Some(Resend::after(e.doubled().min(self.timers.t2), now)), f }
            }
            // §17.1.2.2: in Proceeding "Timer E MUST be reset with a value of T2 seconds."
            (NonInvite::Proceeding { e: Some(_), f }, Event::Fires(Timer::E, now)) => {
                out.push(Out::Send(self.request.clone()));
                NonInvite::Proceeding { e: Some(Resend::after(self.timers.t2, now)), f }
            }
            // §17.1.2.2: timer F runs through both states.
            (NonInvite::Trying { .. } | NonInvite::Proceeding { .. }, Event::Fires(Timer::F, _)) => {
                out.extend([Out::Expired(Timer::F), Out::Terminated]);
                NonInvite::Terminated
            }
            // §17.1.2.2: the response goes up; E and F run on.
            (NonInvite::Trying { e, f } | NonInvite::Proceeding { e, f }, Event::Provisional) => {
                out.push(Out::Response);
                NonInvite::Proceeding { e, f }
            }
            // §17.1.2.2: timer K is T4, zero over a reliable transport.
            (NonInvite::Trying { .. } | NonInvite::Proceeding { .. }, Event::Success(now) | Event::Failure(_, now)) => {
                out.push(Out::Response);
                if self.reliable {
                    out.push(Out::Terminated);
                    return NonInvite::Terminated;
                }
                NonInvite::Completed { k: now + self.timers.t4 }
            }
            // §17.1.2.2
            (NonInvite::Completed { .. }, Event::Fires(Timer::K, _)) => {
                out.push(Out::Terminated);
                NonInvite::Terminated
            }
            // §17.1.4
            (NonInvite::Trying { .. } | NonInvite::Proceeding { .. }, Event::TransportError) => {
                out.push(Out::Terminated);
                NonInvite::Terminated
            }
            (NonInvite::Terminated, _) => NonInvite::Terminated,
            // §17.1.2.2: Completed is there to buffer retransmissions of the response.
            (_, Event::Provisional | Event::Success(_) | Event::Failure(..)) => {
                out.push(Out::Absorbed);
                state
            }
            (_, Event::Fires(..) | Event::TransportError) => state,
        }
    }

    /// Made anew for each response: the To tag must be the one of the response that is acknowledged (§17.1.1.3).
    fn acknowledge(&self, response: &Message, out: &mut Vec<Out>) {
        let ack = ack_for(&self.request, response);
        if !ack.is_empty() {
            out.push(Out::Send(ack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::testing::Dice;
    use crate::transaction::testing::INVITE;
    use crate::transaction::testing::head;
    use crate::transaction::testing::ms;
    use crate::transaction::testing::request;
    use crate::transaction::testing::response;

    const RELIABLE: bool = true;
    const UNRELIABLE: bool = false;

    /// A client transaction in virtual time; every output is in `log` until it is claimed.
    struct Lab {
        client: Client,
        now: u64,
        log: Vec<(u64, String)>,
    }

    impl Lab {
        fn invite(reliable: bool) -> Lab {
            let mut out = Vec::new();
            let client = Client::invite(Bytes::from_static(INVITE.as_bytes()), reliable, Timers::default(), ms(0), &mut out);
            Lab { client, now: 0, log: Vec::new() }.noting(out)
        }

        fn non_invite(reliable: bool) -> Lab {
            let mut out = Vec::new();
            let options = Bytes::from(INVITE.replace("INVITE", "OPTIONS"));
            let client = Client::non_invite(options, reliable, Timers::default(), ms(0), &mut out);
            Lab { client, now: 0, log: Vec::new() }.noting(out)
        }

        fn noting(mut self, out: Vec<Out>) -> Lab {
            self.note(out);
            self
        }

        fn note(&mut self, out: Vec<Out>) {
            self.log.extend(out.into_iter().map(|o| match o {
                Out::Send(bytes) => (self.now, head(&bytes)),
                other => (self.now, format!("{other:?}")),
            }));
        }

        fn gets(&mut self, status: u16) -> &mut Lab {
            let mut out = Vec::new();
            self.client.on_response(&response(status, "t1"), ms(self.now), &mut out);
            self.note(out);
            self
        }

        /// Fires every timer until then at its exact time, and proves that none fires a microsecond early.
        fn until(&mut self, end: u64) -> &mut Lab {
            while let Some((at, _)) = self.client.deadline().filter(|&(at, _)| at <= ms(end)) {
                let mut out = Vec::new();
                self.client.on_timeout(at - Duration::from_micros(1), &mut out);
                assert_eq!(out, [], "early");
                self.now = at.as_micros() / 1_000;
                assert_eq!(ms(self.now), at);
                self.client.on_timeout(at, &mut out);
                assert_ne!(out, [], "a deadline for nothing");
                self.note(out);
            }
            self.now = end;
            self
        }

        #[track_caller]
        fn claims(&mut self, expected: &[(u64, &str)]) -> &mut Lab {
            let got: Vec<_> = self.log.iter().map(|(at, what)| (*at, what.as_str())).collect();
            assert_eq!(got, expected);
            self.log.clear();
            self
        }

        #[track_caller]
        fn has_deadline(&mut self, at: u64, timer: Timer) -> &mut Lab {
            assert_eq!(self.client.deadline(), Some((ms(at), timer)));
            self
        }

        /// Nothing can come any more, whatever happens.
        #[track_caller]
        fn is_over(&mut self) {
            self.claims(&[]);
            assert!(self.client.is_terminated() && !self.client.is_pending() && !self.client.is_proceeding());
            assert_eq!(self.client.deadline(), None);
            for status in [100, 180, 200, 302, 486, 603] {
                self.gets(status);
            }
            let mut out = Vec::new();
            self.client.on_timeout(ms(self.now + 1_000_000), &mut out);
            self.client.on_transport_error(&mut out);
            self.note(out);
            self.claims(&[]);
        }
    }

    #[test]
    fn invite_is_sent_seven_times_and_given_up_after_64_t1() {
        // §17.1.1.2: "When timer A fires 2*T1 seconds later, the request MUST be retransmitted again (assuming the client transaction is
        // still in this state). This process MUST continue so that the request is retransmitted with intervals that double after each
        // transmission." "If the client transaction is still in the "Calling" state when timer B fires, the client transaction SHOULD
        // inform the TU that a timeout has occurred."
        let mut l = Lab::invite(UNRELIABLE);
        l.has_deadline(500, Timer::A);
        l.until(15_499).has_deadline(15_500, Timer::A).until(31_500).has_deadline(32_000, Timer::B).until(100_000).claims(&[
            (0, "INVITE"),
            (500, "INVITE"),
            (1_500, "INVITE"),
            (3_500, "INVITE"),
            (7_500, "INVITE"),
            (15_500, "INVITE"),
            (31_500, "INVITE"),
            (32_000, "Expired(B)"),
            (32_000, "Terminated"),
        ]);
        l.is_over();
    }

    #[test]
    fn invite_over_tcp_is_sent_once() {
        // §17.1.1.2: "If a reliable transport is being used, the client transaction SHOULD NOT start timer A". "For any transport, the
        // client transaction MUST start timer B with a value of 64*T1 seconds".
        let mut l = Lab::invite(RELIABLE);
        l.has_deadline(32_000, Timer::B).until(32_000);
        l.claims(&[(0, "INVITE"), (32_000, "Expired(B)"), (32_000, "Terminated")]).is_over();
    }

    #[test]
    fn a_provisional_stops_retransmissions_and_timer_b() {
        // §17.1.1.2: "If the client transaction receives a provisional response while in the "Calling" state, it transitions to the
        // "Proceeding" state. In the "Proceeding" state, the client transaction SHOULD NOT retransmit the request any longer. Furthermore,
        // the provisional response MUST be passed to the TU. Any further provisional responses MUST be passed up to the TU while in the
        // "Proceeding" state."
        let mut l = Lab::invite(UNRELIABLE);
        assert!(l.client.is_pending() && !l.client.is_proceeding());
        l.until(600).gets(100).until(1_000).gets(180).gets(180);
        assert_eq!(l.client.deadline(), None);
        assert!(l.client.is_proceeding() && l.client.is_pending());
        l.until(1_000_000);
        l.claims(&[(0, "INVITE"), (500, "INVITE"), (600, "Response"), (1_000, "Response"), (1_000, "Response")]);
    }

    #[test]
    fn a_refusal_is_acknowledged_and_so_is_each_repetition_of_it() {
        // §17.1.1.2: "reception of a response with status code from 300-699 MUST cause the client transaction to transition to "Completed".
        // The client transaction MUST pass the received response up to the TU, and the client transaction MUST generate an ACK request".
        // "Any retransmissions of the final response that are received while in the "Completed" state MUST cause the ACK to be re-passed to
        // the transport layer for retransmission, but the newly received response MUST NOT be passed up to the TU."
        // "timer D […] with a value of at least 32 seconds for unreliable transports".
        for before in [None, Some(180)] {
            let mut l = Lab::invite(UNRELIABLE);
            if let Some(status) = before {
                l.gets(status);
            }
            l.log.clear();
            l.until(100).gets(486).claims(&[(100, "ACK"), (100, "Response")]).has_deadline(32_100, Timer::D);
            assert!(!l.client.is_pending() && !l.client.is_proceeding());
            l.until(600).gets(486).until(32_099).gets(486);
            l.claims(&[(600, "ACK"), (600, "Absorbed"), (32_099, "ACK"), (32_099, "Absorbed")]);
            l.until(32_100).claims(&[(32_100, "Terminated")]).is_over();
        }
    }

    #[test]
    fn the_acks_carry_the_to_tag_of_the_response_they_acknowledge() {
        // §17.1.1.3: "The To header field in the ACK MUST equal the To header field in the response being acknowledged".
        let mut l = Lab::invite(UNRELIABLE);
        for tag in ["t1", "t2", "t1"] {
            let mut out = Vec::new();
            l.client.on_response(&response(486, tag), ms(0), &mut out);
            let Some(Out::Send(ack)) = out.first() else { panic!("{out:?}") };
            let ack = Message::parse(ack.clone()).unwrap();
            assert_eq!(ack.to_tag(), Some(tag));
        }
    }

    #[test]
    fn a_refusal_over_tcp_ends_the_transaction_at_once() {
        // §17.1.1.2: "timer D […] a value of zero seconds for reliable transports."
        for status in [300, 404, 503, 603, 699] {
            let mut l = Lab::invite(RELIABLE);
            l.until(100).gets(status);
            l.claims(&[(0, "INVITE"), (100, "ACK"), (100, "Response"), (100, "Terminated")]).is_over();
        }
    }

    #[test]
    fn a_2xx_leads_to_accepted_where_every_2xx_goes_up_until_timer_m() {
        // RFC 6026 §8.4: "Any 2xx responses that match this client transaction and that are received while in the "Accepted" state MUST be
        // passed up to the TU. The client transaction MUST NOT generate an ACK to the 2xx response."
        for reliable in [UNRELIABLE, RELIABLE] {
            for before in [None, Some(180)] {
                let mut l = Lab::invite(reliable);
                if let Some(status) = before {
                    l.gets(status);
                }
                l.log.clear();
                l.until(100).gets(200).has_deadline(32_100, Timer::M).until(600).gets(200).until(32_099).gets(200);
                assert!(!l.client.is_pending());
                l.claims(&[(100, "Response"), (600, "Response"), (32_099, "Response")]);
                l.until(32_100).claims(&[(32_100, "Terminated")]).is_over();
            }
        }
    }

    #[test]
    fn late_and_contradicting_responses_change_nothing() {
        let mut l = Lab::invite(UNRELIABLE);
        l.gets(200).log.clear();
        l.gets(180).gets(486).claims(&[(0, "Absorbed"), (0, "Absorbed")]).has_deadline(32_000, Timer::M);
        let mut l = Lab::invite(UNRELIABLE);
        l.gets(486).log.clear();
        l.gets(180).gets(200).claims(&[(0, "Absorbed"), (0, "Absorbed")]).has_deadline(32_000, Timer::D);
        let mut l = Lab::invite(UNRELIABLE);
        let mut out = Vec::new();
        l.client.on_response(&request("INVITE"), ms(0), &mut out);
        assert_eq!(out, [Out::Absorbed], "what has no status is no response");
        l.has_deadline(500, Timer::A);
    }

    #[test]
    fn a_transport_error_ends_an_invite_that_still_has_to_send() {
        // §17.1.4: "The client transaction SHOULD inform the TU that a transport failure has occurred, and the client transaction SHOULD
        // transition directly to the "Terminated" state."
        for status in [None, Some(180), Some(486)] {
            let mut l = Lab::invite(UNRELIABLE);
            if let Some(status) = status {
                l.gets(status);
            }
            l.log.clear();
            let mut out = Vec::new();
            l.client.on_transport_error(&mut out);
            assert_eq!(out, [Out::Terminated]);
            l.is_over();
        }
        let mut l = Lab::invite(UNRELIABLE);
        l.gets(200);
        let mut out = Vec::new();
        l.client.on_transport_error(&mut out);
        assert_eq!(out, [], "Accepted sends nothing");
        l.has_deadline(32_000, Timer::M);
    }

    #[test]
    fn a_non_invite_is_retransmitted_at_doubling_intervals_up_to_t2() {
        // §17.1.2.2: "If an unreliable transport is in use, the client transaction MUST set timer E to fire in T1 seconds. If timer E fires
        // while still in this state, the timer is reset, but this time with a value of MIN(2*T1, T2). When the timer fires again, it is
        // reset to a MIN(4*T1, T2). This process continues so that retransmissions occur with an exponentially increasing interval that
        // caps at T2."
        let mut l = Lab::non_invite(UNRELIABLE);
        let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected: Vec<_> = sent.iter().map(|&at| (at, "OPTIONS")).collect();
        expected.extend([(32_000, "Expired(F)"), (32_000, "Terminated")]);
        l.until(31_500).has_deadline(32_000, Timer::F).until(100_000).claims(&expected).is_over();
    }

    #[test]
    fn in_proceeding_a_non_invite_is_retransmitted_every_t2() {
        // §17.1.2.2: "If Timer E fires while in the "Proceeding" state, the request MUST be passed to the transport layer for
        // retransmission, and Timer E MUST be reset with a value of T2 seconds. If timer F fires while in the "Proceeding" state, the TU
        // MUST be informed of a timeout".
        let mut l = Lab::non_invite(UNRELIABLE);
        l.until(600).gets(100).has_deadline(1_500, Timer::E).until(2_000).gets(100);
        assert!(l.client.is_proceeding() && l.client.is_pending());
        l.claims(&[(0, "OPTIONS"), (500, "OPTIONS"), (600, "Response"), (1_500, "OPTIONS"), (2_000, "Response")]);
        let mut expected: Vec<_> = [5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500].iter().map(|&at| (at, "OPTIONS")).collect();
        expected.extend([(32_000, "Expired(F)"), (32_000, "Terminated")]);
        l.until(100_000).claims(&expected).is_over();
    }

    #[test]
    fn a_non_invite_over_tcp_is_sent_once_and_ends_with_its_answer() {
        let mut l = Lab::non_invite(RELIABLE);
        l.has_deadline(32_000, Timer::F).gets(100).has_deadline(32_000, Timer::F).until(32_000);
        l.claims(&[(0, "OPTIONS"), (0, "Response"), (32_000, "Expired(F)"), (32_000, "Terminated")]).is_over();
        // §17.1.2.2: "Timer K […] zero seconds for reliable transports."
        for status in [200, 302, 481, 503, 603] {
            let mut l = Lab::non_invite(RELIABLE);
            l.until(10).gets(status).claims(&[(0, "OPTIONS"), (10, "Response"), (10, "Terminated")]).is_over();
        }
    }

    #[test]
    fn a_final_answer_to_a_non_invite_goes_up_once_and_its_repetitions_are_buffered_for_t4() {
        // §17.1.2.2: "Once the client transaction enters the "Completed" state, it MUST set Timer K to fire in T4 seconds for unreliable
        // transports […]. The "Completed" state exists to buffer any additional response retransmissions that may be received".
        for before in [None, Some(100)] {
            for status in [200, 481] {
                let mut l = Lab::non_invite(UNRELIABLE);
                if let Some(status) = before {
                    l.gets(status);
                }
                l.log.clear();
                l.until(10).gets(status).has_deadline(5_010, Timer::K).until(5_009).gets(status).gets(100);
                l.claims(&[(10, "Response"), (5_009, "Absorbed"), (5_009, "Absorbed")]);
                l.until(5_010).claims(&[(5_010, "Terminated")]).is_over();
            }
        }
    }

    #[test]
    fn a_transport_error_ends_a_non_invite_without_an_answer() {
        for status in [None, Some(100)] {
            let mut l = Lab::non_invite(UNRELIABLE);
            if let Some(status) = status {
                l.gets(status);
            }
            l.log.clear();
            let mut out = Vec::new();
            l.client.on_transport_error(&mut out);
            assert_eq!(out, [Out::Terminated]);
            l.is_over();
        }
        let mut l = Lab::non_invite(UNRELIABLE);
        l.gets(200);
        let mut out = Vec::new();
        l.client.on_transport_error(&mut out);
        assert_eq!(out, []);
        l.has_deadline(5_000, Timer::K);
    }

    #[test]
    fn a_late_wake_up_sends_one_retransmission_and_counts_from_there() {
        let mut l = Lab::invite(UNRELIABLE);
        let mut out = Vec::new();
        l.client.on_timeout(ms(10_000), &mut out);
        assert_eq!(out.len(), 1);
        l.has_deadline(11_000, Timer::A);
        out.clear();
        l.client.on_timeout(ms(40_000), &mut out);
        assert_eq!(out, [Out::Expired(Timer::B), Out::Terminated], "no INVITE that nobody waits for");
    }

    #[test]
    fn the_configured_t1_scales_every_timer_but_d_is_never_below_32_seconds() {
        let timers = Timers { t1: Duration::from_millis(100), ..Timers::default() };
        let mut out = Vec::new();
        let mut client = Client::invite(Bytes::from_static(INVITE.as_bytes()), UNRELIABLE, timers, ms(0), &mut out);
        assert_eq!(client.deadline(), Some((ms(100), Timer::A)));
        client.on_response(&response(486, "t"), ms(0), &mut out);
        assert_eq!(client.deadline(), Some((ms(32_000), Timer::D)));
        let timers = Timers { t1: Duration::from_secs(1), ..Timers::default() };
        let mut client = Client::invite(Bytes::from_static(INVITE.as_bytes()), UNRELIABLE, timers, ms(0), &mut out);
        client.on_response(&response(486, "t"), ms(0), &mut out);
        assert_eq!(client.deadline(), Some((ms(64_000), Timer::D)));
    }

    #[test]
    fn timers_without_end_do_not_overflow() {
        let timers = Timers { t1: Duration::MAX, t2: Duration::MAX, t4: Duration::MAX };
        let mut out = Vec::new();
        let mut client = Client::invite(Bytes::from_static(INVITE.as_bytes()), UNRELIABLE, timers, ms(0), &mut out);
        client.on_timeout(Time::from_micros(u64::MAX), &mut out);
        assert!(client.is_terminated());
    }

    #[test]
    fn a_random_walk_never_panics_and_always_ends_once() {
        let answers: Vec<_> = [100, 180, 183, 200, 202, 302, 401, 486, 503, 603, 699].map(|status| response(status, "t")).into();
        for seed in 1..=2_000 {
            let mut dice = Dice::new(seed);
            let reliable = dice.below(2) == 0;
            let mut l = if dice.below(2) == 0 { Lab::invite(reliable) } else { Lab::non_invite(reliable) };
            let mut out = Vec::new();
            let (mut now, mut ended, mut expired, mut answered) = (0, 0, 0, false);
            for _ in 0..dice.below(40) {
                now += dice.below(9_000);
                match dice.below(20) {
                    0 => l.client.on_transport_error(&mut out),
                    1..10 => l.client.on_timeout(ms(now), &mut out),
                    _ => {
                        let answer = &answers[usize::try_from(dice.below(answers.len() as u64)).unwrap()];
                        answered |= l.client.is_pending() && (200..=699).contains(&answer.status());
                        l.client.on_response(answer, ms(now), &mut out);
                    }
                }
                if let Some((at, _)) = l.client.deadline() {
                    now = if dice.below(3) == 0 { now.max(at.as_micros() / 1_000) } else { now };
                }
            }
            if l.client.is_proceeding() && matches!(l.client.machine, Machine::Invite(_)) {
                l.client.on_response(&response(486, "t"), ms(now), &mut out);
                answered = true;
            }
            // No state outlives its last input by more than 64*T1.
            let end = ms(now) + Timers::default().sixty_four_t1();
            while let Some((at, _)) = l.client.deadline() {
                assert!(at <= end, "seed {seed}: {at:?}");
                l.client.on_timeout(at.max(ms(now)), &mut out);
            }
            for o in &out {
                match o {
                    Out::Terminated => ended += 1,
                    Out::Expired(_) => expired += 1,
                    Out::Send(_) | Out::Response | Out::Absorbed => assert_eq!(ended, 0, "seed {seed}: {out:?}"),
                }
            }
            assert_eq!(ended, 1, "seed {seed}");
            assert!(expired == 0 || !answered, "seed {seed}: an answered request does not expire");
            l.log.clear();
            l.is_over();
        }
    }
}
