//! The task that serves one listener.

use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::drain::Drain;
use super::listener::BoundListener;

/// A task that serves a listener until it has drained. Dropping the value aborts the task.
pub(super) struct ListenerTask {
    task: JoinHandle<usize>,
    drain: Arc<Drain>,
}

impl ListenerTask {
    /// Starts to serve.
    pub(super) fn spawn(listener: BoundListener) -> Self {
        let drain = Arc::<Drain>::default();
        Self { task: tokio::spawn(listener.serve(drain.clone())), drain }
    }

    /// From now on each response closes its connection, so that a gateway opens its next connection elsewhere.
    pub(super) fn announce_drain(&self) {
        self.drain.announce();
    }

    /// Drains the listener. Aborts the requests that still run at `deadline`, and returns how many these were.
    ///
    /// # Errors
    ///
    /// If the task panics.
    pub(super) async fn drain(&mut self, deadline: Instant) -> Result<usize, JoinError> {
        self.drain.begin(deadline);
        self.wait().await
    }

    /// Waits for the end of the task: without a drain it ends only by a panic.
    ///
    /// # Errors
    ///
    /// If the task panics.
    pub(super) async fn wait(&mut self) -> Result<usize, JoinError> {
        (&mut self.task).await
    }
}

impl Drop for ListenerTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}
