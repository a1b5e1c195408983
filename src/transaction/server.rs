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
