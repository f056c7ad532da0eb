//! Connections to the database: each is checked before it is used, and has the session settings that the store relies on.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::error::ConnectError;
use super::schema;
use super::target::Target;
use super::url::Endpoint;

/// How long one server may take to accept a connection of TCP.
const TCP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one server may take until a session is checked and set up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// When a connection counts as lost: after this long without an answer to what was sent, by TCP.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// The time before a silent connection is probed, and between probes.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Unanswered probes after which a connection counts as lost.
const KEEPALIVE_RETRIES: u32 = 2;

/// The oldest server, as `server_version_num`.
const OLDEST_SERVER: u32 = 150_000;

/// What every session has. A replica whose machine vanished in a transaction holds its locks for 5 s at most. A session that another
/// setting allows to acknowledge a commit before it is on disk is told to wait.
const SESSION: &str = "\
    SET lock_timeout = '2s';\
    SET idle_in_transaction_session_timeout = '5s';\
    SET default_transaction_isolation = 'read committed';\
    SET TimeZone = 'UTC';\
    SET client_min_messages = 'warning';\
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply', 'remote_write');";

/// Statements by key are nested loops over primary keys, whatever the statistics of a table say. So they need no plan for the keys of
/// each execution, which took more of the database than the execution itself.
pub(super) const PINNED_PLANNER: &str = "\
    SET statement_timeout = '5s'; SET plan_cache_mode = force_generic_plan;\
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET jit = off;";

/// Lists and the recount read a part of a project, never a whole table.
const BY_INDEX: &str = "SET statement_timeout = '5s'; SET enable_seqscan = off; SET jit = off;";

/// The check reads whole tables. The export also waits in its transaction for the program that reads its output.
const WITHOUT_LIMITS: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET jit = off;";

/// A statement of a migration may take long.
const NO_LIMIT: &str = "SET statement_timeout = 0; SET lock_timeout = '60s';";

/// What the server says of itself. The last row of the batch.
const SERVER: &str = "\
    SELECT current_setting('server_version_num'), current_setting('fsync'), current_setting('full_page_writes'), \
        current_setting('transaction_read_only'), current_setting('server_encoding'), version();";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reads and writes by key.
    Lane,
    /// Lists, the recount and other work that reads a part of a project.
    Upkeep,
    /// The check and the export, which read everything.
    Whole,
    /// Changes of the schema, which is not checked.
    Migration,
}

/// A connection that was checked and set up. It closes when it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects to the primary: tries the servers of the URL in turn, first the one that accepted the last connection.
///
/// # Errors
///
/// The most serious of the servers' errors.
pub(super) async fn connect(target: &Target, purpose: Purpose) -> Result<Connection, ConnectError> {
    let mut worst: Option<ConnectError> = None;
    for (at, endpoint) in target.endpoints() {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, open(target, endpoint, purpose)).await;
        let error = match opened {
            Ok(Ok(connection)) => {
                target.set_last_good(at);
                return Ok(connection);
            }
            Ok(Err(error)) => error,
            Err(_) => ConnectError::Unavailable(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
        };
        if worst.as_ref().is_none_or(|worst| error.rank() > worst.rank()) {
            worst = Some(error.at(endpoint));
        }
    }
    Err(worst.unwrap_or_else(|| ConnectError::Unavailable("the URL names no server".into())))
}

async fn open(target: &Target, endpoint: &Endpoint, purpose: Purpose) -> Result<Connection, ConnectError> {
    let mut config = target.url().config(endpoint);
    config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(KEEPALIVE_RETRIES);
    config.tcp_user_timeout(TCP_USER_TIMEOUT);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(TCP_TIMEOUT);
    }
    if let Some(password) = target.password().map_err(|error| ConnectError::Denied(error.to_string()))? {
        config.password(password);
    }
    let (client, driver) = config.connect(target.tls()).await.map_err(|error| ConnectError::of(&error))?;
    // The error is also that of the statement under way.
    let driver = tokio::spawn(async move { drop(driver.await) });
    let connection = Connection { client, driver };
    let purpose_settings = match purpose {
        Purpose::Lane => PINNED_PLANNER,
        Purpose::Upkeep => BY_INDEX,
        Purpose::Whole => WITHOUT_LIMITS,
        Purpose::Migration => NO_LIMIT,
    };
    let setup = format!("{SESSION}{purpose_settings}{SERVER}");
    let answer = connection.client.simple_query(&setup).await.map_err(|error| ConnectError::of(&error))?;
    let server = answer.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    check_server(server.ok_or_else(|| ConnectError::Unavailable("the server describes itself with no row".into()))?)?;
    if purpose != Purpose::Migration {
        schema::check(&connection.client).await?;
    }
    Ok(connection)
}

/// Fails unless what a connection was checked for still holds: the server accepts changes, and schema and rights are good.
pub(super) async fn check_again(client: &Client) -> Result<(), ConnectError> {
    let answer = client.simple_query("SHOW transaction_read_only").await.map_err(|error| ConnectError::of(&error))?;
    if answer.iter().find_map(schema::first_value) == Some("on") {
        return Err(not_open_for_changes());
    }
    schema::check(client).await
}

fn not_open_for_changes() -> ConnectError {
    ConnectError::Unavailable("the server is read-only: a standby, or not open for changes".into())
}

/// Refuses a server that is too old, is not PostgreSQL, or could lose a commit; and one that is not the primary.
fn check_server(row: &SimpleQueryRow) -> Result<(), ConnectError> {
    let [version_number, fsync, full_page_writes, read_only, encoding, version] =
        std::array::from_fn(|at| row.try_get(at).ok().flatten().unwrap_or_default());
    let unusable = |reason: String| Err(ConnectError::Unusable(reason));
    if !version.starts_with("PostgreSQL ") || version.contains("-YB-") {
        let name = version.split_whitespace().next().unwrap_or("the server");
        return unusable(format!("{name} is not PostgreSQL: other engines of its protocol are untested"));
    }
    if version_number.parse::<u32>().is_ok_and(|number| number < OLDEST_SERVER) {
        let version = version.split_whitespace().nth(1).unwrap_or_default();
        return unusable(format!("the server has version {version}: PostgreSQL 15 is the oldest"));
    }
    for (name, value) in [("fsync", fsync), ("full_page_writes", full_page_writes)] {
        if value != "on" {
            return unusable(format!("the server has {name} = {value}, and may lose what it acknowledged: turn it on"));
        }
    }
    if encoding != "UTF8" {
        return unusable(format!("the database has the encoding {encoding}, and identifiers need UTF8: make another"));
    }
    if read_only == "on" {
        return Err(not_open_for_changes());
    }
    Ok(())
}
