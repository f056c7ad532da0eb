//! Reads of jobs: one with its first subtasks, a page of a project's image jobs.

use super::{Backend, EmbeddedStore};
use crate::domain::{JobFilter, JobId, JobTypeSet, ProjectId};
use crate::store::memory::{ImageJobPage, ImageJobRow, JobRows};
use crate::store::{ImageJob, Job, JobPage, StoreError};

impl EmbeddedStore {
    /// A job: the project's subtasks of that job and of some types, the first `limit` of them with their details. `None` if there
    /// is none. The time hardly depends on the number of subtasks.
    pub(in crate::store) async fn job(
        &self,
        project: &ProjectId,
        id: &JobId,
        job_types: JobTypeSet,
        limit: usize,
    ) -> Result<Option<Job>, StoreError> {
        loop {
            let Some(found) = self.memory.job(project, id, job_types, limit)? else { return Ok(None) };
            let JobRows { counts, mut rows, has_failed_later } = found;
            if self.read_details(&mut rows).await? {
                let failed_later = if has_failed_later { rows.pop() } else { None };
                let sub_jobs = rows.into_iter().map(|row| row.sub_job).collect();
                return Ok(Some(Job { counts, sub_jobs, failed_later: failed_later.map(|row| row.sub_job) }));
            }
        }
    }

    /// The jobs of image subtasks whose own type and status match, from the one at `offset` on, at most `limit`, as they are at one
    /// moment. Those of more than `most_timed` subtasks have no times. The time hardly depends on the number of subtasks or jobs.
    pub(in crate::store) async fn image_jobs(
        &self,
        project: &ProjectId,
        filter: JobFilter,
        offset: u64,
        limit: usize,
        most_timed: u64,
    ) -> Result<JobPage, StoreError> {
        loop {
            let ImageJobPage { total, jobs } = self.memory.image_jobs(project, filter, offset, limit, most_timed)?;
            let jobs = match &self.backend {
                Backend::Memory(_) => Some(jobs),
                Backend::DataDir(disk) => disk.read_times(jobs).await?,
            };
            if let Some(jobs) = jobs {
                let job = |ImageJobRow { id, job_type, counts, times, .. }| ImageJob { id, job_type, counts, times };
                return Ok(JobPage { total, jobs: jobs.into_iter().map(job).collect() });
            }
        }
    }
}
