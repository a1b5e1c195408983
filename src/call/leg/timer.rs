//! A leg's session timer (RFC 4028): the session ends when nobody refreshes it in time. Each leg has its own.

use std::time::Duration;

use crate::call::out::Cx;
use crate::call::out::line;
use crate::call::rules::Carried;
use crate::call::rules::SessionTimes;
use crate::ids::Side;
use crate::time::Time;
use crate::wire::header::Refresher;
use crate::wire::header::SessionExpires;
use crate::wire::message::Message;
use crate::wire::message::Name;

/// RFC 4028 §10: a BYE "slightly before the session expiration. The minimum of 32 seconds and one third of the session interval is
/// RECOMMENDED."
const EXPIRY_MARGIN: Duration = Duration::from_secs(32);
/// RFC 4028 §4: "The absolute minimum for the Session-Expires header field is 90 seconds."
pub const SESSION_INTERVAL_MIN: Duration = Duration::from_secs(90);
/// A longer interval that a peer asks for would guard nothing.
const SESSION_INTERVAL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// 422s that are obeyed in one leg; each asks for more than the one before.
const TOO_SMALL_MAX: u8 = 4;
/// A refresh that cannot leave, or whose answer is awaited, is looked at again after that.
const REFRESH_AGAIN: Duration = Duration::from_secs(5);

/// Who refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// We do, at half of the interval (RFC 4028 §7.2).
    Ours {
        at: Time,
    },
    Theirs,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    interval: Duration,
    role: Role,
    /// Our BYE is due.
    ends: Time,
}

/// ```text
///  (none) ──2xx with Session-Expires, either way──► Running ──2xx of a refresh──► Running
///    ▲                                                │  └── ends ──► BYE
///    └─────────────── 2xx without it ─────────────────┘
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionTimer {
    side: Side,
    times: SessionTimes,
    /// What 422s asked for.
    floor: Duration,
    too_small: u8,
    running: Option<Running>,
}

