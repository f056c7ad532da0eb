//! Reloads the access file while the server runs. A reload that fails or hangs leaves the current access in use.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::{AccessError, AccessHandle};

/// How long to wait for a read before the next may begin. A slower read, as from a network file system, continues.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The most reads that run at once.
const MAX_CONCURRENT_READS: usize = 4;

/// Reads the file again each time that `next_signal` returns. Signals that come meanwhile are one more reading, however often.
pub async fn reload_on_signal(mut next_signal: impl AsyncFnMut() -> Option<()>, access: Arc<AccessHandle>) {
    let reads = Arc::new(Semaphore::new(MAX_CONCURRENT_READS));
    while next_signal().await.is_some() {
        if reads.available_permits() == 0 {
            tracing::error!("access file reload delayed: {MAX_CONCURRENT_READS} earlier reads have not finished");
        }
        // The semaphore is never closed.
        let Ok(permit) = reads.clone().acquire_owned().await else { return };
        match spawn_reload(&access, permit) {
            Ok(done) => {
                let ended = timeout(READ_TIMEOUT, done).await;
                if !matches!(ended, Ok(Ok(()))) {
                    access.record_reload(false);
                }
                if ended.is_err() {
                    tracing::warn!(
                        after_seconds = READ_TIMEOUT.as_secs_f64(),
                        "access file reload is slow: still using the previous file"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "access file not reloaded: cannot start a thread"),
        }
    }
}

/// Starts a reload on its own thread, because the read may hang. The receiver gets a message when it ends.
fn spawn_reload(access: &Arc<AccessHandle>, permit: OwnedSemaphorePermit) -> io::Result<oneshot::Receiver<()>> {
    let (ended, done) = oneshot::channel();
    let access = access.clone();
    std::thread::Builder::new().name("access".into()).spawn(move || {
        log_result(access.reload());
        // Dropped before the message, so that its receiver can start the next read.
        drop(permit);
        let _ = ended.send(());
    })?;
    Ok(done)
}

fn log_result(reloaded: Result<bool, AccessError>) {
    match reloaded {
        Ok(true) => tracing::info!("access file reloaded"),
        Ok(false) => tracing::warn!("access file reload discarded: a later one has finished first"),
        Err(error) => tracing::error!(%error, "access file not reloaded: still using the previous file"),
    }
}
