//! Limits calls to the identity service: few at once, and one a second while it is down.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The most calls at once. The server reserves file descriptors for them.
const MAX_CONCURRENT_CALLS: usize = 32;

/// After this many calls in a row without a response the service counts as down.
const FAILURES_UNTIL_DOWN: u32 = 5;

/// How often a service that is down is called, to notice when it is up again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Decides whether a call may be made.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    calls: Semaphore,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// The number of calls without a response since the last response.
    failures: u32,
    /// The earliest time of the next probe.
    next_probe: Option<Instant>,
    warned_at: Option<Instant>,
}

/// Why a call is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallRefused {
    /// The limit of concurrent calls is reached.
    Busy,
    /// The service is down, and the next probe is not due yet.
    Down,
}

impl CircuitBreaker {
    pub(super) fn new() -> Self {
        Self { calls: Semaphore::new(MAX_CONCURRENT_CALLS), health: Mutex::default() }
    }

    /// Begins a call, which lasts as long as the permit is held.
    pub(super) fn try_acquire(&self, now: Instant) -> Result<SemaphorePermit<'_>, CallRefused> {
        let permit = self.calls.try_acquire().map_err(|_| CallRefused::Busy)?;
        self.with_health(|health| {
            if health.failures < FAILURES_UNTIL_DOWN {
                return Ok(permit);
            }
            if health.next_probe.is_some_and(|next| now < next) {
                return Err(CallRefused::Down);
            }
            health.next_probe = Some(now + PROBE_INTERVAL);
            Ok(permit)
        })
    }

    /// Records a call with a response of any status.
    pub(super) fn record_success(&self) {
        self.with_health(|health| health.failures = 0);
    }

    /// Records a call without a response.
    pub(super) fn record_failure(&self, now: Instant) {
        self.with_health(|health| {
            health.failures = health.failures.saturating_add(1);
            if health.failures == FAILURES_UNTIL_DOWN {
                health.next_probe = Some(now + PROBE_INTERVAL);
            }
        });
    }

    /// Whether to log a failure: once a second, because any caller can cause failures.
    pub(super) fn may_warn(&self, now: Instant) -> bool {
        self.with_health(|health| {
            let may = health.warned_at.is_none_or(|before| now.saturating_duration_since(before) >= PROBE_INTERVAL);
            if may {
                health.warned_at = Some(now);
            }
            may
        })
    }

    fn with_health<T>(&self, each: impl FnOnce(&mut Health) -> T) -> T {
        // A panic cannot leave a number or a time half written.
        each(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_calls_are_limited() {
        let (breaker, now) = (CircuitBreaker::new(), Instant::now());
        let mut held: Vec<_> = (0..MAX_CONCURRENT_CALLS).map(|_| breaker.try_acquire(now).unwrap()).collect();
        assert_eq!(breaker.try_acquire(now).unwrap_err(), CallRefused::Busy);
        held.pop();
        assert!(breaker.try_acquire(now).is_ok());
    }

    #[test]
    fn a_service_that_is_down_is_called_once_a_second() {
        let (breaker, start) = (CircuitBreaker::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..4 {
            breaker.record_failure(start);
        }
        assert!(breaker.try_acquire(start).is_ok());
        breaker.record_success();
        for _ in 0..5 {
            assert!(breaker.try_acquire(start).is_ok());
            breaker.record_failure(start);
        }
        assert_eq!(breaker.try_acquire(at(0)).unwrap_err(), CallRefused::Down);
        assert_eq!(breaker.try_acquire(at(999)).unwrap_err(), CallRefused::Down);
        assert!(breaker.try_acquire(at(1000)).is_ok(), "the probe");
        assert_eq!(breaker.try_acquire(at(1000)).unwrap_err(), CallRefused::Down);
        breaker.record_failure(at(1500));
        assert_eq!(breaker.try_acquire(at(1999)).unwrap_err(), CallRefused::Down);
        assert!(breaker.try_acquire(at(2000)).is_ok());
        breaker.record_success();
        assert!((0..100).all(|_| breaker.try_acquire(at(2001)).is_ok()));
    }
}
