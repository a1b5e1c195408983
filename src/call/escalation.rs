//! One escalation: recorded → requesting (try n) → settled. Every retry, settle and deadline decision of product.md §4 is here.

use std::time::Duration;

use compact_str::CompactString;

use crate::call::rules::SignalTimes;
use crate::ids::ContactId;
use crate::ids::SignalId;
use crate::time::Time;

/// One *Signal a Contact* as it goes to CXone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    pub id: SignalId,
    pub contact: ContactId,
    /// `p1…`, not yet percent-encoded.
    pub params: Vec<(CompactString, String)>,
    /// A 401 or 403 came: fetch a new token before this try.
    pub fresh_token: bool,
}

/// What one HTTP try came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignalAnswer {
    /// Any 2xx.
    Delivered { status: u16 },
    /// A status that says CXone did not take it: 4xx, 5xx except 408, 502, 504.
    Refused { status: u16, retry_after: Option<Duration>, text: String },
    /// The request was never written: refused connection, no token, no address.
    NotSent { why: String, retry_after: Option<Duration>, final_: bool },
    /// It was written, and whether it arrived is not known: time-out, reset, 408, 502, 504.
    Unanswered { status: Option<u16>, why: String },
}

/// How long a barrier of the journal may hold an escalation back (product.md §4, *On disk first*).
pub const RECORD_WAIT: Duration = Duration::from_millis(300);

/// How long after the deadline the edge may take to report the try that the deadline cut off.
pub const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// First wait after a refusal that may pass; it doubles with each further one, up to `BACKOFF_MAX`.
pub const BACKOFF_BASE: Duration = Duration::from_millis(250);

/// Longest wait before jitter.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Bound of tries of one escalation, whatever its deadline.
pub const SIGNAL_TRIES_MAX: u8 = 64;

/// How many requests of one escalation may have reached CXone (product.md §4, *Once per escalation*).
pub const SIGNAL_RECEIVED_MAX: u8 = 2;

/// Which barrier of the journal (house.md §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marker {
    /// Barrier 1: the intent, before the 202 or 200 leaves.
    Intent,
    /// Barrier 2: this try is about to be handed over.
    Requesting { try_no: u8 },
}

/// What an escalation wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Out {
    Record(Marker),
    /// The 202 or 200 may leave. Exactly once for each escalation, before everything but the first `Record`.
    Accepted {
        durable: bool,
    },
    /// One HTTP try.
    Signal {
        try_no: u8,
        signal: Signal,
        until: Time,
    },
    /// The running try must not be written if it is not written yet; a written one runs on. Its answer is awaited either way.
    Cancel,
    /// The end; the last thing that an escalation says.
    Settled(Outcome),
}

/// What an escalation came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// CXone answered 2xx.
    Delivered,
    /// CXone certainly did not take it; the bot may ask again, with a new id.
    Failed { why: String },
    /// Written, no answer, and then the contact was gone: delivered, or the caller hung up.
    Presumed,
    /// Written, no answer, and the contact is still there: parked and shown; a new request re-uses the id.
    Unknown,
    /// The contact had gone before anything could have arrived.
    Expired,
}

impl Outcome {
    /// The word in journal and report.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Failed { .. } => "failed",
            Outcome::Presumed => "presumed",
            Outcome::Unknown => "unknown",
            Outcome::Expired => "expired",
        }
    }
}

/// Whether CXone still has its leg: its own BYE is the evidence that End Call ran (product.md §4, *Tries*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Contact {
    There,
    HungUp,
    Lost,
}

impl Contact {
    fn is_gone(self) -> bool {
        self != Contact::There
    }
}

/// What is awaited.
///
/// ```text
///             barrier 1             barrier 2              2xx
/// Recording ─────────────▶ Marking ───────────▶ Requesting ─────▶ Settled
///                            ▲  ▲ 401, 403 (once)   │  │
///                            │  └───────────────────┘  │ no answer
///                            ├──── Pausing ◀───────────┤
///                            │       429, 5xx, refused │
///                            └──── Settling ◀──────────┘
///                            once, leg still there
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// Barrier 1, until it is passed or has held long enough.
    Recording {
        until: Time,
    },
    /// Barrier 2 of the try `tries`.
    Marking {
        until: Time,
    },
    /// The answer to the try `tries`; `until`: the edge has failed to give one.
    Requesting {
        until: Time,
    },
    /// The next try after a refusal that may pass.
    Pausing {
        until: Time,
    },
    /// A written request has no answer: CXone's BYE would be one.
    Settling {
        until: Time,
    },
    Settled(Outcome),
}

