//! Beside the calls: which targets of Synthflow's answer (RFC 3261 §11, RFC 3263 §4.3). Told by OPTIONS of ours and by what calls hear.

use std::net::SocketAddr;
use std::time::Duration;

use compact_str::CompactString;

use crate::call::rules::PlannedTarget;
use crate::call::rules::Target;
use crate::time::Time;

/// Failures in a row that take a target down; a 503 does at once.
pub const FAILURES_MAX: u32 = 3;
/// A longer Retry-After is not believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Addresses watched: a name with a thousand records is not probed in full.
pub const WATCHED_MAX: usize = 64;

/// ```text
///   Up ──three failures, 503──► Down ──any other answer──► Up
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Health {
    Up {
        failures: u32,
    },
    /// Not asked again before `until` (Retry-After).
    Down {
        until: Option<Time>,
    },
}

#[derive(Clone, Debug)]
struct Watched {
    target: Target,
    shown: CompactString,
    health: Health,
    /// When the next OPTIONS leaves.
    next: Time,
    /// The last one has not been answered.
    asked: bool,
}

/// A target went down or came up, for one line in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub target: Target,
    pub up: bool,
    pub why: String,
}

/// The health of all targets.
#[derive(Debug)]
pub struct Trunk {
    /// Zero: nobody is asked, and nobody is ever down.
    every: Duration,
    watched: Vec<Watched>,
}

impl Trunk {
    pub fn new(every: Duration) -> Trunk {
        Trunk { every, watched: Vec::new() }
    }

    /// The targets as they are resolved now. What is known of one that stays, stays; a new one counts as up.
    pub fn watch(&mut self, targets: &[PlannedTarget], now: Time) {
        if self.every.is_zero() {
            return;
        }
        let old = std::mem::take(&mut self.watched);
        for PlannedTarget { target, shown } in targets.iter().take(WATCHED_MAX) {
            let known = old.iter().find(|w| w.target == *target).cloned();
            let new = || Watched {
                target: *target,
                shown: shown.clone(),
                health: Health::Up { failures: 0 },
                next: now + self.every,
                asked: false,
            };
            self.watched.push(known.unwrap_or_else(new));
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.watched.iter().map(|w| w.next).min()
    }

    /// Whom to send an OPTIONS now. One that has not answered the last one has failed.
    pub fn due(&mut self, now: Time) -> (Vec<PlannedTarget>, Vec<Change>) {
        let (mut ask, mut changes) = (Vec::new(), Vec::new());
        for watched in self.watched.iter_mut().filter(|w| w.next <= now) {
            if std::mem::replace(&mut watched.asked, true) {
                changes.extend(watched.fails("no answer to OPTIONS"));
            }
            watched.next = now + self.every;
            ask.push(PlannedTarget { target: watched.target, shown: watched.shown.clone() });
        }
        (ask, changes)
    }

    /// An answer to an OPTIONS. Any status but 503 and 408 says that somebody is there: a server that knows no OPTIONS takes calls.
    pub fn on_answer(&mut self, target: Target, status: u16, retry_after: Option<Duration>, now: Time) -> Option<Change> {
        let watched = self.watched.iter_mut().find(|w| w.target == target)?;
        watched.asked = false;
        match status {
            503 => watched.refuses("503 to OPTIONS", retry_after, now),
            408 => watched.fails("408 to OPTIONS"),
            _ => watched.answers(now),
        }
    }

    /// What an INVITE of a call heard from there: any provisional answer and any final one but 503 is a sign of life. A 408 may be that
    /// of a bot behind it.
    /// While calls answer there is nothing to probe: the next OPTIONS is an interval away from the last sign of life.
    pub fn on_call_answer(&mut self, addr: SocketAddr, status: u16, retry_after: Option<Duration>, now: Time) -> Option<Change> {
        let every = self.every;
        let watched = self.watched.iter_mut().find(|w| w.target.addr == addr)?;
        match status {
            503 => watched.refuses("503 to a call", retry_after, now),
            408 => None,
            _ => {
                if matches!(watched.health, Health::Up { .. }) {
                    watched.asked = false;
                    watched.next = watched.next.max(now + every);
                }
                watched.answers(now)
            }
        }
    }

    /// Nothing came, or no connection.
    pub fn on_failure(&mut self, addr: SocketAddr, why: &str) -> Option<Change> {
        self.watched.iter_mut().find(|w| w.target.addr == addr)?.fails(why)
    }

    /// An OPTIONS that could not be sent, or will not be answered any more.
    pub fn on_no_answer(&mut self, target: Target, why: &str) -> Option<Change> {
        let watched = self.watched.iter_mut().find(|w| w.target == target && w.asked)?;
        watched.asked = false;
        watched.fails(why)
    }

    /// Those that are not down; all of them when none is left.
    pub fn usable(&self, targets: &mut Vec<PlannedTarget>) {
        let is_up = |p: &PlannedTarget| !self.watched.iter().any(|w| w.target == p.target && matches!(w.health, Health::Down { .. }));
        if targets.iter().any(is_up) {
            targets.retain(is_up);
        }
    }
}

impl Watched {
    fn fails(&mut self, why: &str) -> Option<Change> {
        let Health::Up { failures } = &mut self.health else { return None };
        *failures += 1;
        if *failures < FAILURES_MAX {
            return None;
        }
        self.health = Health::Down { until: None };
        Some(self.change(false, format!("{FAILURES_MAX} failures, the last: {why}")))
    }

