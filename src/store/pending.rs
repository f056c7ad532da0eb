//! Submitted changes, whose results are pending.

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};

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
pub(super) struct Pending<A> {
    result: oneshot::Receiver<Result<A, StoreError>>,
    /// Whether the database does not answer, for a change of one.
    is_down: Option<watch::Receiver<bool>>,
}

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
        (plan, Self { result, is_down: None })
    }

    /// The result of a change of a database. It is an error as soon as the database does not answer.
    pub(super) fn of_database(
        result: oneshot::Receiver<Result<A, StoreError>>,
        is_down: watch::Receiver<bool>,
    ) -> Self {
        Self { result, is_down: Some(is_down) }
    }

    /// Blocks the thread until there is a result.
    pub(super) fn wait(mut self) -> Result<A, StoreError> {
        match self.result.try_recv() {
            // A store in memory has replied by now, so it may be called from an async task.
            Ok(result) => result,
            Err(TryRecvError::Empty) => self.result.blocking_recv().unwrap_or(Err(StoreError::Broken)),
            Err(TryRecvError::Closed) => Err(StoreError::Broken),
        }
    }

    /// Waits for the result.
    pub(super) async fn get(self) -> Result<A, StoreError> {
        let Self { result, is_down } = self;
        let Some(mut is_down) = is_down else { return result.await.unwrap_or(Err(StoreError::Broken)) };
        tokio::select! {
            biased;
            result = result => result.unwrap_or(Err(StoreError::Unavailable)),
            Ok(_) = is_down.wait_for(|is_down| *is_down) => Err(StoreError::Unavailable),
        }
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
    pub(super) work: DeferredWork,
    pub(super) pending: Pending<Outcome>,
}

/// What is still to be submitted.
pub(super) enum DeferredWork {
    Embedded(Work),
    /// Enqueues the change; blocks while the queue is full.
    Database(Box<dyn FnOnce() + Send>),
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deferred").finish_non_exhaustive()
    }
}
