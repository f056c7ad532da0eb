//! Reading the access file again while the server runs, such that no reading can end it, hold it up, or undo a later one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::{AccessError, AccessHandle};

/// How long a reading is waited for before another may begin. One that takes longer, as on a network's disk, goes on.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Readings at once.
const MAX_CONCURRENT_READS: usize = 4;

/// Reads the file again each time that `next_signal` returns. Signals that come meanwhile are one more reading, however often.
pub async fn reload_on_signal(mut next_signal: impl AsyncFnMut() -> Option<()>, access: Arc<AccessHandle>) {
    let reads = Arc::new(Semaphore::new(MAX_CONCURRENT_READS));
    while next_signal().await.is_some() {
        if reads.available_permits() == 0 {
            tracing::error!(
                "the access file is not read again before an earlier reading has ended: {MAX_CONCURRENT_READS} hang"
            );
        }
        // It is never closed.
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
                        "the access file is still being read; the one before stays in force"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "the access file is not read again: no thread"),
        }
    }
}

/// Begins a reading on a thread of its own, since it may never end; the receiver hears when it has.
fn spawn_reload(access: &Arc<AccessHandle>, permit: OwnedSemaphorePermit) -> io::Result<oneshot::Receiver<()>> {
    let (ended, done) = oneshot::channel();
    let access = access.clone();
    std::thread::Builder::new().name("access".into()).spawn(move || {
        log_result(access.reload());
        // Before it is told, so that whoever hears it may begin another.
        drop(permit);
        let _ = ended.send(());
    })?;
    Ok(done)
}

fn log_result(reloaded: Result<bool, AccessError>) {
    match reloaded {
        Ok(true) => tracing::info!("the access file has been read again and is in force"),
        Ok(false) => tracing::warn!("a reading of the access file has come too late: a later one is in force"),
        Err(error) => tracing::error!(%error, "the access file cannot be used; the one before stays in force"),
    }
}
