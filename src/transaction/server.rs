//! Server transactions: INVITE (RFC 3261 §17.2.1 with RFC 6026 §7.1) and non-INVITE (§17.2.2).

use bytes::Bytes;

use crate::time::Time;
use crate::transaction::Resend;
use crate::transaction::Running;
use crate::transaction::Timer;
use crate::transaction::Timers;
use crate::wire::message::Message;
use crate::wire::method::Method;

/// What a server transaction wants. Each request that comes in makes exactly one `Acknowledged`, `Ack` or `Absorbed`, beside any `Send`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    Send(Bytes),
    /// The ACK to a non-2xx arrived.
    Acknowledged,
    /// In Accepted an ACK with this transaction's branch goes up to the user (RFC 6026 §7.1).
    Ack,
    /// Dealt with here: a repetition.
    Absorbed,
    /// Timer H: a non-2xx final response that nobody acknowledged.
    Expired(Timer),
    Terminated,
}

/// One request of a peer.
#[derive(Debug)]
pub struct Server {
    last: Option<Bytes>,
    reliable: bool,
    timers: Timers,
    machine: Machine,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Machine {
    Invite(Invite),
    NonInvite(NonInvite),
}

/// RFC 3261 figure 7, with RFC 6026 figure 2. A transport error changes no state (RFC 6026 §8.8).
///
/// ```text
///                     │ INVITE
///                     ▼
/// INVITE: Send  ┌─► Proceeding ◄──┐ 1xx from the user: Send
/// last response └──── │     │  ───┘
///        300-699      │     │ 2xx from the user: Send
///        from the     │     └──────────────────┐
///        user: Send   ▼                        ▼
/// INVITE, G:    ┌─► Completed ──────┐        Accepted ◄─┐ 2xx from the user: Send
/// Send          └──── │             │          │     ───┤ ACK: Ack
///          ACK:       │             │ H:       │        ┘ INVITE: Absorbed
///          Acknow-    ▼             │ Expired  │ L
///          ledged   Confirmed ◄─┐   │          │
///                     │ I    ───┘   │          │
///                     │ ACK,        │          │
///                     ▼ INVITE:     ▼          │
///                   Terminated ◄────┴──────────┘
///                       Absorbed
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Invite {
    Proceeding,
    Completed { g: Option<Resend>, h: Time },
    Confirmed { i: Time },
    Accepted { l: Time },
    Terminated,
}

/// RFC 3261 figure 8.
///
/// ```text
///                     │ request
///                     ▼
/// request:      ┌─► Trying ───────────────────────────┐
/// Absorbed      └──── │ 1xx from the user: Send       │
///                     ▼                               │ 200-699 from the user: Send
/// request, 1xx  ┌─► Proceeding ──────────┐            │
/// from the      └──── │ 200-699 from     │ transport  │
/// user: Send          │ the user: Send   │ error      │
///                     ▼                  │            │
/// request:      ┌─► Completed ◄──────────┼────────────┘
/// Send          └──── │ J,               │
///                     │ transport error  │
///                     ▼                  │
///                   Terminated ◄─────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NonInvite {
    Trying,
    Proceeding,
    Completed { j: Time },
    Terminated,
}

enum Event {
    /// The request once more.
    Request,
    Ack(Time),
    /// 100-199 of the user.
    Provisional(Bytes),
    /// 200-299 of the user.
    Success(Bytes, Time),
    /// 300-699 of the user.
    Failure(Bytes, Time),
    Fires(Timer, Time),
    TransportError,
}

impl Server {
    /// Starts in Proceeding. The stairwell sends the 100 through `respond`.
    pub fn invite(reliable: bool, timers: Timers, _now: Time) -> Server {
        Server { last: None, reliable, timers, machine: Machine::Invite(Invite::Proceeding) }
    }

    /// Starts in Trying.
    pub fn non_invite(reliable: bool, timers: Timers, _now: Time) -> Server {
        Server { last: None, reliable, timers, machine: Machine::NonInvite(NonInvite::Trying) }
    }

