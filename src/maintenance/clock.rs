//! The time that retention uses: the wall clock, with protection against jumps.
//!
//! If the wall clock jumped ahead, all finished subtasks would expire at once, and a deletion cannot be undone. So each reading
//! of the wall clock is compared with a clock that cannot be set.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::{Clock, Timestamp};

/// The largest difference between wall clock and elapsed time that is no jump.
const JUMP_TOLERANCE: Duration = Duration::from_secs(60);

/// The longest time since the last write that is no jump at a start.
const STARTUP_GAP_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// The longest time after which a jump is accepted.
const MAX_CONFIRMATION_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    /// The wall clock.
    pub(super) wall: Timestamp,
    /// The time since boot, including suspension. It cannot be set.
    pub(super) uptime: Duration,
}

impl ClockReading {
    /// The clocks now. If a test has set the clock, both are as far ahead, so that this is no jump.
    pub(super) fn of(clock: &Clock) -> Self {
        let uptime = clock_gettime(ClockId::Boottime);
        // Neither is ever negative.
        let uptime = Duration::new(uptime.tv_sec.unsigned_abs(), uptime.tv_nsec.unsigned_abs() as u32);
        let (offset, is_ahead) = (clock.offset_nanoseconds(), clock.offset_nanoseconds() >= 0);
        let shift = Duration::from_nanos(offset.unsigned_abs());
        let uptime = if is_ahead { uptime.saturating_add(shift) } else { uptime.saturating_sub(shift) };
        Self { wall: clock.now(), uptime }
    }
}

/// A jump of the wall clock that is not accepted yet.
#[derive(Debug, Clone, Copy)]
struct PendingJump {
    /// Its size in milliseconds; negative for a jump back.
    offset_millis: i64,
    /// When it was noticed, as time since boot.
    since: Duration,
}

/// Follows the wall clock, and accepts a jump only after a time.
#[derive(Debug)]
pub(super) struct RetentionClock {
    /// The latest reading without a jump, or after an accepted one.
    accepted: ClockReading,
    pending: Option<PendingJump>,
    /// After which time a jump is accepted.
    confirmation_time: Duration,
}

impl RetentionClock {
    /// A clock for subtasks that are kept for `retention`. `since_last_write` is how long ago, by the wall clock, an earlier
    /// process last wrote to the data directory. That write is the only reading from before the start.
    pub(super) fn new(now: ClockReading, retention: Duration, since_last_write: Option<Duration>) -> Self {
        // Once `retention` has passed, whatever was stored at the jump is expired by either time.
        let mut clock = Self { accepted: now, pending: None, confirmation_time: retention.min(MAX_CONFIRMATION_TIME) };
        if let Some(since_last_write) =
            since_last_write.filter(|since_last_write| *since_last_write > STARTUP_GAP_TOLERANCE.max(retention / 10))
        {
            clock.accepted.wall = now.wall.before(since_last_write);
            clock.pending = Some(PendingJump { offset_millis: millis(since_last_write), since: now.uptime });
            tracing::warn!(
                ahead_seconds = since_last_write.as_secs(),
                until_seconds = clock.confirmation_time.as_secs(),
                "wall clock is far ahead of the last write to the data directory: retention ignores the time between, for \
                 until_seconds"
            );
        }
        clock
    }

    /// The time that retention uses for these readings: never later than the wall clock.
    pub(super) fn retention_time(&mut self, now: ClockReading) -> Timestamp {
        let offset_millis = self.offset_millis(now);
        let is_near = |other: i64| (offset_millis - other).unsigned_abs() <= JUMP_TOLERANCE.as_millis() as u64;
        match self.pending {
            _ if is_near(0) => {
                if self.pending.take().is_some() {
                    tracing::info!("wall clock agrees with elapsed time again");
                }
                self.accepted = now;
            }
            Some(pending) if !is_near(pending.offset_millis) => self.suspect_jump(offset_millis, now),
            Some(pending) if now.uptime.saturating_sub(pending.since) >= self.confirmation_time => {
                tracing::warn!(
                    ahead_seconds = offset_millis / 1000,
                    "wall clock jump accepted: retention uses the new time"
                );
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
            "wall clock jumped: retention uses the earlier of the old and the new time until the clock agrees with elapsed \
             time again, or for until_seconds"
        );
    }

    /// How many milliseconds the wall clock is ahead of the latest accepted reading plus the time elapsed since.
    fn offset_millis(&self, now: ClockReading) -> i64 {
        let ClockReading { wall, uptime } = self.accepted;
        millis(wall.until(now.wall)) - millis(now.wall.until(wall)) - millis(now.uptime.saturating_sub(uptime))
    }
}

/// Milliseconds of a duration. Those of any two timestamps fit.
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

    /// A reading of the wall clock and of the time since boot.
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
    fn elapsed_time_and_small_corrections_are_followed() {
        let mut clock = clock_at_new_year();
        for (wall, uptime) in [
            ("2026-01-01T00:01:00Z", MINUTE),
            ("2026-01-01T00:02:59Z", 2 * MINUTE),
            ("2026-01-01T00:02:10Z", 3 * MINUTE),
            // No reading for a day.
            ("2026-01-02T00:02:00Z", DAY + 3 * MINUTE),
        ] {
            assert_eq!(clock.retention_time(reading(wall, uptime)), timestamp(wall), "{wall}");
        }
    }

    #[test]
    fn a_jump_ahead_is_accepted_after_a_day() {
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
    fn a_reverted_jump_ends_at_once_and_a_second_jump_waits_a_day_again() {
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
    fn a_clock_set_back_is_used_at_once_and_its_correction_is_no_jump() {
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
    fn with_a_short_retention_a_jump_is_accepted_after_that_time() {
        let mut clock = RetentionClock::new(reading("2026-01-01T00:00:00Z", Duration::ZERO), HOUR, None);
        let jumped = |minutes| reading("2036-01-01T00:00:00Z", minutes * MINUTE);
        assert!(clock.retention_time(jumped(1)) < timestamp("2027-01-01T00:00:00Z"));
        let later = ClockReading { wall: timestamp("2036-01-01T01:00:00Z"), uptime: 61 * MINUTE };
        assert_eq!(clock.retention_time(later), later.wall);
    }

    #[test]
    fn a_long_time_since_the_last_write_is_a_pending_jump() {
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
    fn the_time_since_boot_increases() {
        let [first, second] = [(); 2].map(|()| ClockReading::of(&Clock::default()));
        assert!(second.uptime >= first.uptime && first.uptime > Duration::ZERO);
    }
}