impl SessionTimer {
    pub(super) fn new(side: Side, times: SessionTimes) -> SessionTimer {
        SessionTimer { side, times, floor: Duration::ZERO, too_small: 0, running: None }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let running = self.running?;
        Some(match running.role {
            Role::Ours { at } => at.min(running.ends),
            Role::Theirs => running.ends,
        })
    }

    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.running.is_some_and(|r| r.ends <= now)
    }

    pub(super) fn is_refresh_due(&self, now: Time) -> bool {
        matches!(self.running, Some(Running { role: Role::Ours { at }, .. }) if at <= now)
    }

    /// The next look at a refresh.
    pub(super) fn postpone(&mut self, until: Time) {
        if let Some(Running { role: Role::Ours { at }, .. }) = &mut self.running {
            *at = until;
        }
    }

    /// A refresh was refused. RFC 3261 §14.1: after a 491 the owner of the Call-ID waits 2.1 to 4 s, the other one up to 2 s.
    pub(super) fn refused(&mut self, status: u16, cx: &mut Cx<'_>) {
        // What was refused may have been a change that somebody else asked for, long before a refresh is due.
        if self.is_refresh_due(cx.now + REFRESH_AGAIN) {
            let wait = match (status, self.side) {
                (491, Side::Callee) => Duration::from_millis(2_100 + 10 * cx.mint.below(191)),
                (491, Side::Caller) => Duration::from_millis(10 * cx.mint.below(201)),
                _ => REFRESH_AGAIN,
            };
            self.postpone(cx.now + wait);
        }
    }

    /// Not to wait for the answer to a refresh more than once.
    pub(super) fn sent(&mut self, now: Time) {
        if self.is_refresh_due(now) {
            self.postpone(now + REFRESH_AGAIN);
        }
    }

    /// The lines of a request of ours that may start or refresh the timer.
    pub(super) fn asks(&self) -> Vec<Carried> {
        let running = self.running;
        // CXone is answered when it asks for a timer; Synthflow is asked.
        if running.is_none() && (self.times.expires.is_zero() || self.side == Side::Caller) {
            return Vec::new();
        }
        let least = self.floor.max(self.times.min_se);
        let interval = running.map_or(self.times.expires, |r| r.interval).max(least);
        // RFC 4028 §7.4: whoever refreshes stays that.
        let refresher = match running.map(|r| r.role) {
            Some(Role::Ours { .. }) => ";refresher=uac",
            Some(Role::Theirs) => ";refresher=uas",
            None => "",
        };
        vec![
            line("Supported", "timer"),
            line("Session-Expires", format!("{}{refresher}", interval.as_secs())),
            line("Min-SE", least.as_secs().to_string()),
        ]
    }

    /// The 2xx to such a request.
    pub(super) fn on_answer(&mut self, response: &Message, now: Time) {
        self.running = session_expires(response).map(|se| {
            let interval = Duration::from_secs(se.seconds.into()).clamp(SESSION_INTERVAL_MIN, SESSION_INTERVAL_MAX);
            // RFC 4028 §7.2: the 2xx names the refresher; of one that does not we are.
            Running::start(interval, se.refresher != Some(Refresher::Uas), now)
        });
    }

    /// RFC 4028 §7.3: a 422 says which interval would do. `true`: the request may be sent once more, with a larger one.
    pub(super) fn on_too_small(&mut self, response: &Message) -> bool {
        let least = response.value(Name::MinSe).and_then(SessionExpires::parse).map(|m| Duration::from_secs(m.seconds.into()));
        let asked = self.running.map_or(self.times.expires, |r| r.interval).max(self.floor).max(self.times.min_se);
        match least {
            Some(least) if least > asked && least <= SESSION_INTERVAL_MAX && self.too_small < TOO_SMALL_MAX => {
                self.floor = least;
                self.too_small += 1;
                true
            }
            _ => false,
        }
    }

    /// RFC 4028 §9: the Min-SE of a 422 that this request deserves.
    pub(super) fn too_short(&self, request: &Message) -> Option<u64> {
        let asked = session_expires(request).filter(|_| supports(request))?;
        let least = self.times.min_se;
        (Duration::from_secs(asked.seconds.into()) < least).then_some(least.as_secs())
    }

    /// The lines of our 2xx to a request of the peer, which starts, refreshes or ends the timer (RFC 4028 §9, table 2).
    pub(super) fn answers(&mut self, request: &Message, now: Time) -> Vec<Carried> {
        let supports = supports(request);
        let wanted = !self.times.expires.is_zero() || request.lists(Name::Require, "timer");
        let is_ours = self.running.is_some_and(|r| matches!(r.role, Role::Ours { .. }));
        let (interval, ours) = match session_expires(request).filter(|_| wanted) {
            Some(se) => {
                let interval = Duration::from_secs(se.seconds.into()).clamp(self.times.min_se, SESSION_INTERVAL_MAX);
                // Who does not know timers can not refresh.
                (interval, !supports || se.refresher == Some(Refresher::Uas))
            }
            None => match self.running.filter(|_| is_ours) {
                Some(running) => (running.interval, true),
                None => {
                    self.running = None;
                    return Vec::new();
                }
            },
        };
        self.running = Some(Running::start(interval, ours, now));
        let refresher = if ours { "uas" } else { "uac" };
        let mut lines = vec![line("Session-Expires", format!("{};refresher={refresher}", interval.as_secs()))];
        if supports {
            lines.push(line("Require", "timer"));
        }
        lines.push(line("Supported", "timer"));
        lines
    }
}

impl Running {
    fn start(interval: Duration, ours: bool, now: Time) -> Running {
        let role = if ours { Role::Ours { at: now + interval / 2 } } else { Role::Theirs };
        Running { interval, role, ends: now + (interval - EXPIRY_MARGIN.min(interval / 3)) }
    }
}

fn session_expires(message: &Message) -> Option<SessionExpires> {
    SessionExpires::parse(message.value(Name::SessionExpires)?)
}

fn supports(request: &Message) -> bool {
    request.lists(Name::Supported, "timer") || request.lists(Name::Require, "timer")
}

/// What the first INVITE to Synthflow asks of its session timer.
pub fn first_asks(times: SessionTimes) -> Vec<Carried> {
    SessionTimer::new(Side::Callee, times).asks()
}

/// The Min-SE of the 422 that a first INVITE deserves (RFC 4028 §9).
pub fn too_short(times: SessionTimes, invite: &Message) -> Option<u64> {
    SessionTimer::new(Side::Caller, times).too_short(invite)
}