    /// A repetition of the request, or an ACK that matches it.
    pub fn on_request(&mut self, request: &Message, now: Time, out: &mut Vec<Out>) {
        let is_ack = *request.method() == Method::ACK;
        self.on(if is_ack { Event::Ack(now) } else { Event::Request }, out);
    }

    /// A response of the user, printed. A 2xx to INVITE is repeated by the user (RFC 3261 §13.3.1.4, RFC 6026 §7.1): through here too, in
    /// Accepted. A response after a non-2xx final one is dropped.
    pub fn respond(&mut self, status: u16, printed: Bytes, now: Time, out: &mut Vec<Out>) {
        let event = match status {
            0..=199 => Event::Provisional(printed),
            200..=299 => Event::Success(printed, now),
            300.. => Event::Failure(printed, now),
        };
        self.on(event, out);
    }

    /// Fires what is due at `now`; nothing when nothing is.
    pub fn on_timeout(&mut self, now: Time, out: &mut Vec<Out>) {
        if let Some(timer) = self.running().due(now) {
            self.on(Event::Fires(timer, now), out);
        }
    }

    /// The transport says that the response cannot go out. A non-INVITE transaction ends (RFC 3261 §17.2.4); an INVITE one stays in its
    /// state (RFC 6026 §8.8), so that a repetition is not taken for a new INVITE: its timers end it once the user has responded.
    pub fn on_transport_error(&mut self, out: &mut Vec<Out>) {
        self.on(Event::TransportError, out);
    }

    /// The earliest timer. `None` in Terminated, and while the user has not given a final response.
    pub fn deadline(&self) -> Option<(Time, Timer)> {
        self.running().first()
    }

    /// No final response has gone out yet.
    pub fn is_pending(&self) -> bool {
        matches!(
            self.machine,
            Machine::Invite(Invite::Proceeding) | Machine::NonInvite(NonInvite::Trying) | Machine::NonInvite(NonInvite::Proceeding)
        )
    }

    /// Over: `Terminated` was pushed.
    pub fn is_terminated(&self) -> bool {
        matches!(self.machine, Machine::Invite(Invite::Terminated) | Machine::NonInvite(NonInvite::Terminated))
    }

    /// The last response sent.
    pub fn last(&self) -> Option<&Bytes> {
        self.last.as_ref()
    }

    fn running(&self) -> Running {
        match self.machine {
            Machine::Invite(state) => match state {
                Invite::Completed { g, h } => Running::of(g, Timer::G, h, Timer::H),
                Invite::Confirmed { i } => Running::end(i, Timer::I),
                Invite::Accepted { l } => Running::end(l, Timer::L),
                Invite::Proceeding | Invite::Terminated => Running::default(),
            },
            Machine::NonInvite(state) => match state {
                NonInvite::Completed { j } => Running::end(j, Timer::J),
                NonInvite::Trying | NonInvite::Proceeding | NonInvite::Terminated => Running::default(),
            },
        }
    }

    fn on(&mut self, event: Event, out: &mut Vec<Out>) {
        self.machine = match self.machine {
            Machine::Invite(state) => Machine::Invite(self.on_invite(state, event, out)),
            Machine::NonInvite(state) => Machine::NonInvite(self.on_non_invite(state, event, out)),
        };
    }

