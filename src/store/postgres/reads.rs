//! The reads of a store in a database.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::group_read::{Counters, Key, Request};
use super::image_jobs;
use super::job_hash::JobHash;
use super::pages;
use super::upkeep;
use super::{PostgresStore, Totals};
use crate::domain::{
    CountFilter, JobFilter, JobId, JobType, JobTypeSet, ProjectId, Status, StatusSet, SubJob, SubJobId,
};
use crate::store::types::{Job, JobPage, Page, StoreError, Summary, Totals as TotalsOfAll};

/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_millis(1900);

/// How old totals may be.
const TOTALS_AGE: Duration = Duration::from_secs(1);

impl PostgresStore {
    async fn counters(&self, project: &ProjectId, job: Option<&JobId>) -> Result<Arc<Counters>, StoreError> {
        let tasks = self.tasks()?;
        if self.health.is_down() {
            return Err(StoreError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let key = Key { project: project.clone(), job: job.map(JobHash::of) };
        tasks.counts.try_send(Request { key, reply }).map_err(|_| StoreError::Unavailable)?;
        let answer = async {
            match timeout(READ_LIMIT, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
            }
        };
        self.unless_down(answer).await
    }

    /// The answer of a read, or an error as soon as the database does not answer.
    async fn unless_down<A>(&self, read: impl Future<Output = Result<A, StoreError>>) -> Result<A, StoreError> {
        let mut is_down = self.health.watch();
        tokio::select! {
            biased;
            answer = read => answer,
            Ok(_) = is_down.wait_for(|is_down| *is_down) => Err(StoreError::Unavailable),
        }
    }

    pub(in crate::store) async fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        Ok(self.counters(project, filter.job_id.as_ref()).await?.count(filter))
    }

    pub(in crate::store) async fn count_at_revision(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        statuses: StatusSet,
    ) -> Result<(u64, u64), StoreError> {
        let counters = self.counters(project, filter.job_id.as_ref()).await?;
        Ok((counters.count_in(filter, statuses), counters.revision))
    }

    pub(in crate::store) async fn summary(
        &self,
        project: &ProjectId,
        job: Option<&JobId>,
    ) -> Result<Summary, StoreError> {
        let counters = self.counters(project, job).await?;
        let of_type = |(job_type, counts): &(JobType, [u64; Status::COUNT])| {
            let (job_type, counts) = (*job_type, *counts);
            Status::ALL.into_iter().map(move |status| (job_type, status, counts[status as usize]))
        };
        let counts = counters.counts.iter().flat_map(of_type).filter(|(.., count)| *count > 0).collect();
        Ok(Summary { revision: counters.revision, counts })
    }

    pub(in crate::store) async fn sub_job(
        &self,
        project: &ProjectId,
        id: &SubJobId,
    ) -> Result<Option<SubJob>, StoreError> {
        let shared = &self.tasks()?.shared;
        let read =
            self.lists.run(&self.target, project, async |client, _| pages::sub_job(client, project, id, shared).await);
        self.unless_down(read).await
    }

    pub(in crate::store) async fn page(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        offset: u64,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let shared = &self.tasks()?.shared;
        let read = self.lists.run_in_order(&self.target, project, async |client, project| {
            pages::page(client, project, filter, (offset, limit), shared).await
        });
        Ok(self.unless_down(read).await?.unwrap_or_default())
    }

    pub(in crate::store) async fn job(
        &self,
        project: &ProjectId,
        id: &JobId,
        job_types: JobTypeSet,
        limit: usize,
    ) -> Result<Option<Job>, StoreError> {
        let shared = &self.tasks()?.shared;
        let read = self.lists.run_in_order(&self.target, project, async |client, project| {
            pages::job(client, project, id, job_types, limit, shared).await
        });
        Ok(self.unless_down(read).await?.flatten())
    }

    pub(in crate::store) async fn image_jobs(
        &self,
        project: &ProjectId,
        filter: JobFilter,
        offset: u64,
        limit: usize,
        most_timed: u64,
    ) -> Result<JobPage, StoreError> {
        let shared = &self.tasks()?.shared;
        let read = self.lists.run_in_order(&self.target, project, async |client, project| {
            image_jobs::image_jobs(client, project, filter, (offset, limit), most_timed, shared).await
        });
        Ok(self.unless_down(read).await?.unwrap_or_default())
    }

    /// Reads the totals, unless they are younger than a second. If the database does not answer there are none.
    pub(in crate::store) async fn refresh_totals(&self) {
        let Ok(tasks) = self.tasks() else { return };
        let _turn = self.totals_turn.lock().await;
        if self.totals().as_ref().is_some_and(|(read, _)| read.elapsed() < TOTALS_AGE) {
            return;
        }
        let read = self.upkeep.run(&self.target, READ_LIMIT, async |client| upkeep::totals(client).await).await;
        let totals = read.ok().map(|read| {
            let mut by_type = vec![[0; Status::COUNT]; self.job_types.len()];
            for (number, counts) in read {
                if let Some(job_type) = tasks.shared.types.job_type(number) {
                    by_type[job_type.index()] = counts;
                }
            }
            (Instant::now(), by_type)
        });
        *self.totals() = totals;
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        let totals = self.totals();
        let (_, by_type) = totals.as_ref().ok_or(StoreError::Unavailable)?;
        Ok(by_type[job_type.index()][status as usize])
    }

    /// The totals that were read last, with their age.
    pub(in crate::store) fn read_totals(&self) -> Result<TotalsOfAll, StoreError> {
        let totals = self.totals();
        let (read, counts) = totals.as_ref().ok_or(StoreError::Unavailable)?;
        Ok(TotalsOfAll { counts: counts.clone(), age: read.elapsed() })
    }

    pub(in crate::store) fn sub_jobs(&self) -> Result<u64, StoreError> {
        let read = self.upkeep.run(&self.target, READ_LIMIT, async |client| upkeep::totals(client).await);
        Ok(self.block_on(read)?.iter().flat_map(|(_, counts)| counts).sum())
    }
}
