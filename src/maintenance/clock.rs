//! The time by which retention decides: the wall clock, unless it jumps.
//!
//! A wall clock that jumps ahead would make everything old at once, and what has been dropped cannot be had back. So each
//! reading of it is compared with a clock that nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::Timestamp;

/// How far the wall clock may move beside the time that passes between two readings.
const TOLERANCE: Duration = Duration::from_secs(60);

/// How long a server may have been stopped, or have had no reports, without a doubt about the clock at its start.
const START_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// The longest time for which a jump is doubted.
const LONGEST_DOUBT: Duration = Duration::from_secs(24 * 60 * 60);

/// What both clocks say at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The wall clock.
    pub(super) wall: Timestamp,
    /// The time since the machine was started, times of suspension included. It is never set.
    pub(super) uptime: Duration,
}

impl Reading {
    /// What they say now.
    pub(super) fn now() -> Self {
        let uptime = clock_gettime(ClockId::Boottime);
        // Neither is ever negative.
        let uptime = Duration::new(uptime.tv_sec.unsigned_abs(), uptime.tv_nsec.unsigned_abs() as u32);
        Self { wall: Timestamp::now(), uptime }
    }
}

/// A jump of the wall clock that is not believed yet.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// By how many milliseconds it was ahead; negative if behind.
    ahead: i64,
    /// By the time since the machine was started.
    since: Duration,
}

/// Follows the wall clock, and believes a jump only once it has lasted.
#[derive(Debug)]
pub(super) struct RetentionClock {
    /// The latest reading that was believed.
    believed: Reading,
    doubt: Option<Doubt>,
    /// How long a jump is doubted.
    patience: Duration,
}

impl RetentionClock {
    /// For subtasks that are kept for `age`. `unwritten` is how long ago, by the wall clock, an earlier process last wrote to the
    /// data directory, which is the only earlier reading that there is.
    pub(super) fn new(now: Reading, age: Duration, unwritten: Option<Duration>) -> Self {
        // After `age` all that was there at the jump is old by either time.
        let mut clock = Self { believed: now, doubt: None, patience: age.min(LONGEST_DOUBT) };
        if let Some(unwritten) = unwritten.filter(|unwritten| *unwritten > START_TOLERANCE.max(age / 10)) {
            clock.believed.wall = now.wall.before(unwritten);
            clock.doubt = Some(Doubt { ahead: millis(unwritten), since: now.uptime });
            tracing::warn!(
                ahead_seconds = unwritten.as_secs(),
                until_seconds = clock.patience.as_secs(),
                "the clock is far ahead of the last write to the data directory: until that time has passed, finished \
                 subtasks are dropped as if no time had passed between"
            );
        }
        clock
    }

    /// The moment by which to decide what is old: never later than the wall clock says.
    pub(super) fn look(&mut self, now: Reading) -> Timestamp {
        let ahead = self.ahead(now);
        let is_near = |other: i64| (ahead - other).unsigned_abs() <= TOLERANCE.as_millis() as u64;
        match self.doubt {
            _ if is_near(0) => {
                if self.doubt.take().is_some() {
                    tracing::info!("the clock agrees again with the time that has passed");
                }
                self.believed = now;
            }
            Some(doubt) if !is_near(doubt.ahead) => self.begin_doubt(ahead, now),
            Some(doubt) if now.uptime.saturating_sub(doubt.since) >= self.patience => {
                tracing::warn!(ahead_seconds = ahead / 1000, "the clock has kept its new time and is believed");
                (self.believed, self.doubt) = (now, None);
            }
            Some(_) => {}
            None => self.begin_doubt(ahead, now),
        }
        match self.doubt {
            Some(_) => now.wall.before(Duration::from_millis(ahead.max(0).unsigned_abs())),
            None => now.wall,
        }
    }

    fn begin_doubt(&mut self, ahead: i64, now: Reading) {
        self.doubt = Some(Doubt { ahead, since: now.uptime });
        tracing::warn!(
            ahead_seconds = ahead / 1000,
            until_seconds = self.patience.as_secs(),
            "the clock has jumped: until it agrees again, or that time has passed, finished subtasks are dropped by the \
             earlier one of its old time and its new time"
        );
    }

    /// By how many milliseconds the wall clock has moved further than time has passed since the latest believed reading.
    fn ahead(&self, now: Reading) -> i64 {
        let Reading { wall, uptime } = self.believed;
        millis(wall.until(now.wall)) - millis(now.wall.until(wall)) - millis(now.uptime.saturating_sub(uptime))
    }
}

