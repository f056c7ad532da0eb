//! Runs lists on a few connections. A list that ends without an answer ends in the database too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::connect::{Connection, Purpose, connect};
use super::error::ReadError;
use super::statements::{LIST_LOCKS, order_class};
use super::target::Target;
use super::turns::{Turn, Turns};
use crate::domain::ProjectId;
use crate::store::types::StoreError;

/// How long a list may take, with the wait for its turn: a deep offset of a large project reads many entries of an index.
const LIST_LIMIT: Duration = Duration::from_millis(1900);

/// How long a list waits for transactions that are adding subtasks. New ones wait behind it.
const MAX_ORDER_WAIT: Duration = Duration::from_secs(1);

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
    /// Reads a project, by its number, in a transaction in which all statements see the same moment. `None` if the database does not know
    /// the project.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub(super) async fn run_in_order<A>(
        &self,
        target: &Target,
        project: &ProjectId,
        work: impl AsyncFnOnce(&Client, i64) -> Result<A, ReadError>,
    ) -> Result<Option<A>, StoreError> {
        self.run(target, project, async |client, deadline| {
            let text = "SELECT no FROM project WHERE id = $1";
            let rows = client.query_typed(text, &[(&project.as_str(), Type::TEXT)]).await?;
            let Some(number) = rows.first().map(|row| row.try_get(0)).transpose()? else { return Ok(Ok(None)) };
            if let Err(error) = client.batch_execute(&begin(number, deadline)).await {
                if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
                    return Err(error.into());
                }
                tracing::debug!("subtasks are being added for too long for a list");
                client.batch_execute("ROLLBACK").await?;
                return Ok(Err(StoreError::Unavailable));
            }
            let answer = work(client, number).await?;
            client.batch_execute("COMMIT").await?;
            Ok(Ok(Some(answer)))
        })
        .await?
    }

    /// Reads on one of the connections, until a deadline.
    ///
    /// # Errors
    ///
    /// If the database does not answer in time, or what it answers cannot be read.
    pub(super) async fn run<A>(
        &self,
        target: &Target,
        project: &ProjectId,
        work: impl AsyncFnOnce(&Client, Instant) -> Result<A, ReadError>,
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
            // It is there until the answer.
            let (connection, _) = list.running.as_ref().expect("the list has no answer yet");
            match work(&connection.client, deadline).await {
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

/// Begins the transaction of a list. Its moment is one at which no transaction is adding subtasks to projects of the class, except one that
/// adds them alone. So numbers that are committed later are higher than all that it sees, and what it shows of the order stays the
/// beginning of it. The lock is the session's, as the transaction would see the moment before it has it; and all is one
/// message, so that no server that stops meanwhile keeps it.
fn begin(project: i64, deadline: Instant) -> String {
    // For a server that is lost before it cancels the statement.
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    format!(
        "BEGIN; SET LOCAL lock_timeout = {timeout}; SELECT pg_advisory_lock({LIST_LOCKS}, {class}); COMMIT; \
         START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = {left}; \
         SELECT pg_advisory_unlock({LIST_LOCKS}, {class})",
        timeout = MAX_ORDER_WAIT.as_millis(),
        class = order_class(project)
    )
}

/// A list that is being read.
struct List<'a> {
    /// `None` after its answer.
    running: Option<(Connection, Turn)>,
    target: &'a Target,
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