    fn on_invite(&mut self, state: Invite, event: Event, out: &mut Vec<Out>) -> Invite {
        match (state, event) {
            // §17.2.1: "the most recent provisional response that was received from the TU MUST be passed to the transport layer".
            // In Completed the same holds of the final response.
            (Invite::Proceeding | Invite::Completed { .. }, Event::Request) => {
                self.resend(out);
                out.push(Out::Absorbed);
                state
            }
            (Invite::Proceeding, Event::Provisional(printed)) => {
                self.send(printed, out);
                state
            }
            // RFC 6026 §8.7: timer L is 64*T1 over every transport; the user's 2xx goes out each time.
            (Invite::Proceeding, Event::Success(printed, now)) => {
                self.send(printed, out);
                Invite::Accepted { l: now + self.timers.sixty_four_t1() }
            }
            (Invite::Accepted { .. }, Event::Success(printed, _)) => {
                self.send(printed, out);
                state
            }
            // §17.2.1: timer G over unreliable transports, timer H over all of them.
            (Invite::Proceeding, Event::Failure(printed, now)) => {
                self.send(printed, out);
                Invite::Completed { g: Resend::start(self.timers.t1, self.reliable, now), h: now + self.timers.sixty_four_t1() }
            }
            // §17.2.1: "it is reset to the minimum of 2*T1 and T2", and it doubles until it is T2.
            (Invite::Completed { g: Some(g), h }, Event::Fires(Timer::G, now)) => {
                self.resend(out);
                Invite::Completed { g: Some(Resend::after(g.doubled().min(self.timers.t2), now)), h }
            }
            // §17.2.1: the ACK was never received.
            (Invite::Completed { .. }, Event::Fires(Timer::H, _)) => {
                out.extend([Out::Expired(Timer::H), Out::Terminated]);
                Invite::Terminated
            }
            // §17.2.1: timer I is T4, zero over a reliable transport.
            (Invite::Completed { .. }, Event::Ack(now)) => {
                out.push(Out::Acknowledged);
                if self.reliable {
                    out.push(Out::Terminated);
                    return Invite::Terminated;
                }
                Invite::Confirmed { i: now + self.timers.t4 }
            }
            // RFC 6026 §8.7: an ACK in Accepted goes up.
            (Invite::Accepted { .. }, Event::Ack(_)) => {
                out.push(Out::Ack);
                state
            }
            // §17.2.1 (I); RFC 6026 §8.7 (L)
            (Invite::Confirmed { .. }, Event::Fires(Timer::I, _)) | (Invite::Accepted { .. }, Event::Fires(Timer::L, _)) => {
                out.push(Out::Terminated);
                Invite::Terminated
            }
            (Invite::Terminated, _) => Invite::Terminated,
            // §17.2.1: Confirmed absorbs further ACKs; RFC 6026 §8.7: Accepted absorbs further INVITEs.
            (_, Event::Request | Event::Ack(_)) => {
                out.push(Out::Absorbed);
                state
            }
            // A response after the final one; RFC 6026 §8.8.
            (_, Event::Provisional(_) | Event::Success(..) | Event::Failure(..) | Event::Fires(..) | Event::TransportError) => state,
        }
    }

    fn on_non_invite(&mut self, state: NonInvite, event: Event, out: &mut Vec<Out>) -> NonInvite {
        match (state, event) {
            // §17.2.2: in Trying retransmissions are discarded; later the last response answers them.
            (NonInvite::Proceeding | NonInvite::Completed { .. }, Event::Request) => {
                self.resend(out);
                out.push(Out::Absorbed);
                state
            }
            (NonInvite::Trying | NonInvite::Proceeding, Event::Provisional(printed)) => {
                self.send(printed, out);
                NonInvite::Proceeding
            }
            // §17.2.2: timer J is 64*T1, zero over a reliable transport.
            (NonInvite::Trying | NonInvite::Proceeding, Event::Success(printed, now) | Event::Failure(printed, now)) => {
                self.send(printed, out);
                if self.reliable {
                    out.push(Out::Terminated);
                    return NonInvite::Terminated;
                }
                NonInvite::Completed { j: now + self.timers.sixty_four_t1() }
            }
            // §17.2.2
            (NonInvite::Completed { .. }, Event::Fires(Timer::J, _)) => {
                out.push(Out::Terminated);
                NonInvite::Terminated
            }
            (NonInvite::Terminated, _) => NonInvite::Terminated,
            // §17.2.4
            (_, Event::TransportError) => {
                out.push(Out::Terminated);
                NonInvite::Terminated
            }
            (_, Event::Request | Event::Ack(_)) => {
                out.push(Out::Absorbed);
                state
            }
            // §17.2.2: "Any other final responses passed by the TU to the server transaction MUST be discarded".
            (_, Event::Provisional(_) | Event::Success(..) | Event::Failure(..) | Event::Fires(..)) => state,
        }
    }