    /// RFC 3261 §21.5.4: nothing is sent there for as long as Retry-After says, as long as there is another.
    fn refuses(&mut self, why: &str, retry_after: Option<Duration>, now: Time) -> Option<Change> {
        let until = retry_after.map(|d| now + d.min(RETRY_AFTER_MAX));
        let was_up = matches!(self.health, Health::Up { .. });
        self.health = Health::Down { until };
        self.next = until.map_or(self.next, |at| at.max(self.next));
        was_up.then(|| self.change(false, why.to_owned()))
    }

    fn answers(&mut self, now: Time) -> Option<Change> {
        match self.health {
            Health::Up { .. } => {
                self.health = Health::Up { failures: 0 };
                None
            }
            // An answer that was under way when the 503 came says nothing new.
            Health::Down { until: Some(until) } if until > now => None,
            Health::Down { .. } => {
                self.health = Health::Up { failures: 0 };
                Some(self.change(true, "it answers".to_owned()))
            }
        }
    }

    fn change(&self, up: bool, why: String) -> Change {
        Change { target: self.target, up, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::rules::Transport;

    const EVERY: Duration = Duration::from_secs(30);

    fn target(last: u8) -> PlannedTarget {
        let addr = SocketAddr::from(([192, 0, 2, last], 5060));
        PlannedTarget { target: Target { transport: Transport::Udp, addr }, shown: "bot.example".into() }
    }

    fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    fn trunk() -> Trunk {
        let mut trunk = Trunk::new(EVERY);
        trunk.watch(&[target(1), target(2)], at(0));
        trunk
    }

    fn usable(trunk: &Trunk) -> Vec<u8> {
        let mut all = vec![target(1), target(2)];
        trunk.usable(&mut all);
        all.iter().map(|p| if p.target == target(1).target { 1 } else { 2 }).collect()
    }

    #[test]
    fn three_failures_take_a_target_down_and_one_answer_brings_it_up() {
        let mut trunk = trunk();
        let one = target(1).target;
        for failure in 1..=FAILURES_MAX {
            let change = trunk.on_failure(one.addr, "no connection");
            assert_eq!(change.is_some(), failure == FAILURES_MAX);
        }
        assert_eq!(trunk.on_failure(one.addr, "again"), None, "one line per change");
        assert_eq!(usable(&trunk), [2]);
        // A 405 or 401 is an answer, too.
        let change = trunk.on_answer(one, 405, None, at(1)).unwrap();
        assert!(change.up && change.target == one);
        assert_eq!(usable(&trunk), [1, 2]);
        assert_eq!(trunk.on_answer(one, 200, None, at(2)), None);
    }

    #[test]
    fn failures_must_be_in_a_row() {
        let mut trunk = trunk();
        let addr = target(1).target.addr;
        for _ in 0..10 {
            assert_eq!(trunk.on_failure(addr, "x"), None);
            assert_eq!(trunk.on_failure(addr, "x"), None);
            assert_eq!(trunk.on_call_answer(addr, 180, None, at(1)), None);
        }
    }

    #[test]
    fn a_target_that_answers_calls_is_not_probed() {
        let mut trunk = trunk();
        let one = target(1).target;
        assert_eq!(trunk.on_call_answer(one.addr, 200, None, at(20)), None);
        assert_eq!(trunk.due(at(30)).0, [target(2)]);
        assert_eq!(trunk.due(at(49)).0, []);
        assert_eq!(trunk.due(at(50)).0, [target(1)]);
    }

    #[test]
    fn the_last_ones_left_are_always_tried() {
        let mut trunk = trunk();
        for last in [1, 2] {
            assert!(trunk.on_call_answer(target(last).target.addr, 503, None, at(0)).is_some());
        }
        assert_eq!(usable(&trunk), [1, 2]);
    }

    #[test]
    fn retry_after_is_held_but_not_for_ever() {
        let mut trunk = trunk();
        let one = target(1).target;
        trunk.on_answer(one, 503, Some(Duration::from_secs(40)), at(10));
        // RFC 3261 §21.5.4: "The client […] SHOULD NOT forward any other requests to that server for the duration specified in the
        // Retry-After header field, if present."
        assert_eq!(trunk.due(at(49)).0, [target(2)]);
        assert_eq!(trunk.on_call_answer(one.addr, 180, None, at(49)), None);
        assert_eq!(usable(&trunk), [2]);
        assert_eq!(trunk.due(at(50)).0, [target(1)]);
        assert!(trunk.on_answer(one, 200, None, at(50)).unwrap().up);
        trunk.on_answer(one, 503, Some(RETRY_AFTER_MAX * 2), at(60));
        assert!(trunk.watched[0].next <= at(60) + RETRY_AFTER_MAX);
    }

    #[test]
    fn who_has_not_answered_the_last_options_has_failed() {
        let mut trunk = trunk();
        assert_eq!(trunk.deadline(), Some(at(30)));
        for n in 1..=4 {
            let (ask, changes) = trunk.due(at(30 * n));
            assert_eq!(ask.len(), 2);
            trunk.on_answer(target(2).target, 200, None, at(30 * n));
            assert_eq!(changes.len(), usize::from(n == 4), "{n}");
        }
        assert_eq!(usable(&trunk), [2]);
    }

    #[test]
    fn a_408_of_a_call_is_not_the_targets_and_one_of_options_is() {
        let mut trunk = trunk();
        let one = target(1).target;
        assert!((0..9).all(|_| trunk.on_call_answer(one.addr, 408, None, at(0)).is_none()));
        let down = (0..3).filter_map(|_| trunk.on_answer(one, 408, None, at(0))).count();
        assert_eq!(down, 1);
    }

    #[test]
    fn what_is_known_of_an_address_outlives_a_refresh_of_its_name() {
        let mut trunk = trunk();
        trunk.on_answer(target(1).target, 503, None, at(0));
        trunk.watch(&[target(2), target(1), target(3)], at(20));
        assert_eq!(usable(&trunk), [2]);
        assert_eq!(trunk.due(at(49)).0.len(), 2);
        assert_eq!(trunk.due(at(50)).0, [target(3)]);
    }

    #[test]
    fn off_means_off_and_one_past_the_bound_is_not_watched() {
        let mut off = Trunk::new(Duration::ZERO);
        off.watch(&[target(1)], at(0));
        assert_eq!((off.deadline(), off.on_call_answer(target(1).target.addr, 503, None, at(0))), (None, None));
        let mut trunk = Trunk::new(EVERY);
        let many: Vec<PlannedTarget> = (0..=WATCHED_MAX).map(|n| target(u8::try_from(n).unwrap())).collect();
        trunk.watch(&many, at(0));
        assert_eq!(trunk.watched.len(), WATCHED_MAX);
    }
}
