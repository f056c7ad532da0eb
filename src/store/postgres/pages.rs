//! Lists: a page of a project's subtasks, one subtask, one job.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::columns;
use super::error::ReadError;
use super::job_hash::JobHash;
use super::shared::Shared;
use crate::domain::{CountFilter, JobId, JobTypeSet, ProjectId, Status, StatusCounts, SubJob, SubJobId};
use crate::store::data_dir::decode_details;
use crate::store::types::{Job, Page};

/// The columns of a subtask.
const COLUMNS: &str = "s.id, t.job_id, s.job_type, s.status, s.version, s.details, s.seq";

const JOINED: &str = "JOIN job_tally t ON t.project = s.project AND t.job = s.job AND t.job_type = s.job_type";

/// The condition of a filter and its values. Each shape of filter has a text of its own, for which the planner finds the index.
struct Condition {
    text: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Condition {
    fn of(project: i64, filter: &CountFilter, shared: &Shared) -> Self {
        let mut condition = Self { text: "s.project = $1".into(), values: vec![(Box::new(project), Type::INT8)] };
        if let Some(job) = &filter.job_id {
            condition.add("s.job = ", Box::new(JobHash::of(job)), Type::UUID, "");
        }
        if let Some(status) = filter.status {
            condition.add("s.status = ", Box::new(status as i16), Type::INT2, "");
        }
        if filter.job_types != JobTypeSet::ALL {
            let numbers = shared.types.of_set(filter.job_types);
            condition.add("s.job_type = ANY(", Box::new(numbers), Type::INT2_ARRAY, ")");
        }
        condition
    }

    fn add(&mut self, before: &str, value: Box<dyn ToSql + Sync + Send>, kind: Type, after: &str) {
        self.values.push((value, kind));
        self.text += &format!(" AND {before}${}{after}", self.values.len());
    }

    async fn query(&self, client: &Client, text: &str) -> Result<Vec<Row>, ReadError> {
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
        Ok(client.query_typed(text, &values).await?)
    }

    /// The subtasks that match, in their order. The inner query reads the index of the order alone, so that the rows that an offset
    /// skips are not read.
    async fn page(
        &self,
        client: &Client,
        (offset, limit): (u64, usize),
        shared: &Shared,
    ) -> Result<Vec<(i64, SubJob)>, ReadError> {
        let (offset, limit) = (i64::try_from(offset).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let text = format!(
            "SELECT {COLUMNS} FROM sub_job s {JOINED} WHERE s.project = $1 AND s.seq = ANY(ARRAY( \
             SELECT s.seq FROM sub_job s WHERE {} ORDER BY s.seq LIMIT {limit} OFFSET {offset})) ORDER BY s.seq",
            self.text
        );
        self.query(client, &text).await?.iter().map(|row| read_sub_job(row, shared)).collect()
    }
}

/// Reads a subtask and its number in the order.
fn read_sub_job(row: &Row, shared: &Shared) -> Result<(i64, SubJob), ReadError> {
    let (id, job_id, number): (&str, &str, i16) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (status, version): (i16, i64) = (row.try_get(3)?, row.try_get(4)?);
    let details: Option<&[u8]> = row.try_get(5)?;
    let unreadable = || ReadError::Unreadable(id.into());
    let sub_job = SubJob {
        id: SubJobId::parse(id).map_err(|_| unreadable())?,
        job_id: JobId::parse(job_id).map_err(|_| unreadable())?,
        job_type: shared.types.job_type(number).ok_or(ReadError::UnknownType(number))?,
        status: columns::status(status).ok_or_else(unreadable)?,
        version: columns::version(version).ok_or_else(unreadable)?,
        details: details.map(decode_details).transpose().map_err(|_| unreadable())?.map(Box::new),
    };
    Ok((row.try_get(6)?, sub_job))
}

/// The revision of a project; 0 if it has never had a subtask.
async fn revision(client: &Client, project: i64) -> Result<u64, ReadError> {
    let text = "SELECT revision FROM project_revision WHERE project = $1";
    let rows = client.query_typed(text, &[(&project, Type::INT8)]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0))? as u64)
}

