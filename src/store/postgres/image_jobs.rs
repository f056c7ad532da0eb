//! Lists of jobs of image subtasks. Unlike other lists they read every image subtask of the project.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::error::ReadError;
use super::job_hash::JobHash;
use super::shared::Shared;
use super::statements::of_statuses;
use crate::domain::{JobFilter, JobId, JobTypeSet, Status, StatusCounts, TimeRange};
use crate::store::data_dir::decode_details;
use crate::store::types::{ImageJob, JobPage};

/// A page of the jobs that match, in the order of their first image subtasks.
pub(super) async fn image_jobs(
    client: &Client,
    project: i64,
    filter: JobFilter,
    (offset, limit): (u64, usize),
    most_timed: u64,
    shared: &Shared,
) -> Result<JobPage, ReadError> {
    let mut page = JobPage::default();
    let images = shared.types.of_set(JobTypeSet::IMAGE);
    let text = format!(
        "SELECT s.job, (array_agg(s.job_type ORDER BY s.seq))[1], {} FROM sub_job s \
         WHERE s.project = $1 AND s.job_type = ANY($2) GROUP BY s.job ORDER BY min(s.seq)",
        of_statuses(|status| format!("count(*) FILTER (WHERE s.status = {status})"))
    );
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&project, Type::INT8), (&images, Type::INT2_ARRAY)];
    let mut found = Vec::new();
    {
        // Row by row, since only those of the page are kept.
        let mut rows = pin!(client.query_typed_raw(&text, values.map(|(value, kind)| (value, kind))).await?);
        while let Some(row) = rows.try_next().await? {
            let job_type: i16 = row.try_get(1)?;
            let job_type = shared.types.job_type(job_type).ok_or(ReadError::UnknownType(job_type))?;
            let counts = read_counts(&row)?;
            if filter.status.is_none_or(|status| status == counts.job_status())
                && filter.job_types.contains(job_type.index())
            {
                if page.total >= offset && found.len() < limit {
                    found.push((row.try_get::<_, JobHash>(0)?, job_type, counts));
                }
                page.total += 1;
            }
        }
    }
    for (job, job_type, counts) in found {
        let is_timed = counts.total() <= most_timed;
        let (id, times) = read_job(client, project, job, &images, is_timed).await?;
        page.jobs.push(ImageJob { id, job_type, counts, times });
    }
    Ok(page)
}

fn read_counts(row: &Row) -> Result<StatusCounts, ReadError> {
    let mut counts = StatusCounts::default();
    for status in Status::ALL {
        counts.add(status, u64::try_from(row.try_get::<_, i64>(2 + status as usize)?).unwrap_or(0));
    }
    Ok(counts)
}

/// The identifier of a job, and the times of its image subtasks if they are wanted.
async fn read_job(
    client: &Client,
    project: i64,
    job: JobHash,
    images: &Vec<i16>,
    is_timed: bool,
) -> Result<(JobId, TimeRange), ReadError> {
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&project, Type::INT8), (&job, Type::UUID)];
    let text = "SELECT job_id FROM job_tally WHERE project = $1 AND job = $2 LIMIT 1";
    let rows = client.query_typed(text, &values).await?;
    let id: &str = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    let id = JobId::parse(id).map_err(|_| ReadError::Unreadable(id.into()))?;
    let mut times = TimeRange::default();
    if is_timed {
        let [project, job] = values;
        let text = "SELECT details FROM sub_job WHERE project = $1 AND job = $2 AND job_type = ANY($3)";
        for row in client.query_typed(text, &[project, job, (images, Type::INT2_ARRAY)]).await? {
            if let Some(bytes) = row.try_get::<_, Option<&[u8]>>(0)? {
                times.include(&decode_details(bytes).map_err(|_| ReadError::Unreadable(id.to_string()))?);
            }
        }
    }
    Ok((id, times))
}
