//! Submitted changes, whose results are pending.

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::core::Draft;
use super::memory::View;
use super::types::{Outcome, StoreError};

/// Sends the result of a planned change, given whether it is durable and applied.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Plans a change; given an error instead of a draft, it passes that on.
pub(super) type Plan = Box<dyn for<'d, 'v> FnOnce(Result<&'d mut Draft<'v, View<'v>>, StoreError>) -> Reply + Send>;

/// A change of about `size` subtasks.
pub(super) struct Work {
    pub(super) size: usize,
    pub(super) plan: Plan,
}

/// The result of a change, once there is one. If the sender is dropped the committer has crashed.
#[derive(Debug)]
pub(super) struct Pending<A>(oneshot::Receiver<Result<A, StoreError>>);

impl<A: Send + 'static> Pending<A> {
    /// A change, and the receiver of its result.
    pub(super) fn new(
        plan: impl for<'d, 'v> FnOnce(&'d mut Draft<'v, View<'v>>) -> Result<A, StoreError> + Send + 'static,
    ) -> (Plan, Self) {
        let (reply, result) = oneshot::channel();
        let plan: Plan = Box::new(move |draft| {
            let planned = draft.and_then(plan);
            // The receiver may have been dropped.
            Box::new(move |durable| drop(reply.send(durable.and(planned))))
        });
        (plan, Self(result))
    }

    /// Blocks the thread until there is a result.
    pub(super) fn wait(mut self) -> Result<A, StoreError> {
        match self.0.try_recv() {
            // A store in memory has replied by now, so it may be called from an async task.
            Ok(result) => result,
            Err(TryRecvError::Empty) => self.0.blocking_recv().unwrap_or(Err(StoreError::Broken)),
            Err(TryRecvError::Closed) => Err(StoreError::Broken),
        }
    }

    /// Waits for the result.
    pub(super) async fn get(self) -> Result<A, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Broken))
    }
}

/// A submitted change.
#[derive(Debug)]
pub struct Submitted<A = Outcome>(pub(super) Pending<A>);

impl<A: Send + 'static> Submitted<A> {
    /// Waits until the change is durable and counted, or has failed.
    ///
    /// # Errors
    ///
    /// If the change is not durable and does not count, or the store is broken.
    pub async fn outcome(self) -> Result<A, StoreError> {
        self.0.get().await
    }
}

/// A report that the store could not accept without blocking.
pub struct Deferred {
    pub(super) work: Work,
    pub(super) pending: Pending<Outcome>,
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deferred").field("size", &self.work.size).finish_non_exhaustive()
    }
}
