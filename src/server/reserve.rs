//! Connections beyond `--max-connections`, for health and metrics. Each answers one request. When all are used, a new one
//! displaces the oldest, so that idle connections cannot lock out a probe.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::state::ConnectionState;

/// The most connections of the reserve.
pub(super) const RESERVE_CONNECTIONS: usize = 32;

/// The open connections of the reserve.
#[derive(Debug)]
pub(super) struct Reserve {
    permits: Arc<Semaphore>,
    /// In the order in which they were accepted.
    open: VecDeque<(AbortHandle, Arc<ConnectionState>)>,
}

impl Reserve {
    pub(super) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(RESERVE_CONNECTIONS)),
            open: VecDeque::with_capacity(RESERVE_CONNECTIONS),
        }
    }

    /// A permit for one more connection. If none is left, the oldest connection without a complete request is closed for it, or
    /// the oldest if all have one.
    pub(super) async fn acquire(&mut self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.open.retain(|(task, _)| !task.is_finished());
        if self.open.len() >= RESERVE_CONNECTIONS {
            let displaced = self.open.iter().position(|(_, state)| !state.is_busy()).unwrap_or(0);
            if let Some((task, _)) = self.open.remove(displaced) {
                task.abort();
            }
        }
        // The runtime drops the aborted task soon, and its permit with it.
        self.permits.clone().acquire_owned().await
    }

    /// Adds a connection that has a permit.
    pub(super) fn push(&mut self, task: AbortHandle, state: Arc<ConnectionState>) {
        self.open.push_back((task, state));
    }
}
