//! Background work on the database, which one replica does for all: the recount, the search for expired subtasks, old registrations.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::error::ReadError;
use super::job_hash::JobHash;
use super::statements::{counted, difference, of_statuses};
use crate::domain::{ProjectId, Status, SubJobId};
use crate::store::end_time::EndTime;

/// Takes the lease for 30 seconds, or renews it. Two holders at once would do no harm.
const LEASE: &str = "INSERT INTO lease AS l (name, holder, until) VALUES ('upkeep', $1, now() + interval '30 s') \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
    WHERE l.holder = excluded.holder OR l.until < now() RETURNING holder";

/// How many subtasks a step of the recount reads, about.
const RECOUNT_SLICE: i64 = 20_000;

/// Where the recount is: the next range of the jobs of a project.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    /// Projects with a higher number follow.
    project: i64,
    /// The next range, of how many; 0 of 0 before a project is begun.
    range: (u32, u32),
    /// The mismatch so far.
    drift: u64,
}

/// Takes or renews the lease. Whether this replica has it.
pub(super) async fn renew_lease(client: &Client, holder: uuid::Uuid) -> Result<bool, ReadError> {
    Ok(client.query_typed(LEASE, &[(&holder, Type::UUID)]).await?.len() == 1)
}

/// Gives the lease back, so that another replica need not wait until it expires.
pub(super) async fn release_lease(client: &Client, holder: uuid::Uuid) -> Result<(), ReadError> {
    client.query_typed("DELETE FROM lease WHERE name = 'upkeep' AND holder = $1", &[(&holder, Type::UUID)]).await?;
    Ok(())
}

/// Removes registrations of lanes that were not seen for a day.
pub(super) async fn remove_old_lanes(client: &Client) -> Result<(), ReadError> {
    Ok(client.batch_execute("DELETE FROM writer WHERE seen < now() - interval '1 day'").await?)
}

/// Compares the counters of one range of jobs with their subtasks, or those of a project with those of its jobs. Returns the mismatch
/// when all have been compared.
pub(super) async fn recount_step(client: &Client, cursor: &mut Cursor) -> Result<Option<u64>, ReadError> {
    let Cursor { project, range: (range, ranges), .. } = *cursor;
    if range == ranges {
        // The next project.
        let next = "SELECT p.no, (SELECT coalesce(sum(s0 + s1 + s2 + s3 + s4 + s5 + s6), 0)::bigint FROM project_tally t \
            WHERE t.project = p.no) FROM project p WHERE p.no > $1 ORDER BY p.no LIMIT 1";
        let rows = client.query_typed(next, &[(&project, Type::INT8)]).await?;
        let Some(row) = rows.first() else {
            let drift = cursor.drift;
            *cursor = Cursor::default();
            return Ok(Some(drift));
        };
        let size: i64 = row.try_get(1)?;
        let ranges = u32::try_from(size / RECOUNT_SLICE + 1).unwrap_or(1);
        *cursor = Cursor { project: row.try_get(0)?, range: (0, ranges), drift: cursor.drift };
        return Ok(None);
    }
    let (from, is_last) = (JobHash::start_of_range(range, ranges), range + 1 == ranges);
    let to = if is_last { JobHash::HIGHEST } else { JobHash::start_of_range(range + 1, ranges) };
    let values: [(&(dyn ToSql + Sync), Type); 3] = [(&project, Type::INT8), (&from, Type::UUID), (&to, Type::UUID)];
    let rows = client.query_typed(&of_jobs(if is_last { "<=" } else { "<" }), &values).await?;
    cursor.drift += mismatch(&rows)?;
    if is_last {
        let rows = client.query_typed(&of_project(), &[(&project, Type::INT8)]).await?;
        cursor.drift += mismatch(&rows)?;
    }
    cursor.range.0 += 1;
    Ok(None)
}