/// How many subtasks of these types a job, or the whole project, has in each status.
async fn counts(
    client: &Client,
    project: i64,
    job: Option<&JobId>,
    job_types: JobTypeSet,
    shared: &Shared,
) -> Result<StatusCounts, ReadError> {
    let sums = super::statements::of_statuses(|status| format!("coalesce(sum(s{status}), 0)::bigint"));
    let numbers = shared.types.of_set(job_types);
    let rows = match job {
        Some(job) => {
            let text = format!("SELECT {sums} FROM job_tally WHERE project = $1 AND job_type = ANY($2) AND job = $3");
            let hash = JobHash::of(job);
            let values: [(&(dyn ToSql + Sync), Type); 3] =
                [(&project, Type::INT8), (&numbers, Type::INT2_ARRAY), (&hash, Type::UUID)];
            client.query_typed(&text, &values).await?
        }
        None => {
            let text = format!("SELECT {sums} FROM project_tally WHERE project = $1 AND job_type = ANY($2)");
            client.query_typed(&text, &[(&project, Type::INT8), (&numbers, Type::INT2_ARRAY)]).await?
        }
    };
    let mut counts = StatusCounts::default();
    for (row, status) in rows.first().into_iter().flat_map(|row| Status::ALL.map(|status| (row, status))) {
        counts.add(status, u64::try_from(row.try_get::<_, i64>(status as usize)?).unwrap_or(0));
    }
    Ok(counts)
}

/// A page of the subtasks that match.
pub(super) async fn page(
    client: &Client,
    project: i64,
    filter: &CountFilter,
    part: (u64, usize),
    shared: &Shared,
) -> Result<Page, ReadError> {
    let revision = revision(client, project).await?;
    let counts = counts(client, project, filter.job_id.as_ref(), filter.job_types, shared).await?;
    let total = filter.status.map_or(counts.total(), |status| counts.of(status));
    if part.0 >= total {
        return Ok(Page { total, revision, sub_jobs: Vec::new() });
    }
    let found = Condition::of(project, filter, shared).page(client, part, shared).await?;
    Ok(Page { total, revision, sub_jobs: found.into_iter().map(|(_, sub_job)| sub_job).collect() })
}

/// One subtask.
pub(super) async fn sub_job(
    client: &Client,
    project: &ProjectId,
    id: &SubJobId,
    shared: &Shared,
) -> Result<Option<SubJob>, ReadError> {
    let text = format!(
        "SELECT {COLUMNS} FROM project p JOIN sub_job s ON s.project = p.no {JOINED} WHERE p.id = $1 AND s.id = $2"
    );
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&project.as_str(), Type::TEXT), (&id.to_string(), Type::TEXT)];
    let rows = client.query_typed(&text, &values).await?;
    rows.first().map(|row| Ok(read_sub_job(row, shared)?.1)).transpose()
}

/// One job, with its first subtasks.
pub(super) async fn job(
    client: &Client,
    project: i64,
    id: &JobId,
    job_types: JobTypeSet,
    limit: usize,
    shared: &Shared,
) -> Result<Option<Job>, ReadError> {
    let counts = counts(client, project, Some(id), job_types, shared).await?;
    if counts.total() == 0 {
        return Ok(None);
    }
    let condition =
        |status| Condition::of(project, &CountFilter { status, job_types, job_id: Some(id.clone()) }, shared);
    let first = condition(None).page(client, (0, limit), shared).await?;
    let mut failed: Option<(i64, SubJob)> = None;
    for status in Status::ALL.into_iter().filter(|status| status.has_failed() && counts.of(*status) > 0) {
        let found = condition(Some(status)).page(client, (0, 1), shared).await?;
        failed = failed.into_iter().chain(found).min_by_key(|(seq, _)| *seq);
    }
    let last = first.last().map(|(seq, _)| *seq);
    let failed_later = failed.filter(|(seq, _)| last.is_some_and(|last| *seq > last));
    Ok(Some(Job {
        counts,
        sub_jobs: first.into_iter().map(|(_, sub_job)| sub_job).collect(),
        failed_later: failed_later.map(|(_, sub_job)| sub_job),
    }))
}
