//! Connections beside those that `--max-connections` allows, for health and metrics: each answers one request, and a new one
//! takes the place of the one that has waited longest, so that idle connections cannot keep a probe out.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::state::ConnectionState;

/// How many there are.
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

    /// A permit for one more connection. If all are taken, it is that of the oldest connection without a complete request, or
    /// of the oldest at all.
    pub(super) async fn acquire(&mut self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.open.retain(|(task, _)| !task.is_finished());
        if self.open.len() >= RESERVE_CONNECTIONS {
            let displaced = self.open.iter().position(|(_, state)| !state.is_busy()).unwrap_or(0);
            if let Some((task, _)) = self.open.remove(displaced) {
                task.abort();
            }
        }
        // It is given back as soon as the runtime has dropped the task.
        self.permits.clone().acquire_owned().await
    }

    /// Remembers a connection that has a permit.
    pub(super) fn push(&mut self, task: AbortHandle, state: Arc<ConnectionState>) {
        self.open.push_back((task, state));
    }
}