/// One escalation, from its intent to its outcome. It is told of its answers, of the journal and of CXone's leg; it decides what is
/// sent, how often and when it is over.
///
/// A try that was *refused* (any status but a 2xx, 408, 502, 504) or never written had no effect and may be followed by others; one
/// that was written and not answered may have arrived. Of the latter there are never more than `SIGNAL_RECEIVED_MAX`, and once there
/// was one, only what says plainly "not taken" (401, 403, 429, 503, not written) is followed by another try: a plain 500 is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Escalation {
    signal: Signal,
    times: SignalTimes,
    started_at: Time,
    state: State,
    contact: Contact,
    /// What the journal last did: in time or not.
    durable: bool,
    /// Tries begun; the number of the current one.
    tries: u8,
    /// Requests that were written and not answered.
    unanswered: u8,
    /// Refusals that may pass, for the back-off.
    pauses: u8,
    /// 401s and 403s.
    token_refusals: u8,
    /// What the last try came to, for the log.
    why: String,
}

impl Escalation {
    /// A new escalation: its intent goes to the journal first.
    pub fn start(signal: Signal, times: SignalTimes, now: Time, out: &mut Vec<Out>) -> Escalation {
        out.push(Out::Record(Marker::Intent));
        Escalation {
            signal,
            times,
            started_at: now,
            state: State::Recording { until: now + RECORD_WAIT },
            contact: Contact::There,
            durable: true,
            tries: 0,
            unanswered: 0,
            pauses: 0,
            token_refusals: 0,
            why: String::new(),
        }
    }

    /// An unsettled one from the journal, after a restart; `requested` is the highest try of its `Requesting` marks, 0 for none. It was
    /// accepted long ago. A try that was marked may have been written, so it counts as unanswered.
    pub fn resume(signal: Signal, times: SignalTimes, started_at: Time, requested: u8, now: Time, out: &mut Vec<Out>) -> Escalation {
        let mut resumed = Escalation::start(signal, times, started_at, &mut Vec::new());
        resumed.tries = requested;
        if requested == 0 {
            resumed.why = "found unsent after a restart".to_owned();
            resumed.next_try(now, out);
            return resumed;
        }
        // All but the last may have been refused; nobody knows any more.
        resumed.unanswered = requested.min(SIGNAL_RECEIVED_MAX) - 1;
        resumed.on_unanswered("in flight when the process ended".to_owned(), now, out);
        resumed
    }

    /// The journal has this mark.
    pub fn on_recorded(&mut self, which: Marker, now: Time, out: &mut Vec<Out>) {
        match (&self.state, which) {
            (State::Recording { .. }, Marker::Intent) => self.accept(true, now, out),
            (State::Marking { .. }, Marker::Requesting { try_no }) if try_no == self.tries => self.request(now, out),
            // Late: the disk is back, the next barrier is worth waiting for.
            _ => self.durable = true,
        }
    }

    /// The journal could not take this mark: the escalation goes on from memory.
    pub fn on_record_failed(&mut self, which: Marker, now: Time, out: &mut Vec<Out>) {
        self.durable = false;
        match (&self.state, which) {
            (State::Recording { .. }, Marker::Intent) => self.accept(false, now, out),
            (State::Marking { .. }, Marker::Requesting { try_no }) if try_no == self.tries => self.request(now, out),
            _ => {}
        }
    }

    /// What a try came to. `dice` is uniform in 0..1000. An answer to a try that is over is ignored, except that a 2xx is the truth
    /// whenever it comes.
    pub fn on_answer(&mut self, try_no: u8, answer: SignalAnswer, dice: u16, now: Time, out: &mut Vec<Out>) {
        let running = matches!(self.state, State::Requesting { .. });
        let current = try_no == self.tries && running;
        match answer {
            _ if self.is_settled() || try_no == 0 || try_no > self.tries => {}
            SignalAnswer::Delivered { status } => {
                if running && !current {
                    out.push(Out::Cancel);
                }
                self.why = format!("HTTP {status}");
                self.settle(Outcome::Delivered, out);
            }
            _ if !current => {}
            SignalAnswer::Refused { status, retry_after, text } => {
                self.why = if text.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {text}") };
                self.on_refused(status, retry_after, dice, now, out);
            }
            SignalAnswer::NotSent { why, retry_after, final_ } => {
                self.why = why;
                match final_ {
                    _ if self.contact.is_gone() => self.settle_gone(out),
                    true => self.settle_failed(out),
                    false => self.pause(retry_after, dice, now, out),
                }
            }
            SignalAnswer::Unanswered { status, why } => {
                let why = status.map_or(why.clone(), |status| format!("HTTP {status}: {why}"));
                self.on_unanswered(why, now, out);
            }
        }
    }

