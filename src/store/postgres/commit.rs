//! One transaction of a write lane: it locks the rows, plans the changes, and writes their effects, in two flights.
//!
//! A large transaction takes more round trips, since it waits for each slice of its rows.

mod lock;
mod write;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use self::write::Step;
use super::change::Change;
use super::connect::{Connection, Purpose, connect};
use super::error::ConnectError;
use super::failure::Failure;
use super::locked::Locked;
use super::pace::slices_until;
use super::shared::Shared;
use super::statements::{PlanAge, REGISTER, Statements};
use super::writes::Writes;
use crate::domain::ProjectId;
use crate::store::core::Draft;

/// How long a flight, or a statement of a large transaction, may take until its connection counts as lost. It is longer than every
/// time-out of the session.
const FLIGHT: Duration = Duration::from_secs(10);

/// How many projects' numbers a connection remembers.
const MAX_PROJECTS: usize = 65_536;

/// A connection that writes.
pub(super) struct WriteSession {
    connection: Connection,
    statements: Statements,
    plan_age: PlanAge,
    lane: uuid::Uuid,
    epoch: i64,
    /// The numbers of projects, which never change.
    projects: HashMap<ProjectId, i64>,
}

impl WriteSession {
    /// Connects and registers the lane, which fences every transaction of its earlier connections. Also returns the number of the last
    /// transaction that the lane has committed.
    pub(super) async fn open(shared: &Shared, lane: uuid::Uuid) -> Result<(Self, i64), ConnectError> {
        let connection = connect(&shared.target, Purpose::Lane).await?;
        let registered = timeout(FLIGHT, Self::register(connection, lane)).await;
        registered.unwrap_or_else(|_| Err(ConnectError::Unavailable("the lane could not register in time".into())))
    }

    async fn register(connection: Connection, lane: uuid::Uuid) -> Result<(Self, i64), ConnectError> {
        let failed = |error| ConnectError::of(&error);
        let statements = Statements::prepare(&connection.client).await.map_err(failed)?;
        let row = connection.client.query_one(REGISTER, &[&lane]).await.map_err(failed)?;
        let (epoch, last_tx) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let plan_age = PlanAge::new();
        let session = Self { connection, statements, plan_age, lane, epoch, projects: HashMap::new() };
        Ok((session, last_tx))
    }

    /// Makes a group of changes in transaction number `tx` of the lane. Returns the projects that it changes. A brief one does not wait
    /// long for locks.
    pub(super) async fn commit(
        &mut self,
        shared: &Shared,
        tx: i64,
        group: &mut [Change],
        is_brief: bool,
    ) -> Result<Vec<ProjectId>, Failure> {
        let locked = match self.lock_and_read(shared, tx, group, is_brief).await {
            Ok(locked) => locked,
            Err(failure) => return Err(self.roll_back(failure).await),
        };
        shared.health.note_answer();
        let mut draft = Draft::new(&locked, 0);
        group.iter_mut().for_each(|change| change.plan(&mut draft));
        let changes = draft.into_changes();
        if changes.is_empty() {
            return match in_time(self.execute_simple("ROLLBACK")).await {
                Ok(()) => Ok(Vec::new()),
                Err(failure) => Err(failure),
            };
        }
        let writes = Writes::of(&changes, &locked, &shared.types);
        let slice = shared.pace.slice(writes.rows());
        let mut steps = write::steps(&self.connection.client, &self.statements, &writes, slice);
        if writes.rows() > slice
            && let Err(failure) = write_in_turn(&mut steps, slices_until(writes.rows()), shared).await
        {
            return Err(self.roll_back(failure).await);
        }
        self.finish(steps).await?;
        shared.health.note_answer();
        Ok(writes.changed)
    }

    async fn lock_and_read(
        &mut self,
        shared: &Shared,
        tx: i64,
        group: &[Change],
        is_brief: bool,
    ) -> Result<Locked, Failure> {
        let mut locked = self.lock(shared, tx, group, is_brief).await?;
        self.read_details(group, &mut locked).await?;
        Ok(locked)
    }

    /// Sends statements and COMMIT. From here on the transaction may be committed although the connection is lost.
    async fn finish<'a>(&'a self, steps: impl IntoIterator<Item = Step<'a>>) -> Result<(), Failure> {
        let commit: Step<'_> = Box::pin(async { self.connection.client.batch_execute("COMMIT").await.map(|()| 0) });
        let answers = timeout(FLIGHT, join_all(steps.into_iter().chain([commit]))).await;
        // After a failed statement the server answers COMMIT with a rollback, so every answer counts. The first error is the cause.
        let first_error = answers.map_err(|_| Failure::Unknown)?.into_iter().find_map(Result::err);
        first_error.map_or(Ok(()), |error| Err(Failure::of_commit(&error)))
    }

    /// The numbers of the group's projects; new ones are added.
    async fn project_numbers(&mut self, group: &[Change]) -> Result<Vec<(ProjectId, i64)>, Failure> {
        let needed: BTreeSet<&ProjectId> = group.iter().map(Change::project).collect();
        let unknown: Vec<&str> =
            needed.iter().filter(|id| !self.projects.contains_key(**id)).map(|id| id.as_str()).collect();
        if !unknown.is_empty() {
            let client = &self.connection.client;
            // First without adding, since most projects are known.
            for is_added in [false, true] {
                if is_added {
                    execute(client, &self.statements.add_projects, &[&unknown]).await?;
                }
                let rows = query(client, &self.statements.projects, &[&unknown]).await?;
                if rows.len() == unknown.len() {
                    if self.projects.len() + rows.len() > MAX_PROJECTS {
                        self.projects.clear();
                    }
                    let mut found = Vec::new();
                    for row in rows {
                        let id = ProjectId::parse(row.try_get(0)?).map_err(|_| Failure::Refused)?;
                        found.push((id, row.try_get(1)?));
                    }
                    self.projects.extend(found);
                    break;
                }
            }
        }
        let numbered = needed.into_iter().filter_map(|id| Some((id.clone(), *self.projects.get(id)?)));
        Ok(numbered.collect())
    }

    /// Ends the transaction after a failure before COMMIT was sent.
    async fn roll_back(&self, failure: Failure) -> Failure {
        match failure {
            // The connection is closed.
            Failure::Fenced | Failure::Lost | Failure::Unknown => failure,
            Failure::Repeat(_)
            | Failure::Locked
            | Failure::NoResources
            | Failure::Denied
            | Failure::TooLong
            | Failure::Refused => match in_time(self.execute_simple("ROLLBACK")).await {
                Ok(()) => failure,
                Err(_) => Failure::Lost,
            },
        }
    }

    async fn execute_simple(&self, statement: &str) -> Result<(), Failure> {
        Ok(self.connection.client.batch_execute(statement).await?)
    }
}

/// Writes each statement after the answer to the one before, so that each has its own time limit. Leaves those that are due later.
async fn write_in_turn<'a>(
    steps: &mut impl Iterator<Item = Step<'a>>,
    until: Option<Instant>,
    shared: &Shared,
) -> Result<(), Failure> {
    while until.is_none_or(|until| Instant::now() < until)
        && let Some(step) = steps.next()
    {
        in_time(async { Ok(step.await?) }).await?;
        shared.health.note_answer();
    }
    Ok(())
}

async fn execute(client: &Client, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
    client.execute(statement, values).await
}

async fn query(client: &Client, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
    client.query(statement, values).await
}

async fn in_time<A>(flight: impl Future<Output = Result<A, Failure>>) -> Result<A, Failure> {
    timeout(FLIGHT, flight).await.unwrap_or(Err(Failure::Lost))
}
