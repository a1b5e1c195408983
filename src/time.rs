//! Time as the core sees it: a number that the edge hands in, never a clock that is read.

use std::fmt;
use std::ops::Add;
use std::ops::Sub;
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z: the wall clock at start plus monotonic time since. It can be written to disk,
/// and a test can make one; `Instant` can do neither.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    pub const fn from_micros(micros: u64) -> Self {
        Time(micros)
    }

    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// What has passed since `earlier`; zero when `earlier` lies ahead.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// UTC with milliseconds, RFC 3339: `2026-08-22T14:03:07.412Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0 / 1_000_000;
        let (days, of_day) = (secs / 86_400, secs % 86_400);
        let (year, month, day) = civil(days);
        let millis = self.0 / 1_000 % 1_000;
        let (h, m, s) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}Z")
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Days since 1970 to the Gregorian date: shifts the year to start in March, so that the leap day is its last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(Time::from_micros(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Time::from_micros(1_582_934_399_999_000).to_string(), "2020-02-28T23:59:59.999Z");
        assert_eq!(Time::from_micros(1_582_934_400_000_000).to_string(), "2020-02-29T00:00:00.000Z");
        assert_eq!(Time::from_micros(1_787_407_387_412_345).to_string(), "2026-08-22T14:03:07.412Z");
    }

    #[test]
    fn adding_never_wraps() {
        assert_eq!(Time::from_micros(u64::MAX) + Duration::from_secs(1), Time::from_micros(u64::MAX));
        assert_eq!(Time::from_micros(5) - Duration::from_secs(1), Time::from_micros(0));
        assert_eq!(Time::from_micros(5).since(Time::from_micros(9)), Duration::ZERO);
    }
}
