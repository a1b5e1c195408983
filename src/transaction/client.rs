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
