//! The shutdown: the public listener drains first, then the store closes, then the internal listener drains.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ServerError;
use super::listener_task::ListenerTask;
use crate::api::Api;
use crate::internal::RunningReports;
use crate::readiness::Phase;
use crate::store::Store;

/// How long the shutdown waits for background work of the store, for example a snapshot.
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the shutdown ends.
pub(super) struct Shutdown<'a> {
    pub(super) api: &'a Api,
    pub(super) reports: &'a RunningReports,
    pub(super) public: ListenerTask,
    pub(super) internal: ListenerTask,
}

impl Shutdown<'_> {
    /// Announces the drain, and begins it after `delay`. Requests that then run for longer than `limit` are aborted: returns how
    /// many these were.
    ///
    /// # Errors
    ///
    /// If a task of the server panics.
    pub(super) async fn run(mut self, delay: Duration, limit: Duration) -> Result<usize, ServerError> {
        tracing::info!(delay_seconds = delay.as_secs_f64(), timeout_seconds = limit.as_secs_f64(), "draining");
        self.announce();
        sleep(delay).await;
        // One deadline for both listeners, so that `--drain` bounds the whole drain.
        let deadline = Instant::now() + limit;
        let public_aborted = self.public.drain(deadline).await?;
        self.end_reports(deadline).await;
        close_store(self.api.store.clone()).await?;
        // The internal listener ends last, so that health and metrics are answered during the drain.
        let aborted = public_aborted + self.internal.drain(deadline).await?;
        if aborted > 0 {
            tracing::warn!(aborted, "drain timed out: running requests were aborted");
        }
        tracing::info!("stopped");
        Ok(aborted)
    }

    /// Tells probes, waiting requests and clients with open connections that the server drains.
    fn announce(&self) {
        self.api.readiness.enter(Phase::Draining);
        self.api.store.end_watches();
        self.api.overview.end();
        self.public.announce_drain();
    }

    /// Answers new reports with 503, and waits for the running ones.
    async fn end_reports(&self, deadline: Instant) {
        self.api.readiness.enter(Phase::Ending);
        let _ = timeout_at(deadline, self.reports.ended()).await;
    }
}

/// Closes the store on a blocking thread, for at most [`STORE_CLOSE_TIMEOUT`].
async fn close_store(store: Arc<Store>) -> Result<(), ServerError> {
    let closed = tokio::task::spawn_blocking(move || store.close());
    match timeout(STORE_CLOSE_TIMEOUT, closed).await {
        Ok(closed) => closed?,
        // All acknowledged reports are on disk or committed already, so ending the process now loses none.
        Err(_) => {
            tracing::warn!(after_seconds = STORE_CLOSE_TIMEOUT.as_secs_f64(), "closing the store timed out");
        }
    }
    Ok(())
}
