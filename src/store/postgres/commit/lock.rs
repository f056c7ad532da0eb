//! The first flight of a transaction: what it locks and reads.

use std::collections::BTreeMap;

use futures_util::future::join4;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::{WriteSession, execute, in_time, query};
use crate::domain::SubJobId;
use crate::store::end_time::EndTime;
use crate::store::postgres::change::Change;
use crate::store::postgres::columns;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::job_hash::JobHash;
use crate::store::postgres::locked::{Locked, LockedRow};
use crate::store::postgres::pace::SLICE;
use crate::store::postgres::shared::Shared;
use crate::store::postgres::statements::{CLASSES, Statements};

impl WriteSession {
    /// First flight: begins, checks the epoch, and locks the rows. Each statement has its own time limit.
    pub(super) async fn lock(
        &mut self,
        shared: &Shared,
        tx: i64,
        group: &[Change],
        is_brief: bool,
    ) -> Result<Locked, Failure> {
        let projects = in_time(self.project_numbers(group)).await?;
        let mut locked = Locked { projects, ..Locked::default() };
        let resets = group.iter().filter(|change| matches!(change, Change::Reset { .. }));
        let whole: BTreeMap<i64, u32> = resets
            .filter_map(|reset| locked.project_number(reset.project()))
            .map(|(at, number)| (number, at))
            .collect();
        let mut classes: BTreeMap<i32, bool> = BTreeMap::new();
        let mut keys: BTreeMap<(i64, String), (u32, SubJobId)> = BTreeMap::new();
        for change in group {
            let Some((at, number)) = locked.project_number(change.project()) else { continue };
            let is_alone = whole.contains_key(&number);
            *classes.entry((number % CLASSES) as i32).or_default() |= is_alone;
            if !is_alone {
                keys.extend(change.ids().map(|id| ((number, id.to_string()), (at, id.clone()))));
            }
            if let Change::Report { batch, .. } = change {
                locked.jobs.extend(batch.iter().map(|one| (JobHash::of(&one.job_id), one.job_id.clone())));
            }
        }
        let (classes, alone): (Vec<i32>, Vec<bool>) = classes.into_iter().unzip();
        let (numbers, ids): (Vec<i64>, Vec<&str>) = keys.keys().map(|(number, id)| (*number, id.as_str())).unzip();
        let keys: Vec<_> = keys.values().collect();
        let Self { connection, statements, plan_age, lane, epoch, .. } = self;
        let (client, begin) = (&connection.client, plan_age.begin(ids.len(), is_brief));
        let slice = shared.pace.slice(ids.len());
        let first = ids.len().min(slice);
        let flight = async {
            let (begun, fenced, shared, rows) = join4(
                client.batch_execute(&begin),
                execute(client, &statements.fence, &[&tx, &*lane, &*epoch]),
                query(client, &statements.share, &[&classes, &alone]),
                query(client, &statements.lock, &[&&numbers[..first], &&ids[..first]]),
            )
            .await;
            begun?;
            if fenced? != 1 {
                return Err(Failure::Fenced);
            }
            shared?;
            Ok(rows?)
        };
        let mut rows = in_time(flight).await?;
        let (mut from, mut to) = (0, first);
        loop {
            shared.health.note_answer();
            for row in rows {
                let ordinal: i64 = row.try_get(0)?;
                let Some(key) = keys.get(from + ordinal as usize - 1) else { continue };
                locked.add((*key).clone(), read_row(&row, 1, shared)?);
            }
            if to == ids.len() {
                break;
            }
            (from, to) = (to, ids.len().min(to + slice));
            let next = async { Ok(query(client, &statements.lock, &[&&numbers[from..to], &&ids[from..to]]).await?) };
            rows = in_time(next).await?;
        }
        // A deletion is of all its subtasks or none. A report may have added one of them while others of the same report were waited for.
        if group.iter().any(|change| matches!(change, Change::Delete { .. })) {
            let is_missing = |at: &usize| !locked.places.contains_key(keys[*at]);
            let missing: (Vec<i64>, Vec<&str>) =
                (0..keys.len()).filter(is_missing).map(|at| (numbers[at], ids[at])).unzip();
            if in_time(exists(client, &statements.exists, &missing)).await? {
                return Err(Failure::Repeat("a subtask was added meanwhile"));
            }
        }
        for (number, at) in whole {
            lock_project(client, statements, (at, number), shared, &mut locked).await?;
        }
        Ok(locked)
    }

    /// Reads the details that decide whether a record changes anything: those of rows that are like a record but for their details,
    /// which have the same length. So no more is read than the records have. Most groups have no such record.
    pub(super) async fn read_details(&self, group: &[Change], locked: &mut Locked) -> Result<(), Failure> {
        let mut places: BTreeMap<usize, (i64, &SubJobId)> = BTreeMap::new();
        for change in group {
            let Change::Report { project, batch, .. } = change else { continue };
            let Some((at, number)) = locked.project_number(project) else { continue };
            for record in batch {
                places.extend(locked.place_to_compare(at, record).map(|place| (place, (number, &record.id))));
            }
        }
        let places: Vec<_> = places.into_iter().collect();
        for slice in places.chunks(SLICE) {
            let ordinals: Vec<i64> = slice.iter().map(|(place, _)| *place as i64).collect();
            let numbers: Vec<i64> = slice.iter().map(|(_, (number, _))| *number).collect();
            let ids: Vec<String> = slice.iter().map(|(_, (_, id))| id.to_string()).collect();
            let (client, statement) = (&self.connection.client, &self.statements.details);
            let rows = in_time(async { Ok(query(client, statement, &[&numbers, &ids, &ordinals]).await?) }).await?;
            for row in rows {
                let place: i64 = row.try_get(0)?;
                if let Some(locked) = locked.rows.get_mut(place as usize) {
                    locked.details = row.try_get(1)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether one of these subtasks is stored.
async fn exists(
    client: &Client,
    statement: &Statement,
    (numbers, ids): &(Vec<i64>, Vec<&str>),
) -> Result<bool, Failure> {
    if ids.is_empty() {
        return Ok(false);
    }
    Ok(client.query_one(statement, &[numbers, ids]).await?.try_get(0)?)
}

/// Locks all rows of a project, a slice at a time. The project's class is locked alone, so that no row is added meanwhile.
async fn lock_project(
    client: &Client,
    statements: &Statements,
    (at, number): (u32, i64),
    shared: &Shared,
    locked: &mut Locked,
) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let values: [&(dyn ToSql + Sync); 3] = [&number, &last, &(SLICE as i64)];
        let rows = in_time(async { Ok(query(client, &statements.lock_project, &values).await?) }).await?;
        shared.health.note_answer();
        let is_last = rows.len() < SLICE;
        for row in rows {
            last = row.try_get(0)?;
            let id = SubJobId::parse(&last).map_err(|_| Failure::Refused)?;
            locked.add((at, id), read_row(&row, 1, shared)?);
        }
        if is_last {
            return Ok(());
        }
    }
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