    /// CXone's BYE, or (`bye` false) its leg is lost. Nothing new is sent for a contact that has gone.
    pub fn on_contact_gone(&mut self, bye: bool, _now: Time, out: &mut Vec<Out>) {
        if self.is_settled() || self.contact.is_gone() {
            return;
        }
        self.contact = if bye { Contact::HungUp } else { Contact::Lost };
        match self.state {
            // The 202 waits for the barrier, and only for that.
            State::Recording { .. } => {}
            State::Requesting { .. } => out.push(Out::Cancel),
            _ => self.settle_gone(out),
        }
    }

    /// We end the call ourselves (drain, an operator): there is no time left to hear what becomes of it.
    pub fn on_given_up(&mut self, why: &str, out: &mut Vec<Out>) {
        match self.state {
            State::Settled(_) => return,
            // The 202 or 200 is still due.
            State::Recording { .. } => out.push(Out::Accepted { durable: false }),
            State::Requesting { .. } => {
                self.unanswered += 1;
                out.push(Out::Cancel);
            }
            State::Marking { .. } | State::Pausing { .. } | State::Settling { .. } => {}
        }
        self.why = if self.why.is_empty() { why.to_owned() } else { format!("{why}; {}", self.why) };
        self.settle_failed(out);
    }

    /// The deadline has come.
    pub fn on_timeout(&mut self, now: Time, out: &mut Vec<Out>) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.state {
            State::Recording { .. } => self.accept(false, now, out),
            State::Marking { .. } => {
                self.durable = false;
                self.request(now, out);
            }
            State::Requesting { .. } => self.on_unanswered("no word from the HTTP client".to_owned(), now, out),
            State::Pausing { .. } => self.next_try(now, out),
            State::Settling { .. } => self.repeat_or_park(now, out),
            State::Settled(_) => {}
        }
    }

    /// When to call `on_timeout`.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Recording { until }
            | State::Marking { until }
            | State::Requesting { until }
            | State::Pausing { until }
            | State::Settling { until } => Some(until),
            State::Settled(_) => None,
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Settled(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub fn is_settled(&self) -> bool {
        self.outcome().is_some()
    }

    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Tries begun.
    pub fn tries(&self) -> u8 {
        self.tries
    }

    pub fn started_at(&self) -> Time {
        self.started_at
    }

    /// What the last try came to, or why it is over: for the log line.
    pub fn why(&self) -> &str {
        &self.why
    }

    fn end(&self) -> Time {
        self.started_at + self.times.deadline
    }

    fn accept(&mut self, durable: bool, now: Time, out: &mut Vec<Out>) {
        self.durable = durable;
        out.push(Out::Accepted { durable });
        if self.contact.is_gone() {
            self.settle_gone(out);
        } else {
            self.next_try(now, out);
        }
    }

    /// Begins a try with its mark in the journal; a journal that is behind is told but not waited for.
    fn next_try(&mut self, now: Time, out: &mut Vec<Out>) {
        if now >= self.end() {
            return self.settle_late(out);
        }
        if self.tries >= SIGNAL_TRIES_MAX {
            self.why = format!("{SIGNAL_TRIES_MAX} tries; {}", self.why);
            return self.settle_failed(out);
        }
        self.tries += 1;
        out.push(Out::Record(Marker::Requesting { try_no: self.tries }));
        self.state = State::Marking { until: now + RECORD_WAIT };
        if !self.durable {
            self.request(now, out);
        }
    }

    fn request(&mut self, now: Time, out: &mut Vec<Out>) {
        if now >= self.end() {
            return self.settle_late(out);
        }
        out.push(Out::Signal { try_no: self.tries, signal: self.signal.clone(), until: self.end() });
        self.state = State::Requesting { until: self.end() + ANSWER_GRACE };
    }

    fn on_refused(&mut self, status: u16, retry_after: Option<Duration>, dice: u16, now: Time, out: &mut Vec<Out>) {
        match status {
            // The edge reports these as `Unanswered`; what they mean must not hang on that.
            408 | 502 | 504 => return self.on_unanswered(self.why.clone(), now, out),
            _ if self.contact.is_gone() => return self.settle_gone(out),
            401 | 403 if self.token_refusals == 0 => {
                self.token_refusals = 1;
                self.signal.fresh_token = true;
                return self.next_try(now, out);
            }
            // Anything may have happened behind a plain 500; with a first request open already, that is one too many.
            429 | 503 => self.pause(retry_after, dice, now, out),
            500..=599 if self.unanswered == 0 => self.pause(retry_after, dice, now, out),
            _ => self.settle_failed(out),
        }
        self.signal.fresh_token = false;
    }

    fn pause(&mut self, retry_after: Option<Duration>, dice: u16, now: Time, out: &mut Vec<Out>) {
        let wait = backoff(self.pauses, dice).max(retry_after.unwrap_or_default());
        if now + wait >= self.end() {
            if let Some(after) = retry_after.filter(|after| now + *after >= self.end()) {
                self.why = format!("{}; Retry-After of {} s lies beyond the deadline", self.why, after.as_secs());
                return self.settle_failed(out);
            }
            return self.settle_late(out);
        }
        self.pauses = self.pauses.saturating_add(1);
        self.state = State::Pausing { until: now + wait };
    }

    fn on_unanswered(&mut self, why: String, now: Time, out: &mut Vec<Out>) {
        self.why = why;
        self.unanswered += 1;
        self.signal.fresh_token = false;
        if self.contact.is_gone() {
            return self.settle_gone(out);
        }
        let settled = now + self.times.settle;
        // The first wait is for the evidence, whatever the deadline; the second only uses what is left of it.
        let until = if self.unanswered < SIGNAL_RECEIVED_MAX { settled } else { settled.min(self.end()) };
        self.state = State::Settling { until };
        if until <= now {
            self.repeat_or_park(now, out);
        }
    }

    /// CXone's leg is still there after `settle`. Half a time-out left is enough for a repetition: the shortest deadline that the
    /// configuration allows must not lose it to the milliseconds that the journal took.
    fn repeat_or_park(&mut self, now: Time, out: &mut Vec<Out>) {
        let room = now + self.times.timeout / 2 <= self.end();
        if self.times.repeat_unanswered && self.unanswered < SIGNAL_RECEIVED_MAX && room {
            self.next_try(now, out);
        } else {
            self.settle(Outcome::Unknown, out);
        }
    }

    fn settle_late(&mut self, out: &mut Vec<Out>) {
        let last = if self.why.is_empty() { "nothing could be sent" } else { self.why.as_str() };
        self.why = format!("deadline of {} ms is over; {last}", self.times.deadline.as_millis());
        self.settle_failed(out);
    }

    /// A refusal proves nothing about an earlier request that was not answered.
    fn settle_failed(&mut self, out: &mut Vec<Out>) {
        let outcome = if self.unanswered > 0 { Outcome::Unknown } else { Outcome::Failed { why: self.why.clone() } };
        self.settle(outcome, out);
    }

    fn settle_gone(&mut self, out: &mut Vec<Out>) {
        let how = if self.contact == Contact::Lost { "CXone's leg was lost" } else { "CXone hung up" };
        self.why = if self.why.is_empty() { how.to_owned() } else { format!("{how}; {}", self.why) };
        self.settle(if self.unanswered > 0 { Outcome::Presumed } else { Outcome::Expired }, out);
    }

    fn settle(&mut self, outcome: Outcome, out: &mut Vec<Out>) {
        out.push(Out::Settled(outcome.clone()));
        self.state = State::Settled(outcome);
    }
}

/// Doubling from `BACKOFF_BASE` to `BACKOFF_MAX`, times 0.5 to 1.5, so that calls that failed together do not come back together.
fn backoff(pauses: u8, dice: u16) -> Duration {
    let wait = BACKOFF_BASE.saturating_mul(1 << pauses.min(8)).min(BACKOFF_MAX);
    wait * (500 + u32::from(dice.min(999))) / 1000
}

#[cfg(test)]
mod tests;