/// Ten thousand years fit, which no clock exceeds.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// The wall clock at a time of day, and so much time since the machine was started.
    fn at(wall: &str, uptime: Duration) -> Reading {
        Reading { wall: moment(wall), uptime }
    }

    fn moment(wall: &str) -> Timestamp {
        wall.parse().unwrap()
    }

    fn begun() -> RetentionClock {
        RetentionClock::new(at("2026-01-01T00:00:00Z", Duration::ZERO), AGE, None)
    }

    #[test]
    fn time_that_passes_and_small_corrections_are_followed() {
        let mut clock = begun();
        for (wall, uptime) in [
            ("2026-01-01T00:01:00Z", MINUTE),
            ("2026-01-01T00:02:59Z", 2 * MINUTE),
            ("2026-01-01T00:02:10Z", 3 * MINUTE),
            // Nobody has looked for a day.
            ("2026-01-02T00:02:00Z", DAY + 3 * MINUTE),
        ] {
            assert_eq!(clock.look(at(wall, uptime)), moment(wall), "{wall}");
        }
    }

    #[test]
    fn a_jump_ahead_makes_nothing_older_until_it_has_lasted_a_day() {
        let mut clock = begun();
        for (wall, uptime, decided) in [
            ("2036-01-01T00:01:00Z", MINUTE, "2026-01-01T00:01:00Z"),
            ("2036-01-02T00:00:00Z", DAY, "2026-01-02T00:00:00Z"),
            ("2036-01-02T00:01:00Z", DAY + MINUTE, "2036-01-02T00:01:00Z"),
            ("2036-01-02T00:02:00Z", DAY + 2 * MINUTE, "2036-01-02T00:02:00Z"),
        ] {
            assert_eq!(clock.look(at(wall, uptime)), moment(decided), "{wall}");
        }
    }

    #[test]
    fn a_clock_that_comes_back_is_believed_at_once_and_one_that_jumps_again_is_doubted_anew() {
        let mut clock = begun();
        for (wall, uptime, decided) in [
            ("2036-01-01T00:01:00Z", MINUTE, "2026-01-01T00:01:00Z"),
            ("2026-01-01T00:02:00Z", 2 * MINUTE, "2026-01-01T00:02:00Z"),
            ("2036-01-01T00:00:00Z", 3 * MINUTE, "2026-01-01T00:03:00Z"),
            ("2046-01-01T00:00:00Z", DAY, "2026-01-02T00:00:00Z"),
            ("2046-01-01T00:04:00Z", DAY + 4 * MINUTE, "2026-01-02T00:04:00Z"),
            ("2046-01-02T00:00:00Z", DAY + DAY, "2046-01-02T00:00:00Z"),
        ] {
            assert_eq!(clock.look(at(wall, uptime)), moment(decided), "{wall}");
        }
    }

    #[test]
    fn a_clock_set_back_makes_everything_younger_and_its_correction_is_no_jump() {
        let mut clock = begun();
        for (wall, uptime, decided) in [
            ("2025-01-01T00:00:00Z", MINUTE, "2025-01-01T00:00:00Z"),
            ("2025-01-01T00:01:00Z", 2 * MINUTE, "2025-01-01T00:01:00Z"),
            ("2026-01-01T00:03:00Z", 3 * MINUTE, "2026-01-01T00:03:00Z"),
            ("0000-01-01T00:00:00Z", 4 * MINUTE, "0000-01-01T00:00:00Z"),
            ("9999-12-30T00:00:00Z", 5 * MINUTE, "2026-01-01T00:05:00Z"),
        ] {
            assert_eq!(clock.look(at(wall, uptime)), moment(decided), "{wall}");
        }
    }

    #[test]
    fn what_is_kept_for_a_short_time_is_not_kept_for_a_day() {
        let mut clock = RetentionClock::new(at("2026-01-01T00:00:00Z", Duration::ZERO), HOUR, None);
        let jumped = |minutes| at("2036-01-01T00:00:00Z", minutes * MINUTE);
        assert!(clock.look(jumped(1)) < moment("2027-01-01T00:00:00Z"));
        let later = Reading { wall: moment("2036-01-01T01:00:00Z"), uptime: 61 * MINUTE };
        assert_eq!(clock.look(later), later.wall);
    }

    #[test]
    fn a_long_time_between_two_processes_is_doubted_too() {
        let now = at("2036-01-01T00:00:00Z", HOUR);
        let ten_years = Duration::from_secs(10 * 365 * 24 * 60 * 60);
        let mut clock = RetentionClock::new(now, AGE, Some(ten_years));
        assert_eq!(clock.look(now), moment("2026-01-03T00:00:00Z"));
        assert_eq!(clock.look(at("2036-01-02T00:00:00Z", DAY + HOUR)), moment("2036-01-02T00:00:00Z"));
        for (age, unwritten, is_doubted) in
            [(AGE, 3 * DAY, false), (AGE, 3 * DAY + MINUTE, true), (MINUTE, HOUR, false), (MINUTE, HOUR + MINUTE, true)]
        {
            assert_eq!(RetentionClock::new(now, age, Some(unwritten)).doubt.is_some(), is_doubted, "{unwritten:?}");
        }
    }

    #[test]
    fn the_time_since_the_start_goes_on() {
        let first = Reading::now();
        let second = Reading::now();
        assert!(second.uptime >= first.uptime && first.uptime > Duration::ZERO);
    }
}
