//! Deletes expired subtasks, a bounded number at a time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::sleep;

use super::clock::{ClockReading, RetentionClock};
use super::{log_and_park, spawn_low_priority};
use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// How many records a slice of a pass checks.
const EXPIRE_SLICE: u32 = 64 * 1024;

/// The shortest and the longest pause between two passes.
const MIN_PASS_INTERVAL: Duration = Duration::from_millis(500);
const MAX_PASS_INTERVAL: Duration = Duration::from_secs(5);

/// A pass deletes at most all subtasks divided by this, so that an operator can act before all are deleted.
const PASS_DIVISOR: u64 = 8;

/// A pass may delete this many in any case. The store deletes no fewer at once.
const MIN_PASS_LIMIT: u64 = 1024;

/// Deletes subtasks that ended longer ago than `retention`, soon after they expire by the clocks that `read_clocks` reads.
pub(super) async fn expire(
    store: &Arc<Store>,
    metrics: &Metrics,
    retention: Duration,
    read_clocks: impl Fn() -> ClockReading,
) -> Result<Infallible, JoinError> {
    let interval = (retention / 10).clamp(MIN_PASS_INTERVAL, MAX_PASS_INTERVAL);
    let mut clock = RetentionClock::new(read_clocks(), retention, store.unwritten_before());
    let mut from = 0;
    loop {
        let pass_store = store.clone();
        let max_deleted = match spawn_low_priority(move || pass_store.sub_jobs()).await? {
            Ok(sub_jobs) => (sub_jobs / PASS_DIVISOR).max(MIN_PASS_LIMIT),
            Err(StoreError::Unavailable) => MIN_PASS_LIMIT,
            Err(error) => log_and_park("retention", error).await,
        };
        let mut deleted = 0;
        while deleted < max_deleted {
            let (step_store, now) = (store.clone(), clock.retention_time(read_clocks()));
            match spawn_low_priority(move || step_store.expire(retention, now, from, EXPIRE_SLICE)).await? {
                Ok(step) => {
                    metrics.count_expired(step.count);
                    deleted += step.count;
                    from = step.next;
                }
                // The store has logged why. The next pass tries again.
                Err(StoreError::NotStored | StoreError::Unavailable | StoreError::Refused) => break,
                Err(error) => log_and_park("retention", error).await,
            }
            if from == 0 {
                break;
            }
        }
        if deleted > 0 {
            tracing::info!(deleted, "expired subtasks deleted: they ended longer ago than --retain-finished");
        }
        sleep(interval).await;
    }
}

/// Deletes all subtasks that ended longer than `retention` before `now`, and returns their number. Blocks until that is durable.
///
/// # Errors
///
/// If the store is broken, or changes cannot be stored.
pub fn expire_all(store: &Store, retention: Duration, now: Timestamp) -> Result<u64, StoreError> {
    let (mut from, mut deleted) = (0, 0);
    loop {
        let step = store.expire(retention, now, from, EXPIRE_SLICE)?;
        (from, deleted) = (step.next, deleted + step.count);
        if from == 0 {
            return Ok(deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::domain::{Details, JobId, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn sub_job_ended_at(id: u64, end_time: &str) -> SubJob {
        SubJob {
            id: SubJobId::parse(&id.to_string()).unwrap(),
            job_id: JobId::parse("j").unwrap(),
            job_type: JobTypes::default().iter().next().unwrap(),
            status: Status::Success,
            version: Version::try_from(0).unwrap(),
            details: Some(Box::new(Details { end_time: end_time.parse().ok(), ..Details::default() })),
        }
    }

    /// Retention with clocks that the test sets, on a store in memory.
    struct Retention {
        store: Arc<Store>,
        reading: Arc<Mutex<ClockReading>>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Retention {
        fn start(ends: &[(u64, &str)]) -> Self {
            let store = Arc::new(Store::in_memory(JobTypes::default().len()));
            let mut ids = 0..;
            for (number, end) in ends {
                let batch = ids.by_ref().take(*number as usize).map(|id| sub_job_ended_at(id, end)).collect();
                store.report(&ProjectId::parse("p").unwrap(), batch).unwrap();
            }
            let start = ClockReading { wall: "2026-01-01T00:00:00Z".parse().unwrap(), uptime: Duration::ZERO };
            let reading = Arc::new(Mutex::new(start));
            let (task_store, read_clocks) = (store.clone(), reading.clone());
            let task = tokio::spawn(async move {
                let metrics = Metrics::new().unwrap();
                expire(&task_store, &metrics, HOUR, move || *read_clocks.lock().unwrap()).await.unwrap();
            });
            Self { store, reading, task }
        }

        fn set_clocks(&self, wall: &str, uptime: Duration) {
            *self.reading.lock().unwrap() = ClockReading { wall: wall.parse::<Timestamp>().unwrap(), uptime };
        }

        /// Waits for the end of a pass, and returns how many subtasks are left.
        async fn await_pass(&self) -> u64 {
            sleep(MAX_PASS_INTERVAL).await;
            self.store.sub_jobs().unwrap()
        }
    }

    impl Drop for Retention {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_deletes_at_most_an_eighth_or_1024() {
        let retention = Retention::start(&[(20_000, "2020-01-01T00:00:00Z")]);
        let (mut before, mut passes) = (20_000, 0);
        while before > 0 {
            let left = retention.await_pass().await;
            // The store deletes up to 1,024 at once.
            assert!(before - left <= (before / 8).max(1024) + 1024, "{before} {left}");
            (before, passes) = (left, passes + 1);
        }
        assert!((8..40).contains(&passes), "{passes}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_jump_expires_nothing_early() {
        let ends = [(10, "2025-12-31T22:00:00Z"), (10, "2025-12-31T23:30:00Z"), (10, "2026-01-01T00:00:00Z")];
        let retention = Retention::start(&ends);
        assert_eq!(retention.await_pass().await, 20);
        retention.set_clocks("2036-01-01T00:00:10Z", Duration::from_secs(10));
        assert_eq!(retention.await_pass().await, 20);
        assert_eq!(retention.await_pass().await, 20);
        // The monotonic clock continues.
        retention.set_clocks("2036-01-01T00:35:00Z", Duration::from_secs(35 * 60));
        assert_eq!(retention.await_pass().await, 10);
        retention.set_clocks("2026-01-01T00:40:00Z", Duration::from_secs(40 * 60));
        assert_eq!(retention.await_pass().await, 10);
        retention.set_clocks("2036-01-01T00:40:01Z", Duration::from_secs(40 * 60));
        assert_eq!(retention.await_pass().await, 10);
        retention.set_clocks("2036-01-01T01:41:00Z", Duration::from_secs(101 * 60));
        assert_eq!(retention.await_pass().await, 0);
    }
}
