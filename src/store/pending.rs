//! Changes that have been asked for and not been answered yet.

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::core::Draft;
use super::memory::View;
use super::{Outcome, StoreError};

/// Answers who asked, once it is known whether what was planned is durable and counts.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Plans a change, unless none can be made.
pub(super) type Plan = Box<dyn for<'d, 'v> FnOnce(Result<&'d mut Draft<'v, View<'v>>, StoreError>) -> Reply + Send>;

/// What has become, or will become, of a change. Of what is never answered, a crash has come between.
#[derive(Debug)]
pub(super) struct Pending<A>(oneshot::Receiver<Result<A, StoreError>>);

impl<A: Send + 'static> Pending<A> {
    /// A change, and where its answer comes.
    pub(super) fn new(
        plan: impl for<'d, 'v> FnOnce(&'d mut Draft<'v, View<'v>>) -> Result<A, StoreError> + Send + 'static,
    ) -> (Plan, Self) {
        let (reply, answer) = oneshot::channel();
        let plan: Plan = Box::new(move |draft| {
            let planned = draft.and_then(plan);
            // Whoever asked may have gone.
            Box::new(move |durable| drop(reply.send(durable.and(planned))))
        });
        (plan, Self(answer))
    }

    /// Waits on a thread that may be held up.
    pub(super) fn wait(mut self) -> Result<A, StoreError> {
        match self.0.try_recv() {
            // A store in memory has answered by now, and may be asked anywhere.
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => self.0.blocking_recv().unwrap_or(Err(StoreError::Broken)),
            Err(TryRecvError::Closed) => Err(StoreError::Broken),
        }
    }

    /// Waits without a thread.
    pub(super) async fn get(self) -> Result<A, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Broken))
    }
}

/// A report that has been handed over.
#[derive(Debug)]
pub struct Submitted<A = Outcome>(pub(super) Pending<A>);

impl<A: Send + 'static> Submitted<A> {
    /// Waits until it counts and is durable, or is known not to.
    pub async fn outcome(self) -> Result<A, StoreError> {
        self.0.get().await
    }
}
