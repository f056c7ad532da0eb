//! The time by which retention decides: the wall clock, unless it jumps.
//!
//! A wall clock that jumps ahead would make everything old at once, and what has been dropped cannot be had back. So each
//! reading of it is compared with a clock that nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::Timestamp;

/// How far the wall clock may move beside the time that passes between two readings.
const JUMP_TOLERANCE: Duration = Duration::from_secs(60);

/// How long a server may have been stopped, or have had no reports, without a doubt about the clock at its start.
const STARTUP_GAP_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// The longest time for which a jump is doubted.
const MAX_CONFIRMATION_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What both clocks say at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    /// The wall clock.
    pub(super) wall: Timestamp,
    /// The time since the machine was started, times of suspension included. It is never set.
    pub(super) uptime: Duration,
}

impl ClockReading {
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
struct PendingJump {
    /// By how many milliseconds it was ahead; negative if behind.
    offset_millis: i64,
    /// By the time since the machine was started.
    since: Duration,
}

/// Follows the wall clock, and believes a jump only once it has lasted.
#[derive(Debug)]
pub(super) struct RetentionClock {
    /// The latest reading that was believed.
    accepted: ClockReading,
    pending: Option<PendingJump>,
    /// How long a jump is doubted.
    confirmation_time: Duration,
}

impl RetentionClock {
    /// For subtasks that are kept for `retention`. `since_last_write` is how long ago, by the wall clock, an earlier process last wrote to the
    /// data directory, which is the only earlier reading that there is.
    pub(super) fn new(now: ClockReading, retention: Duration, since_last_write: Option<Duration>) -> Self {
        // After `retention` all that was there at the jump is old by either time.
        let mut clock = Self { accepted: now, pending: None, confirmation_time: retention.min(MAX_CONFIRMATION_TIME) };
        if let Some(since_last_write) =
            since_last_write.filter(|since_last_write| *since_last_write > STARTUP_GAP_TOLERANCE.max(retention / 10))
        {
            clock.accepted.wall = now.wall.before(since_last_write);
            clock.pending = Some(PendingJump { offset_millis: millis(since_last_write), since: now.uptime });
            tracing::warn!(
                ahead_seconds = since_last_write.as_secs(),
                until_seconds = clock.confirmation_time.as_secs(),
                "the clock is far ahead of the last write to the data directory: until that time has passed, finished \
                 subtasks are dropped as if no time had passed between"
            );
        }
        clock
    }

    /// The moment by which to decide what is old: never later than the wall clock says.
    pub(super) fn retention_time(&mut self, now: ClockReading) -> Timestamp {
        let offset_millis = self.offset_millis(now);
        let is_near = |other: i64| (offset_millis - other).unsigned_abs() <= JUMP_TOLERANCE.as_millis() as u64;
        match self.pending {
            _ if is_near(0) => {
                if self.pending.take().is_some() {
                    tracing::info!("the clock agrees again with the time that has passed");
                }
                self.accepted = now;
            }
            Some(pending) if !is_near(pending.offset_millis) => self.suspect_jump(offset_millis, now),
            Some(pending) if now.uptime.saturating_sub(pending.since) >= self.confirmation_time => {
                tracing::warn!(ahead_seconds = offset_millis / 1000, "the clock has kept its new time and is believed");
                (self.accepted, self.pending) = (now, None);
            }
            Some(_) => {}
            None => self.suspect_jump(offset_millis, now),
        }
        match self.pending {
            Some(_) => now.wall.before(Duration::from_millis(offset_millis.max(0).unsigned_abs())),
            None => now.wall,
        }
    }

    fn suspect_jump(&mut self, offset_millis: i64, now: ClockReading) {
        self.pending = Some(PendingJump { offset_millis, since: now.uptime });
        tracing::warn!(
            ahead_seconds = offset_millis / 1000,
            until_seconds = self.confirmation_time.as_secs(),
            "the clock has jumped: until it agrees again, or that time has passed, finished subtasks are dropped by the \
             earlier one of its old time and its new time"
        );
    }