fn mismatch(rows: &[Row]) -> Result<u64, ReadError> {
    let sum: i64 = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    Ok(sum.unsigned_abs())
}

fn sum_of_differences() -> String {
    format!("SELECT coalesce(sum({}), 0)::bigint", difference("r", "t"))
}

/// One statement, hence one moment.
fn of_jobs(below: &str) -> String {
    format!(
        "WITH r AS (SELECT job, job_type, {counted} FROM sub_job \
             WHERE project = $1 AND job >= $2 AND job {below} $3 GROUP BY 1, 2), \
         t AS (SELECT * FROM job_tally WHERE project = $1 AND job >= $2 AND job {below} $3) \
         {difference} FROM r FULL JOIN t USING (job, job_type)",
        counted = counted(),
        difference = sum_of_differences(),
    )
}

fn of_project() -> String {
    let summed = of_statuses(|status| format!("sum(s{status}) AS s{status}"));
    format!(
        "WITH r AS (SELECT job_type, {summed} FROM job_tally WHERE project = $1 GROUP BY 1), \
         t AS (SELECT job_type, {summed} FROM project_tally WHERE project = $1 GROUP BY 1) \
         {} FROM r FULL JOIN t USING (job_type)",
        sum_of_differences()
    )
}

/// Subtasks that ended before a moment, at most `limit`, by project.
pub(super) async fn ended_before(
    client: &Client,
    moment: EndTime,
    limit: usize,
) -> Result<Vec<(ProjectId, Vec<SubJobId>)>, ReadError> {
    let text = "SELECT p.id, s.id FROM (SELECT project, id FROM sub_job WHERE ended < $1 ORDER BY ended LIMIT $2) s \
        JOIN project p ON p.no = s.project ORDER BY p.id";
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&moment.as_seconds(), Type::INT8), (&(limit as i64), Type::INT8)];
    let mut found: Vec<(ProjectId, Vec<SubJobId>)> = Vec::new();
    for row in client.query_typed(text, &values).await? {
        let (project, id): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let unreadable = || ReadError::Unreadable(id.into());
        let id = SubJobId::parse(id).map_err(|_| unreadable())?;
        match found.last_mut().filter(|(last, _)| last.as_str() == project) {
            Some((_, ids)) => ids.push(id),
            None => found.push((ProjectId::parse(project).map_err(|_| unreadable())?, vec![id])),
        }
    }
    Ok(found)
}

/// How many subtasks of each type there are in each status.
pub(super) async fn totals(client: &Client) -> Result<Vec<(i16, [u64; Status::COUNT])>, ReadError> {
    let sums = of_statuses(|status| format!("sum(s{status})::bigint"));
    let rows =
        client.query_typed(&format!("SELECT job_type, {sums} FROM project_tally GROUP BY job_type"), &[]).await?;
    let mut totals = Vec::new();
    for row in rows {
        let mut counts = [0; Status::COUNT];
        for (at, count) in counts.iter_mut().enumerate() {
            *count = u64::try_from(row.try_get::<_, i64>(at + 1)?).unwrap_or(0);
        }
        totals.push((row.try_get(0)?, counts));
    }
    Ok(totals)
}

/// The revisions of projects that have had a subtask.
pub(super) async fn revisions(client: &Client, projects: &[ProjectId]) -> Result<Vec<(ProjectId, i64)>, ReadError> {
    let ids: Vec<&str> = projects.iter().map(ProjectId::as_str).collect();
    let text =
        "SELECT p.id, r.revision FROM project p JOIN project_revision r ON r.project = p.no WHERE p.id = ANY($1)";
    let rows = client.query_typed(text, &[(&ids, Type::TEXT_ARRAY)]).await?;
    let read = |row: &Row| {
        let id: &str = row.try_get(0)?;
        Ok((ProjectId::parse(id).map_err(|_| ReadError::Unreadable(id.into()))?, row.try_get(1)?))
    };
    rows.iter().map(read).collect()
}
