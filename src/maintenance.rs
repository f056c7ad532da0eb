//! Background work on the store while the server is ready: verifying counters, and deleting expired subtasks.

mod clock;
mod retention;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep;

use self::clock::ClockReading;
pub use self::retention::expire_all;
use crate::domain::Clock;
use crate::metrics::Metrics;
use crate::priority;
use crate::store::{Store, StoreError};

/// How many records or counters a slice of the verification compares. Reports wait for some hundred microseconds meanwhile.
const VERIFY_SLICE: usize = 8192;

/// The pause between two slices: verifying ten million subtasks takes half a minute.
const VERIFY_PAUSE: Duration = Duration::from_millis(20);

/// The time from the end of a verification to the start of the next.
const VERIFY_INTERVAL: Duration = Duration::from_secs(60);

/// Runs the background work. Subtasks expire by `clock`. It ends only if a part of it panics.
///
/// # Errors
///
/// That panic.
pub async fn run(
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
    retain: Option<Duration>,
    clock: &Clock,
) -> Result<(), JoinError> {
    let expiry = async {
        match retain {
            Some(age) => retention::expire(store, metrics, age, || ClockReading::of(clock)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Err(crashed) = verify_counters(store, metrics) => Err(crashed),
        Err(crashed) = expiry => Err(crashed),
    }
}

/// Compares the counters with the records, again and again, and reports a mismatch.
async fn verify_counters(store: &Arc<Store>, metrics: &Metrics) -> Result<Infallible, JoinError> {
    loop {
        let store = store.clone();
        match spawn_low_priority(move || store.recount(VERIFY_SLICE)).await? {
            Ok(None) => sleep(VERIFY_PAUSE).await,
            Ok(Some(mismatch)) => {
                metrics.record_verification(mismatch);
                if mismatch != 0 {
                    tracing::error!(mismatch, "counters do not match the records");
                }
                sleep(VERIFY_INTERVAL).await;
            }
            Err(error) => log_and_park("counter verification", error).await,
        }
    }
}

/// Runs work on a blocking thread of low priority.
async fn spawn_low_priority<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    spawn_blocking(|| {
        priority::lower();
        work()
    })
    .await
}

/// Logs the error once and never returns: the store is broken until a restart, which `/readyz` reports.
async fn log_and_park(what: &str, error: StoreError) -> ! {
    tracing::error!(%error, "{what} stopped");
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use super::*;
    use crate::domain::JobTypes;
    use crate::metrics::InFlight;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_counter_mismatch_is_logged_and_measured() {
        let (log, metrics) = (Log::default(), Arc::new(Metrics::new().unwrap()));
        let writer = log.clone();
        let _logged = tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish(),
        );
        let store = Arc::new(Store::drifted_by(5));
        let is_measured_in_time = async {
            let is_measured = || {
                let metrics = metrics.render(&store, &JobTypes::default(), true, InFlight::default()).unwrap();
                String::from_utf8(metrics).unwrap().contains("\nsubjobs_recount_drift 5\n")
            };
            while !is_measured() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let clock = Clock::default();
        tokio::select! {
            ended = run(&store, &metrics, None, &clock) => panic!("{ended:?}"),
            is_measured_in_time = tokio::time::timeout(Duration::from_secs(30), is_measured_in_time) => is_measured_in_time.unwrap(),
        }
        assert_eq!(store.check(), Err(StoreError::Drifted(5)));
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(
            logged.contains("ERROR") && logged.contains("counters do not match the records mismatch=5"),
            "{logged}"
        );
    }
}
