//! A connection that is opened when it is needed, for lists and for background work.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::connect::{Connection, Purpose, connect};
use super::error::{ReadError, describe};
use super::target::Target;
use crate::store::types::StoreError;

/// A connection for one task at a time.
#[derive(Debug, Default)]
pub(super) struct Session(Mutex<Option<Connection>>);

impl Session {
    /// Runs statements on the connection within a time limit, which includes the wait for the connection.
    pub(super) async fn run<A>(
        &self,
        target: &Target,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<A, ReadError>,
    ) -> Result<A, StoreError> {
        let run = async {
            let mut session = self.0.lock().await;
            // Taken out, so that a connection whose statement is cancelled is closed.
            let mut connection = match session.take().filter(|open| !open.client.is_closed()) {
                Some(open) => open,
                None => connect(target, Purpose::Upkeep).await.map_err(|_| StoreError::Unavailable)?,
            };
            match work(&mut connection.client).await {
                Ok(answer) => {
                    *session = Some(connection);
                    Ok(answer)
                }
                Err(error) => {
                    match &error {
                        ReadError::Database(error) => tracing::error!(error = %describe(error), "a read failed"),
                        other => tracing::error!(error = %other, "a read failed"),
                    }
                    Err(StoreError::Unavailable)
                }
            }
        };
        timeout(limit, run).await.unwrap_or(Err(StoreError::Unavailable))
    }
}

/// Begins a transaction in which all statements see the same moment.
pub(super) async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}