    fn send(&mut self, printed: Bytes, out: &mut Vec<Out>) {
        out.push(Out::Send(printed.clone()));
        self.last = Some(printed);
    }

    fn resend(&self, out: &mut Vec<Out>) {
        out.extend(self.last.clone().map(Out::Send));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::transaction::testing::Dice;
    use crate::transaction::testing::head;
    use crate::transaction::testing::ms;
    use crate::transaction::testing::request;

    const RELIABLE: bool = true;
    const UNRELIABLE: bool = false;

    /// A server transaction in virtual time; every output is in `log` until it is claimed.
    struct Lab {
        server: Server,
        method: &'static str,
        now: u64,
        log: Vec<(u64, String)>,
    }

    impl Lab {
        fn invite(reliable: bool) -> Lab {
            Lab { server: Server::invite(reliable, Timers::default(), ms(0)), method: "INVITE", now: 0, log: Vec::new() }
        }

        fn non_invite(reliable: bool) -> Lab {
            Lab { server: Server::non_invite(reliable, Timers::default(), ms(0)), method: "BYE", now: 0, log: Vec::new() }
        }

        fn note(&mut self, out: Vec<Out>) {
            self.log.extend(out.into_iter().map(|o| match o {
                Out::Send(bytes) => (self.now, head(&bytes)),
                other => (self.now, format!("{other:?}")),
            }));
        }

        fn gets(&mut self, method: &str) -> &mut Lab {
            let mut out = Vec::new();
            self.server.on_request(&request(method), ms(self.now), &mut out);
            self.note(out);
            self
        }

        fn repeats(&mut self) -> &mut Lab {
            self.gets(self.method)
        }

        fn responds(&mut self, status: u16) -> &mut Lab {
            let mut out = Vec::new();
            self.server.respond(status, printed(status), ms(self.now), &mut out);
            self.note(out);
            self
        }

        fn transport_fails(&mut self) -> &mut Lab {
            let mut out = Vec::new();
            self.server.on_transport_error(&mut out);
            self.note(out);
            self
        }

        /// Fires every timer until then at its exact time, and proves that none fires a microsecond early.
        fn until(&mut self, end: u64) -> &mut Lab {
            while let Some((at, _)) = self.server.deadline().filter(|&(at, _)| at <= ms(end)) {
                let mut out = Vec::new();
                self.server.on_timeout(at - Duration::from_micros(1), &mut out);
                assert_eq!(out, [], "early");
                self.now = at.as_micros() / 1_000;
                assert_eq!(ms(self.now), at);
                self.server.on_timeout(at, &mut out);
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
            assert_eq!(self.server.deadline(), Some((ms(at), timer)));
            self
        }

        /// Nothing can come any more, whatever happens.
        #[track_caller]
        fn is_over(&mut self) {
            self.claims(&[]);
            assert!(self.server.is_terminated() && !self.server.is_pending());
            assert_eq!(self.server.deadline(), None);
            self.repeats().gets("ACK").responds(180).responds(200).responds(486).transport_fails();
            let mut out = Vec::new();
            self.server.on_timeout(ms(self.now + 1_000_000), &mut out);
            self.note(out);
            self.claims(&[]);
        }
    }

    fn printed(status: u16) -> Bytes {
        Bytes::from(format!("SIP/2.0 {status} Whatever\r\n\r\n"))
    }

    #[test]
    fn a_repeated_invite_gets_the_most_recent_provisional() {
        // §17.2.1: "If a request retransmission is received while in the "Proceeding" state, the most recent provisional response that was
        // received from the TU MUST be passed to the transport layer for retransmission."
        let mut l = Lab::invite(UNRELIABLE);
        assert!(l.server.is_pending() && l.server.last().is_none());
        l.repeats().claims(&[(0, "Absorbed")]);
        l.responds(100).repeats().claims(&[(0, "100"), (0, "100"), (0, "Absorbed")]);
        l.until(300).responds(180).responds(183).until(500).repeats().gets("ACK");
        l.claims(&[(300, "180"), (300, "183"), (500, "183"), (500, "Absorbed"), (500, "Absorbed")]);
        assert_eq!(l.server.last(), Some(&printed(183)));
        assert_eq!(l.server.deadline(), None);
        l.until(1_000_000).claims(&[]);
        assert!(l.server.is_pending());
    }

    #[test]
    fn a_refusal_is_repeated_by_timer_g_until_timer_h() {
        // §17.2.1: "If timer G fires, the response is passed to the transport layer once more for retransmission, and timer G is set to
        // fire in MIN(2*T1, T2) seconds. From then on, when timer G fires, the response is passed to the transport again for transmission,
        // and timer G is reset with a value that doubles, unless that value exceeds T2, in which case it is reset with the value of T2."
        // "If timer H fires while in the "Completed" state, it implies that the ACK was never received. In this case, the server
        // transaction MUST transition to the "Terminated" state, and MUST indicate to the TU that a transaction failure has occurred."
        let mut l = Lab::invite(UNRELIABLE);
        let sent = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected: Vec<_> = sent.iter().map(|&at| (at, "486")).collect();
        expected.extend([(32_000, "Expired(H)"), (32_000, "Terminated")]);
        l.responds(486).has_deadline(500, Timer::G).until(31_500).has_deadline(32_000, Timer::H);
        assert!(!l.server.is_pending());
        l.until(100_000).claims(&expected).is_over();
    }

    #[test]
    fn a_refusal_over_tcp_is_sent_once_and_still_waits_for_its_ack() {
        // §17.2.1: "For unreliable transports, timer G is set to fire in T1 seconds, and is not set to fire for reliable transports."
        // "When the "Completed" state is entered, timer H MUST be set to fire in 64*T1 seconds for all transports."
        let mut l = Lab::invite(RELIABLE);
        l.responds(503).has_deadline(32_000, Timer::H).until(32_000);
        l.claims(&[(0, "503"), (32_000, "Expired(H)"), (32_000, "Terminated")]).is_over();
    }

    #[test]
    fn a_repeated_invite_in_completed_gets_the_refusal_again() {
        // §17.2.1: "while in the "Completed" state, if a request retransmission is received, the server SHOULD pass the response to the
        // transport for retransmission."
        let mut l = Lab::invite(UNRELIABLE);
        l.responds(100).responds(486).until(100).repeats();
        l.claims(&[(0, "100"), (0, "486"), (100, "486"), (100, "Absorbed")]).has_deadline(500, Timer::G);
    }

    #[test]
    fn the_ack_stops_the_refusal_and_confirmed_absorbs_more_of_them_for_t4() {
        // §17.2.1: "If an ACK is received while the server transaction is in the "Completed" state, the server transaction MUST transition
        // to the "Confirmed" state. As Timer G is ignored in this state, any retransmissions of the response will cease." "The purpose of
        // the "Confirmed" state is to absorb any additional ACK messages that arrive".
        let mut l = Lab::invite(UNRELIABLE);
        l.responds(486).until(600).gets("ACK").claims(&[(0, "486"), (500, "486"), (600, "Acknowledged")]).has_deadline(5_600, Timer::I);
        l.until(5_599).gets("ACK").repeats().responds(500).transport_fails().claims(&[(5_599, "Absorbed"), (5_599, "Absorbed")]);
        l.until(5_600).claims(&[(5_600, "Terminated")]).is_over();
    }

    #[test]
    fn over_tcp_the_ack_to_a_refusal_ends_the_transaction_at_once() {
        // §17.2.1: "it MUST set timer I to fire in T4 seconds for unreliable transports, and zero seconds for reliable transports."
        let mut l = Lab::invite(RELIABLE);
        l.responds(486).until(50).gets("ACK").claims(&[(0, "486"), (50, "Acknowledged"), (50, "Terminated")]).is_over();
    }

    #[test]
    fn in_accepted_invites_are_absorbed_acks_go_up_and_each_2xx_of_the_user_is_sent() {
        // RFC 6026 §8.7: "While in the "Accepted" state, if the TU passes a 2xx response, the server transaction MUST pass the response to
        // the transport layer for transmission." A retransmitted INVITE is absorbed without a response, and an ACK goes up.
        for reliable in [UNRELIABLE, RELIABLE] {
            let mut l = Lab::invite(reliable);
            l.responds(180).responds(200).has_deadline(32_000, Timer::L).claims(&[(0, "180"), (0, "200")]);
            assert!(!l.server.is_pending());
            l.until(400).repeats().until(500).responds(200).gets("ACK").gets("ACK").until(31_999).responds(200);
            l.claims(&[(400, "Absorbed"), (500, "200"), (500, "Ack"), (500, "Ack"), (31_999, "200")]);
            l.responds(180).responds(486).transport_fails().claims(&[]).has_deadline(32_000, Timer::L);
            assert_eq!(l.server.last(), Some(&printed(200)));
            l.until(32_000).claims(&[(32_000, "Terminated")]).is_over();
        }
    }

    #[test]
    fn a_response_after_a_refusal_is_dropped() {
        let mut l = Lab::invite(UNRELIABLE);
        l.responds(486).responds(180).responds(200).responds(603).repeats();
        l.claims(&[(0, "486"), (0, "486"), (0, "Absorbed")]).has_deadline(500, Timer::G);
    }

    #[test]
    fn a_transport_error_leaves_an_invite_in_its_state() {
        // RFC 6026 §8.8: "the server transaction SHOULD inform the TU that a failure has occurred, and MUST remain in the current state."
        let mut l = Lab::invite(UNRELIABLE);
        l.responds(180).transport_fails().repeats().claims(&[(0, "180"), (0, "180"), (0, "Absorbed")]);
        l.responds(486).transport_fails().claims(&[(0, "486")]).has_deadline(500, Timer::G);
    }

    #[test]
    fn a_repeated_non_invite_is_discarded_in_trying_and_answered_in_proceeding() {
        // §17.2.2: "Once in the "Trying" state, any further request retransmissions are discarded." "If a retransmission of the request is
        // received while in the "Proceeding" state, the most recently sent provisional response MUST be passed to the transport layer".
        let mut l = Lab::non_invite(UNRELIABLE);
        l.repeats().repeats().gets("ACK").claims(&[(0, "Absorbed"), (0, "Absorbed"), (0, "Absorbed")]);
        assert_eq!(l.server.deadline(), None);
        l.responds(100).responds(182).repeats().claims(&[(0, "100"), (0, "182"), (0, "182"), (0, "Absorbed")]);
        assert!(l.server.is_pending());
        assert_eq!(l.server.deadline(), None);
    }

    #[test]
    fn a_repeated_non_invite_gets_its_final_answer_until_timer_j() {
        // §17.2.2: "While in the "Completed" state, the server transaction MUST pass the final response to the transport layer for
        // retransmission whenever a retransmission of the request is received. Any other final responses passed by the TU to the server
        // transaction MUST be discarded while in the "Completed" state." "it MUST set Timer J to fire in 64*T1 seconds for unreliable
        // transports".
        for status in [200, 404] {
            for before in [None, Some(100)] {
                let mut l = Lab::non_invite(UNRELIABLE);
                if let Some(status) = before {
                    l.responds(status);
                }
                l.log.clear();
                let code = status.to_string();
                l.until(10).responds(status).has_deadline(32_010, Timer::J).responds(500).responds(200).responds(100);
                assert!(!l.server.is_pending());
                l.until(32_009).repeats().claims(&[(10, code.as_str()), (32_009, code.as_str()), (32_009, "Absorbed")]);
                l.until(32_010).claims(&[(32_010, "Terminated")]).is_over();
            }
        }
    }

    #[test]
    fn over_tcp_the_final_answer_ends_a_non_invite_at_once() {
        // §17.2.2: "and zero seconds for reliable transports."
        for status in [200, 404] {
            let mut l = Lab::non_invite(RELIABLE);
            l.responds(100).until(10).responds(status);
            l.claims(&[(0, "100"), (10, status.to_string().as_str()), (10, "Terminated")]).is_over();
        }
    }

    #[test]
    fn a_transport_error_ends_a_non_invite() {
        // §17.2.4: "the server transaction SHOULD inform the TU that a failure has occurred, and SHOULD transition to the terminated state."
        for status in [None, Some(100), Some(200)] {
            let mut l = Lab::non_invite(UNRELIABLE);
            if let Some(status) = status {
                l.responds(status);
            }
            l.log.clear();
            l.transport_fails().claims(&[(0, "Terminated")]).is_over();
        }
    }

    #[test]
    fn a_late_wake_up_sends_one_repetition_and_counts_from_there() {
        let mut l = Lab::invite(UNRELIABLE);
        let mut out = Vec::new();
        l.responds(486);
        l.server.on_timeout(ms(10_000), &mut out);
        assert_eq!(out, [Out::Send(printed(486))]);
        l.has_deadline(11_000, Timer::G);
        out.clear();
        l.server.on_timeout(ms(40_000), &mut out);
        assert_eq!(out, [Out::Expired(Timer::H), Out::Terminated]);
    }

    #[test]
    fn a_random_walk_never_panics_and_always_ends_once() {
        for seed in 1..=2_000 {
            let mut dice = Dice::new(seed);
            let reliable = dice.below(2) == 0;
            let mut l = if dice.below(2) == 0 { Lab::invite(reliable) } else { Lab::non_invite(reliable) };
            let mut out = Vec::new();
            let (mut now, mut sent_final) = (0, None);
            for _ in 0..dice.below(40) {
                now += dice.below(9_000);
                match dice.below(12) {
                    0 => l.server.on_transport_error(&mut out),
                    1..4 => l.server.on_timeout(ms(now), &mut out),
                    4..7 => l.server.on_request(&request(l.method), ms(now), &mut out),
                    7..9 => l.server.on_request(&request("ACK"), ms(now), &mut out),
                    _ => {
                        let statuses = [100, 180, 183, 200, 202, 302, 486, 503, 603];
                        let status = statuses[usize::try_from(dice.below(9)).unwrap()];
                        if l.server.is_pending() && status >= 200 {
                            sent_final = Some(status);
                        }
                        l.server.respond(status, printed(status), ms(now), &mut out);
                    }
                }
            }
            if l.server.is_pending() {
                sent_final = Some(486);
                l.server.respond(486, printed(486), ms(now), &mut out);
            }
            // No state outlives its last input by more than 64*T1.
            let end = ms(now) + Timers::default().sixty_four_t1();
            while let Some((at, _)) = l.server.deadline() {
                assert!(at <= end, "seed {seed}: {at:?}");
                l.server.on_timeout(at.max(ms(now)), &mut out);
            }
            assert_eq!(out.iter().filter(|o| **o == Out::Terminated).count(), 1, "seed {seed}");
            assert_eq!(out.last(), Some(&Out::Terminated), "seed {seed}");
            let finals = out.iter().filter_map(|o| if let Out::Send(bytes) = o { head(bytes).parse::<u16>().ok() } else { None });
            for status in finals.filter(|status| *status >= 200) {
                let again = l.method == "INVITE" && sent_final.is_some_and(|s| s < 300) && status < 300;
                assert!(again || Some(status) == sent_final, "seed {seed}: {status} after {sent_final:?}");
            }
            l.is_over();
        }
    }
}
