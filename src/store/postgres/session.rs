//! A connection that is opened when it is needed, for background work and waiting requests.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::connect::{Connection, Purpose, connect};
use super::error::ReadError;
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
                    tracing::error!(%error, "a read failed");
                    Err(StoreError::Unavailable)
                }
            }
        };
        timeout(limit, run).await.unwrap_or(Err(StoreError::Unavailable))
    }
}
