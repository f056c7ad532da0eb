//! Reloads files while the server runs. A reload that fails or hangs leaves the previous content in use.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// How long to wait for a read before the next may begin. A slower read, as from a network file system, continues.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The most reads that run at once.
const MAX_CONCURRENT_READS: usize = 4;

/// What a signal reloads.
pub trait Reload: Send + Sync {
    /// The name in log lines.
    fn name(&self) -> &'static str;

    /// Reads the files and uses their new content. Returns false if a reload that began later has already finished; then that
    /// one stays in use. Records in the metrics whether it succeeded.
    ///
    /// # Errors
    ///
    /// The files cannot be read, or break a rule: the file and the reason. The previous content stays in use.
    fn reload(&self) -> Result<bool, String>;

    /// Records a reload that hangs as a failure in the metrics.
    fn record_failure(&self);
}

/// The order in which reloads began, so that none replaces the content of one that began later.
#[derive(Debug, Default)]
pub struct ReloadOrder {
    /// The number of reloads that have begun.
    begun: AtomicU64,
    /// The number of the reload whose content is in use.
    active: Mutex<u64>,
}

impl ReloadOrder {
    /// The number of a reload that begins now.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Calls `activate`, unless the content of a later reload is in use. Returns whether it was called.
    ///
    /// # Errors
    ///
    /// The error of `activate`.
    pub fn activate<E>(&self, number: u64, activate: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
        // A panic cannot leave a number half written.
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if *active > number {
            return Ok(false);
        }
        activate()?;
        *active = number;
        Ok(true)
    }
}

/// Reads the files again each time that `next_signal` returns. Signals that come meanwhile are one more reading, however often.
pub async fn reload_on_signal(mut next_signal: impl AsyncFnMut() -> Option<()>, target: Arc<dyn Reload>) {
    let reads = Arc::new(Semaphore::new(MAX_CONCURRENT_READS));
    let name = target.name();
    while next_signal().await.is_some() {
        if reads.available_permits() == 0 {
            tracing::error!("{name} reload delayed: {MAX_CONCURRENT_READS} earlier reads have not finished");
        }
        // The semaphore is never closed.
        let Ok(permit) = reads.clone().acquire_owned().await else { return };
        match spawn_reload(&target, permit) {
            Ok(done) => {
                let ended = timeout(READ_TIMEOUT, done).await;
                if !matches!(ended, Ok(Ok(()))) {
                    target.record_failure();
                }
                if ended.is_err() {
                    tracing::warn!(
                        after_seconds = READ_TIMEOUT.as_secs_f64(),
                        "{name} reload is slow: still using the previous file"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "{name} not reloaded: cannot start a thread"),
        }
    }
}

/// Starts a reload on its own thread, because the read may hang. The receiver gets a message when it ends.
fn spawn_reload(target: &Arc<dyn Reload>, permit: OwnedSemaphorePermit) -> io::Result<oneshot::Receiver<()>> {
    let (ended, done) = oneshot::channel();
    let target = target.clone();
    std::thread::Builder::new().name("reload".into()).spawn(move || {
        log_result(target.name(), target.reload());
        // Dropped before the message, so that its receiver can start the next read.
        drop(permit);
        let _ = ended.send(());
    })?;
    Ok(done)
}

fn log_result(name: &str, reloaded: Result<bool, String>) {
    match reloaded {
        Ok(true) => tracing::info!("{name} reloaded"),
        Ok(false) => tracing::warn!("{name} reload discarded: a later one has finished first"),
        Err(error) => tracing::error!(%error, "{name} not reloaded: still using the previous file"),
    }
}
