//! Runs lists on a few connections. A list that ends without an answer ends in the database too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{IsolationLevel, Transaction};

use super::connect::{Connection, Purpose, connect};
use super::error::ReadError;
use super::target::Target;
use super::turns::{Turn, Turns};
use crate::domain::ProjectId;
use crate::store::types::StoreError;

/// How long a list may take, with the wait for its turn: a deep offset of a large project reads many entries of an index.
const LIST_LIMIT: Duration = Duration::from_millis(1900);

/// How long the end of a statement that nobody waits for may take.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// The connections that are not in use. There are as many as turns at most.
type Idle = Mutex<Vec<Connection>>;

/// The connections for lists.
#[derive(Debug)]
pub(super) struct Lists {
    turns: Arc<Turns>,
    idle: Idle,
}

impl Default for Lists {
    fn default() -> Self {
        Self { turns: Turns::new(), idle: Idle::default() }
    }
}

impl Lists {
    /// Reads in a transaction in which all statements see the same moment.
    ///
    /// # Errors
    ///
    /// If the database does not answer in time, or what it answers cannot be read.
    pub(super) async fn run<A>(
        &self,
        target: &Target,
        project: &ProjectId,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<A, ReadError>,
    ) -> Result<A, StoreError> {
        let deadline = Instant::now() + LIST_LIMIT;
        let run = async {
            let turn = self.turns.acquire(project).await;
            let idle = self.idle().pop();
            let connection = match idle.filter(|open| !open.client.is_closed()) {
                Some(open) => open,
                None => connect(target, Purpose::Upkeep).await.map_err(|_| StoreError::Unavailable)?,
            };
            let mut list = List { running: Some((connection, turn)), target };
            match list.read(deadline, work).await {
                Ok(answer) => {
                    self.idle().extend(list.running.take().map(|(connection, _turn)| connection));
                    Ok(answer)
                }
                Err(error) => {
                    tracing::error!(%error, "a list failed");
                    Err(StoreError::Unavailable)
                }
            }
        };
        timeout_at(deadline, run).await.unwrap_or(Err(StoreError::Unavailable))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list that is being read.
struct List<'a> {
    /// `None` after its answer.
    running: Option<(Connection, Turn)>,
    target: &'a Target,
}

impl List<'_> {
    async fn read<A>(
        &mut self,
        deadline: Instant,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<A, ReadError>,
    ) -> Result<A, ReadError> {
        // It is there until the answer.
        let (connection, _) = self.running.as_mut().expect("the list has no answer yet");
        let snapshot = connection.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let transaction = snapshot.read_only(true).start().await?;
        // For a server that is lost before it cancels the statement.
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        transaction.batch_execute(&format!("SET LOCAL statement_timeout = {left}")).await?;
        work(&transaction).await
    }
}

impl Drop for List<'_> {
    /// Without an answer a statement may be running. Its turn passes on when the database has ended it.
    fn drop(&mut self) {
        let (Some((connection, turn)), Ok(runtime)) = (self.running.take(), Handle::try_current()) else { return };
        let tls = self.target.tls();
        runtime.spawn(async move {
            let end = async {
                // An error of the one statement or the other means that nothing runs any more, or that the server is lost.
                let _ = connection.client.cancel_token().cancel_query(tls).await;
                let _ = connection.client.simple_query("").await;
            };
            // After that the database ends it by its own time limit.
            let _ = timeout(CANCEL_LIMIT, end).await;
            drop((connection, turn));
        });
    }
}
