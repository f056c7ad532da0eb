//! One transaction of a write lane: it locks the rows, plans the changes, and writes their effects, in two flights.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{join_all, join4};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::change::Change;
use super::columns;
use super::connect::{Connection, Purpose, connect};
use super::error::ConnectError;
use super::failure::Failure;
use super::job_hash::JobHash;
use super::locked::{Locked, LockedRow};
use super::shared::Shared;
use super::statements::{PlanAge, REGISTER, Statements};
use super::writes::{Rows, Tallies, Writes};
use crate::domain::{ProjectId, SubJobId};
use crate::store::core::Draft;
use crate::store::end_time::EndTime;

/// How long a flight may take until its connection counts as lost. It is longer than every time-out of the session.
const FLIGHT: Duration = Duration::from_secs(10);

/// The numbers of a block of `seq`, as a power of two.
const BLOCK_BITS: u32 = 20;

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

    /// Makes a group of changes in transaction number `tx` of the lane. Returns the projects that it changes.
    pub(super) async fn commit(
        &mut self,
        shared: &Shared,
        tx: i64,
        group: &mut [Change],
    ) -> Result<Vec<ProjectId>, Failure> {
        let locked = in_time(async {
            let mut locked = self.lock(shared, tx, group).await?;
            self.read_details(group, &mut locked).await?;
            Ok(locked)
        });
        let locked = match locked.await {
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
        // From here on the transaction may be committed although the connection is lost.
        match timeout(FLIGHT, self.write(&writes)).await {
            Ok(Ok(())) => {
                shared.health.note_answer();
                Ok(writes.changed)
            }
            Ok(Err(error)) => Err(Failure::of_commit(&error)),
            Err(_) => Err(Failure::Unknown),
        }
    }

    /// First flight: begins, checks the epoch, and locks the rows.
    async fn lock(&mut self, shared: &Shared, tx: i64, group: &[Change]) -> Result<Locked, Failure> {
        let projects = self.project_numbers(group).await?;
        let mut locked = Locked { projects, ..Locked::default() };
        let mut keys: BTreeMap<(i64, String), (u32, SubJobId)> = BTreeMap::new();
        let mut whole = Vec::new();
        for change in group {
            let Some((at, number)) = locked.project_number(change.project()) else { continue };
            keys.extend(change.ids().map(|id| ((number, id.to_string()), (at, id.clone()))));
            match change {
                Change::Report { batch, .. } => {
                    locked.jobs.extend(batch.iter().map(|one| (JobHash::of(&one.job_id), one.job_id.clone())));
                }
                Change::Reset { .. } => whole.push((at, number)),
                Change::Delete { .. } | Change::Expire { .. } => {}
            }
        }
        let (numbers, ids): (Vec<i64>, Vec<&str>) = keys.keys().map(|(number, id)| (*number, id.as_str())).unzip();
        let Self { connection, statements, plan_age, lane, epoch, .. } = self;
        let (client, begin) = (&connection.client, plan_age.begin(ids.len()));
        let (begun, fenced, rows, block) = join4(
            client.batch_execute(begin),
            execute(client, &statements.fence, &[&tx, &*lane, &*epoch]),
            query(client, &statements.lock, &[&numbers, &ids]),
            query(client, &statements.block, &[]),
        )
        .await;
        begun?;
        if fenced? != 1 {
            return Err(Failure::Fenced);
        }
        let keys: Vec<_> = keys.values().collect();
        for row in rows? {
            let ordinal: i64 = row.try_get(0)?;
            let Some(key) = keys.get(ordinal as usize - 1) else { continue };
            locked.places.insert((*key).clone(), locked.rows.len());
            locked.rows.push(read_row(&row, 1, shared)?);
        }
        for (at, number) in whole {
            for row in query(client, &statements.lock_project, &[&number]).await? {
                let id = SubJobId::parse(row.try_get(0)?).map_err(|_| Failure::Refused)?;
                locked.places.insert((at, id), locked.rows.len());
                locked.rows.push(read_row(&row, 1, shared)?);
            }
        }
        let block: i64 = block?.first().ok_or(Failure::Refused)?.try_get(0)?;
        locked.first_seq = block << BLOCK_BITS;
        Ok(locked)
    }

    /// Reads the details that decide whether a record changes anything: those of rows that are like a record but for their details,
    /// which have the same length. So no more is read than the records have. Most groups have no such record.
    async fn read_details(&self, group: &[Change], locked: &mut Locked) -> Result<(), Failure> {
        let mut places: BTreeMap<usize, (i64, &SubJobId)> = BTreeMap::new();
        for change in group {
            let Change::Report { project, batch, .. } = change else { continue };
            let Some((at, number)) = locked.project_number(project) else { continue };
            for record in batch {
                places.extend(locked.place_to_compare(at, record).map(|place| (place, (number, &record.id))));
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = places.values().map(|(number, _)| *number).collect();
        let ids: Vec<String> = places.values().map(|(_, id)| id.to_string()).collect();
        let ordinals: Vec<i64> = places.keys().map(|place| *place as i64).collect();
        let statement = &self.statements.details;
        for row in query(&self.connection.client, statement, &[&numbers, &ids, &ordinals]).await? {
            let place: i64 = row.try_get(0)?;
            if let Some(locked) = locked.rows.get_mut(place as usize) {
                locked.details = row.try_get(1)?;
            }
        }
        Ok(())
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

    /// Second flight: writes rows and counters, and commits. The rows that most transactions change come last.
    async fn write(&self, writes: &Writes) -> Result<(), Error> {
        let (client, of) = (&self.connection.client, &self.statements);
        let mut flight: Vec<Flight<'_>> = Vec::new();
        if !writes.inserted.ids.is_empty() {
            flight.push(Box::pin(write_rows(client, &of.insert, &writes.inserted)));
        }
        if !writes.updated.ids.is_empty() {
            flight.push(Box::pin(write_rows(client, &of.update, &writes.updated)));
        }
        if !writes.deleted.0.is_empty() {
            flight.push(Box::pin(write_two(client, &of.delete, &writes.deleted.0, &writes.deleted.1)));
        }
        if !writes.of_jobs.projects.is_empty() {
            flight.push(Box::pin(write_tallies(client, &of.of_jobs, &writes.of_jobs)));
        }
        if !writes.decreased.0.is_empty() {
            flight.push(Box::pin(write_two(client, &of.remove_jobs, &writes.decreased.0, &writes.decreased.1)));
        }
        if !writes.of_projects.projects.is_empty() {
            flight.push(Box::pin(write_tallies(client, &of.of_projects, &writes.of_projects)));
        }
        flight.push(Box::pin(write_two(client, &of.revisions, &writes.revisions.0, &writes.revisions.1)));
        flight.push(Box::pin(async { client.batch_execute("COMMIT").await.map(|()| 0) }));
        // After a failed statement the server answers COMMIT with a rollback, so every answer counts. The first error is the cause.
        join_all(flight).await.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Ends the transaction after a failure of its first flight.
    async fn roll_back(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Repeat(_) | Failure::NoResources | Failure::Denied | Failure::Refused => {
                match in_time(self.execute_simple("ROLLBACK")).await {
                    Ok(()) => failure,
                    Err(_) => Failure::Lost,
                }
            }
            other => other,
        }
    }

    async fn execute_simple(&self, statement: &str) -> Result<(), Failure> {
        Ok(self.connection.client.batch_execute(statement).await?)
    }
}

type Flight<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

async fn execute(client: &Client, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
    client.execute(statement, values).await
}

async fn query(client: &Client, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
    client.query(statement, values).await
}

async fn write_rows(client: &Client, statement: &Statement, rows: &Rows) -> Result<u64, Error> {
    let Rows { projects, ids, jobs, job_types, statuses, versions, seqs, ended, details } = rows;
    let values: [&(dyn ToSql + Sync); 9] = [projects, ids, jobs, job_types, statuses, versions, seqs, ended, details];
    client.execute(statement, &values).await
}

async fn write_tallies(client: &Client, statement: &Statement, tallies: &Tallies) -> Result<u64, Error> {
    let Tallies { projects, jobs, job_ids, job_types, counts } = tallies;
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![projects];
    if !jobs.is_empty() {
        values.extend([jobs as &(dyn ToSql + Sync), job_ids]);
    }
    values.push(job_types);
    values.extend(counts.iter().map(|column| column as &(dyn ToSql + Sync)));
    client.execute(statement, &values).await
}

async fn write_two(
    client: &Client,
    statement: &Statement,
    first: &(dyn ToSql + Sync),
    second: &(dyn ToSql + Sync),
) -> Result<u64, Error> {
    client.execute(statement, &[first, second]).await
}

async fn in_time<A>(flight: impl Future<Output = Result<A, Failure>>) -> Result<A, Failure> {
    timeout(FLIGHT, flight).await.unwrap_or(Err(Failure::Lost))
}

/// Reads a row of `sub_job` from the column `from` on.
fn read_row(row: &Row, from: usize, shared: &Shared) -> Result<LockedRow, Failure> {
    let (job, number, status): (JobHash, i16, i16) =
        (row.try_get(from)?, row.try_get(from + 1)?, row.try_get(from + 2)?);
    let (version, seq, ended): (i64, i64, Option<i64>) =
        (row.try_get(from + 3)?, row.try_get(from + 4)?, row.try_get(from + 5)?);
    let unreadable = || {
        tracing::error!(job_type = number, status, version, "a subtask in the database cannot be read");
        Failure::Refused
    };
    Ok(LockedRow {
        job,
        job_type: shared.types.job_type(number).ok_or_else(unreadable)?,
        status: columns::status(status).ok_or_else(unreadable)?,
        version: columns::version(version).ok_or_else(unreadable)?,
        seq,
        end_time: ended.and_then(EndTime::from_seconds),
        details_length: row.try_get(from + 6)?,
        details: None,
    })
}