    /// By how many milliseconds the wall clock has moved further than time has passed since the latest believed reading.
    fn offset_millis(&self, now: ClockReading) -> i64 {
        let ClockReading { wall, uptime } = self.accepted;
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
    fn reading(wall: &str, uptime: Duration) -> ClockReading {
        ClockReading { wall: timestamp(wall), uptime }
    }

    fn timestamp(wall: &str) -> Timestamp {
        wall.parse().unwrap()
    }

    fn clock_at_new_year() -> RetentionClock {
        RetentionClock::new(reading("2026-01-01T00:00:00Z", Duration::ZERO), AGE, None)
    }

    #[test]
    fn time_that_passes_and_small_corrections_are_followed() {
        let mut clock = clock_at_new_year();
        for (wall, uptime) in [
            ("2026-01-01T00:01:00Z", MINUTE),
            ("2026-01-01T00:02:59Z", 2 * MINUTE),
            ("2026-01-01T00:02:10Z", 3 * MINUTE),
            // Nobody has looked for a day.
            ("2026-01-02T00:02:00Z", DAY + 3 * MINUTE),
        ] {
            assert_eq!(clock.retention_time(reading(wall, uptime)), timestamp(wall), "{wall}");
        }
    }

    #[test]
    fn a_jump_ahead_makes_nothing_older_until_it_has_lasted_a_day() {
        let mut clock = clock_at_new_year();
        for (wall, uptime, decided) in [
            ("2036-01-01T00:01:00Z", MINUTE, "2026-01-01T00:01:00Z"),
            ("2036-01-02T00:00:00Z", DAY, "2026-01-02T00:00:00Z"),
            ("2036-01-02T00:01:00Z", DAY + MINUTE, "2036-01-02T00:01:00Z"),
            ("2036-01-02T00:02:00Z", DAY + 2 * MINUTE, "2036-01-02T00:02:00Z"),
        ] {
            assert_eq!(clock.retention_time(reading(wall, uptime)), timestamp(decided), "{wall}");
        }
    }

    #[test]
    fn a_clock_that_comes_back_is_believed_at_once_and_one_that_jumps_again_is_doubted_anew() {
        let mut clock = clock_at_new_year();
        for (wall, uptime, decided) in [
            ("2036-01-01T00:01:00Z", MINUTE, "2026-01-01T00:01:00Z"),
            ("2026-01-01T00:02:00Z", 2 * MINUTE, "2026-01-01T00:02:00Z"),
            ("2036-01-01T00:00:00Z", 3 * MINUTE, "2026-01-01T00:03:00Z"),
            ("2046-01-01T00:00:00Z", DAY, "2026-01-02T00:00:00Z"),
            ("2046-01-01T00:04:00Z", DAY + 4 * MINUTE, "2026-01-02T00:04:00Z"),
            ("2046-01-02T00:00:00Z", DAY + DAY, "2046-01-02T00:00:00Z"),
        ] {
            assert_eq!(clock.retention_time(reading(wall, uptime)), timestamp(decided), "{wall}");
        }
    }

    #[test]
    fn a_clock_set_back_makes_everything_younger_and_its_correction_is_no_jump() {
        let mut clock = clock_at_new_year();
        for (wall, uptime, decided) in [
            ("2025-01-01T00:00:00Z", MINUTE, "2025-01-01T00:00:00Z"),
            ("2025-01-01T00:01:00Z", 2 * MINUTE, "2025-01-01T00:01:00Z"),
            ("2026-01-01T00:03:00Z", 3 * MINUTE, "2026-01-01T00:03:00Z"),
            ("0000-01-01T00:00:00Z", 4 * MINUTE, "0000-01-01T00:00:00Z"),
            ("9999-12-30T00:00:00Z", 5 * MINUTE, "2026-01-01T00:05:00Z"),
        ] {
            assert_eq!(clock.retention_time(reading(wall, uptime)), timestamp(decided), "{wall}");
        }
    }

    #[test]
    fn what_is_kept_for_a_short_time_is_not_kept_for_a_day() {
        let mut clock = RetentionClock::new(reading("2026-01-01T00:00:00Z", Duration::ZERO), HOUR, None);
        let jumped = |minutes| reading("2036-01-01T00:00:00Z", minutes * MINUTE);
        assert!(clock.retention_time(jumped(1)) < timestamp("2027-01-01T00:00:00Z"));
        let later = ClockReading { wall: timestamp("2036-01-01T01:00:00Z"), uptime: 61 * MINUTE };
        assert_eq!(clock.retention_time(later), later.wall);
    }

    #[test]
    fn a_long_time_between_two_processes_is_doubted_too() {
        let now = reading("2036-01-01T00:00:00Z", HOUR);
        let ten_years = Duration::from_secs(10 * 365 * 24 * 60 * 60);
        let mut clock = RetentionClock::new(now, AGE, Some(ten_years));
        assert_eq!(clock.retention_time(now), timestamp("2026-01-03T00:00:00Z"));
        assert_eq!(
            clock.retention_time(reading("2036-01-02T00:00:00Z", DAY + HOUR)),
            timestamp("2036-01-02T00:00:00Z")
        );
        for (retention, since_last_write, is_pending) in
            [(AGE, 3 * DAY, false), (AGE, 3 * DAY + MINUTE, true), (MINUTE, HOUR, false), (MINUTE, HOUR + MINUTE, true)]
        {
            assert_eq!(
                RetentionClock::new(now, retention, Some(since_last_write)).pending.is_some(),
                is_pending,
                "{since_last_write:?}"
            );
        }
    }

    #[test]
    fn the_time_since_the_start_goes_on() {
        let first = ClockReading::now();
        let second = ClockReading::now();
        assert!(second.uptime >= first.uptime && first.uptime > Duration::ZERO);
    }
}
