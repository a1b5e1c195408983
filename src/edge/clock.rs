//! The one place that reads a clock for the core.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::time::Time;

/// Wall clock at start plus monotonic time since: never runs backwards, whatever NTP does.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Time,
    started: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Clock { wall: Time::default() + since_1970, started: Instant::now() }
    }

    pub fn now(&self) -> Time {
        self.wall + self.started.elapsed()
    }

    /// The moment at which `now` will be `at`; the start for a time before it.
    pub fn instant(&self, at: Time) -> Instant {
        self.started + at.since(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_instant_agree() {
        let clock = Clock::start();
        let later = clock.wall + Duration::from_secs(5);
        assert_eq!(clock.instant(later) - clock.started, Duration::from_secs(5));
        assert_eq!(clock.instant(Time::from_micros(0)), clock.started);
        assert!(clock.now() >= clock.wall);
    }
}
