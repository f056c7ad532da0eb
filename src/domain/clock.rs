//! The clock by which subtasks and tokens expire: the system's, or one that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Timestamp;

/// The current time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<SettableClock>);

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(clock) => clock.now(),
        }
    }

    /// How far it is ahead of the system's clock, in nanoseconds; negative if it is behind.
    pub fn offset_nanoseconds(&self) -> i64 {
        self.0.as_ref().map_or(0, SettableClock::offset_nanoseconds)
    }
}

impl From<SettableClock> for Clock {
    fn from(clock: SettableClock) -> Self {
        Self(Some(clock))
    }
}

/// A clock that runs as the system's does, ahead of it or behind. A clone is the same clock.
#[derive(Debug, Clone, Default)]
pub struct SettableClock(Arc<AtomicI64>);

impl SettableClock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        Timestamp::now().shifted(self.offset_nanoseconds())
    }

    /// How far it is ahead of the system's clock, in nanoseconds; negative if it is behind.
    pub fn offset_nanoseconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets how far it is ahead.
    pub fn set_offset_nanoseconds(&self, offset: i64) {
        self.0.store(offset, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_settable_clock_is_ahead_or_behind_and_goes_on() {
        let settable = SettableClock::default();
        let clock = Clock::from(settable.clone());
        assert!(Timestamp::now() <= clock.now() && clock.now() <= Timestamp::now());
        settable.set_offset_nanoseconds(90_000_000_000);
        let ahead = Timestamp::now().until(clock.now());
        assert!((Duration::from_secs(90)..Duration::from_secs(120)).contains(&ahead), "{ahead:?}");
        settable.set_offset_nanoseconds(-1);
        assert!(clock.now() < Timestamp::now());
        assert_eq!((clock.offset_nanoseconds(), Clock::default().offset_nanoseconds()), (-1, 0));
    }
}
