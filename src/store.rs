//! The contract of a store of subtasks. It knows nothing of HTTP.
//!
//! - [`Store::count`] is exact at the moment of reading, and takes the same time however many subtasks there are.
//! - [`Store::report`] is atomic: it stores all of a batch or nothing, and no reader sees a part of it.
//! - After a report has returned, every count includes it. If the store has a data directory, the report is durable.
//! - Only a report, a deletion or [`Store::expire`] changes a count.
//! - Subtasks are ordered by their first report. Later reports do not change the order.
//!
//! A change has three steps. **Plan**: a pure function (`core`) reads what is stored and returns the outcome and the effects, which
//! are the new states of subtasks. **Append**: if there is a data directory, the effects are appended to its log (`log` has the
//! durability argument). **Apply**: memory takes on the new states, which cannot fail. So no change is ever rolled back, and no reader
//! waits for the disk.
//!
//! Reads and changes are async, since the store may be in a database (`postgres`). A count in memory (`embedded`) never waits.

mod background;
mod core;
mod data_dir;
mod embedded;
mod end_time;
mod log;
mod memory;
mod pending;
mod postgres;
mod types;
mod watch;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use self::core::NotDeletable;
pub use self::data_dir::{Backup, DataDir, OpenError, STORE_DESCRIPTORS, backup, export};
use self::embedded::EmbeddedStore;
pub use self::pending::{Deferred, Submitted};
use self::postgres::PostgresStore;
pub use self::postgres::{
    DatabaseError, DatabaseStats, Migrated, Repaired, StoreCheck, StoreUrl, StoreUrlError, Target, TargetError,
    check_database, export_database, migrate, repair_database,
};
pub use self::types::{Dropped, ImageJob, Job, JobPage, Outcome, Page, StoreError, StoreKind, Summary, Totals};
pub use self::watch::{Watch, WatchEnded};
use crate::domain::{
    CountFilter, JobFilter, JobId, JobType, JobTypeSet, JobTypes, ProjectId, Status, StatusSet, SubJob, SubJobId,
    WaitCondition,
};

/// Subtasks, with exact counts in constant time.
#[derive(Debug)]
pub struct Store(Kind);

/// Where the subtasks are.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one store, and a count in memory follows no further pointer"
)]
enum Kind {
    Embedded(EmbeddedStore),
    Postgres(Box<PostgresStore>),
}

impl Store {
    /// An empty store, in memory only, for subtasks of `job_types` many types.
    pub fn in_memory(job_types: usize) -> Self {
        Self(Kind::Embedded(EmbeddedStore::in_memory(job_types)))
    }

    /// A store with a data directory, which is empty and refuses changes before [`Store::open`].
    pub fn on_disk(dir: DataDir, job_types: JobTypes) -> Self {
        Self(Kind::Embedded(EmbeddedStore::on_disk(dir, job_types)))
    }

    /// A store in a database, which is unavailable before [`Store::open`]. `lanes` connections write. A report is given up after
    /// `patience`.
    pub fn in_postgres(target: Target, job_types: JobTypes, lanes: usize, patience: Duration) -> Self {
        Self(Kind::Postgres(Box::new(PostgresStore::new(target, job_types, lanes, patience))))
    }

    /// Recovers the data directory, or connects to the database; does nothing for a store in memory. Calls `progress` with the number of
    /// subtasks read so far and in all. Blocks; stops soon after `cancelled` has become true.
    ///
    /// # Errors
    ///
    /// If anything that was acknowledged is missing or not intact, the directory cannot be read or written, or the database is not one
    /// that this program can use.
    pub fn open(&self, progress: impl FnMut(u64, u64), cancelled: &AtomicBool) -> Result<(), OpenError> {
        match &self.0 {
            Kind::Embedded(store) => store.open(progress, cancelled),
            Kind::Postgres(store) => store.open(progress, cancelled),
        }
    }

    /// Refuses changes from now on, and closes the data directory or the connections.
    pub fn close(&self) {
        match &self.0 {
            Kind::Embedded(store) => store.close(),
            Kind::Postgres(store) => store.close(),
        }
    }

    /// How many subtasks of `project` match `filter`. The time does not depend on the number of subtasks.
    ///
    /// The count of an unknown project or job is 0.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database does not answer.
    pub async fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.count(project, filter).await,
            // Boxed, so that the future of a count in memory stays small.
            Kind::Postgres(store) => Box::pin(store.count(project, filter)).await,
        }
    }

    /// Updates what [`Store::total`] returns, if it must be asked for.
    pub async fn refresh_totals(&self) {
        match &self.0 {
            Kind::Embedded(store) => store.refresh_totals().await,
            Kind::Postgres(store) => store.refresh_totals().await,
        }
    }

    /// What a store in a database has done; `None` for the others.
    pub fn database_stats(&self) -> Option<DatabaseStats> {
        match &self.0 {
            Kind::Embedded(_) => None,
            Kind::Postgres(store) => Some(store.stats()),
        }
    }

    /// How many subtasks of all projects are of that type and in that status.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database does not answer.
    pub fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.total(job_type, status),
            Kind::Postgres(store) => store.total(job_type, status),
        }
    }

    /// How many subtasks there are. Blocks if the store is in a database.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database does not answer.
    pub fn sub_jobs(&self) -> Result<u64, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.sub_jobs(),
            Kind::Postgres(store) => store.sub_jobs(),
        }
    }

    /// The time between the last write to the data directory and its opening by this process, by the wall clock. `None` if it is
    /// unknown, or there is no data directory.
    pub fn unwritten_before(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Embedded(store) => store.unwritten_before(),
            Kind::Postgres(store) => store.unwritten_before(),
        }
    }

    /// One subtask, with its details.
    ///
    /// # Errors
    ///
    /// Those of a count, or the details cannot be read.
    pub async fn sub_job(&self, project: &ProjectId, id: &SubJobId) -> Result<Option<SubJob>, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.sub_job(project, id).await,
            Kind::Postgres(store) => store.sub_job(project, id).await,
        }
    }

    /// The subtasks that match, from the one at `offset` on, at most `limit`, with their details, as they are at one moment.
    ///
    /// In memory, the time hardly depends on the filter, the offset, or the number of subtasks.
    ///
    /// # Errors
    ///
    /// Those of a count, or the details cannot be read.
    pub async fn page(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        offset: u64,
        limit: usize,
    ) -> Result<Page, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.page(project, filter, offset, limit).await,
            Kind::Postgres(store) => store.page(project, filter, offset, limit).await,
        }
    }

    /// How many subtasks a project, or one of its jobs, has of each type in each status.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database does not answer.
    pub async fn summary(&self, project: &ProjectId, job: Option<&JobId>) -> Result<Summary, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.summary(project, job).await,
            Kind::Postgres(store) => store.summary(project, job).await,
        }
    }

    /// How many subtasks of `project` are in one of `statuses` and match the rest of `filter`, and the project's revision, both
    /// of one moment.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database does not answer.
    pub async fn count_at_revision(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        statuses: StatusSet,
    ) -> Result<(u64, u64), StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.count_at_revision(project, filter, statuses).await,
            Kind::Postgres(store) => store.count_at_revision(project, filter, statuses).await,
        }
    }

    /// A job: the project's subtasks of that job and of some types, the first `limit` of them with their details. `None` if there
    /// is none.
    ///
    /// # Errors
    ///
    /// Those of a page.
    pub async fn job(
        &self,
        project: &ProjectId,
        id: &JobId,
        job_types: JobTypeSet,
        limit: usize,
    ) -> Result<Option<Job>, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.job(project, id, job_types, limit).await,
            Kind::Postgres(store) => store.job(project, id, job_types, limit).await,
        }
    }

    /// The jobs of image subtasks whose own type and status match, from the one at `offset` on, at most `limit`, as they are at one
    /// moment. Those of more than `most_timed` subtasks have no times.
    ///
    /// # Errors
    ///
    /// Those of a page.
    pub async fn image_jobs(
        &self,
        project: &ProjectId,
        filter: JobFilter,
        offset: u64,
        limit: usize,
        most_timed: u64,
    ) -> Result<JobPage, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.image_jobs(project, filter, offset, limit, most_timed).await,
            Kind::Postgres(store) => store.image_jobs(project, filter, offset, limit, most_timed).await,
        }
    }

    /// Watches a project: [`Watch::changed`] returns after each change that is made from now on. With a condition, it may return only
    /// after those that make it true.
    pub fn watch(&self, project: &ProjectId, condition: Option<WaitCondition>) -> Watch {
        match &self.0 {
            Kind::Embedded(store) => store.watch(project, condition),
            Kind::Postgres(store) => store.watch(project),
        }
    }

    /// Wakes tasks that watch projects when these change, for ever; nothing else does.
    pub async fn wake_watchers(&self) {
        match &self.0 {
            Kind::Embedded(store) => store.wake_watchers().await,
            Kind::Postgres(store) => store.wake_watchers().await,
        }
    }

    /// Ends every [`Watch`], those that are made later too.
    pub fn end_watches(&self) {
        match &self.0 {
            Kind::Embedded(store) => store.end_watches(),
            Kind::Postgres(store) => store.end_watches(),
        }
    }

    /// Fails if the store can no longer be trusted, or its database does not answer.
    ///
    /// # Errors
    ///
    /// Why.
    pub fn check(&self) -> Result<(), StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.check(),
            Kind::Postgres(store) => store.check(),
        }
    }

    /// Whether a report could be stored now, as far as is known. Only a report that fails tells that the disk is full or broken.
    pub fn takes_reports(&self) -> bool {
        match &self.0 {
            Kind::Embedded(store) => store.takes_reports(),
            Kind::Postgres(store) => store.takes_reports(),
        }
    }

    /// Stores a batch of subtasks of one project, in order, atomically. Blocks until it is durable, so an async task must use
    /// [`Store::submit`].
    ///
    /// The key of a subtask is (project, id). A record replaces the stored one unless its version is lower.
    ///
    /// # Errors
    ///
    /// If the store is broken or full, or changes cannot be stored.
    pub fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.report(project, batch),
            Kind::Postgres(store) => store.report(project, batch),
        }
    }

    /// The same, whose result can be awaited. The call itself blocks while the queue is full.
    pub fn submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Submitted {
        match &self.0 {
            Kind::Embedded(store) => store.submit(project, batch),
            Kind::Postgres(store) => store.submit(project, batch),
        }
    }

    /// The same without blocking, for a small batch.
    ///
    /// # Errors
    ///
    /// The batch, if a call of [`Store::submit_deferred`] is needed, which may block: other changes are in progress.
    pub fn try_submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Result<Submitted, Deferred> {
        match &self.0 {
            Kind::Embedded(store) => store.try_submit(project, batch),
            Kind::Postgres(store) => store.try_submit(project, batch),
        }
    }

    /// Submits a batch that could not be submitted without blocking. The call itself blocks while the queue is full.
    pub fn submit_deferred(&self, deferred: Deferred) -> Submitted {
        match &self.0 {
            Kind::Embedded(store) => store.submit_deferred(deferred),
            Kind::Postgres(store) => store.submit_deferred(deferred),
        }
    }

    /// Deletes the subtasks with these identifiers and types from a project, all or none: each must have status SUCCESS or FAILED.
    /// Identifiers that are not stored are ignored. Returns how many have been deleted. The call itself blocks while the queue is full.
    pub fn delete(
        &self,
        project: ProjectId,
        ids: Vec<SubJobId>,
        job_types: JobTypeSet,
    ) -> Submitted<Result<u64, NotDeletable>> {
        match &self.0 {
            Kind::Embedded(store) => store.delete(project, ids, job_types),
            Kind::Postgres(store) => store.delete(project, ids, job_types),
        }
    }

    /// Deletes all subtasks of a project in one step, whatever their status. How many have been deleted.
    pub fn reset(&self, project: ProjectId) -> Submitted<u64> {
        match &self.0 {
            Kind::Embedded(store) => store.reset(project),
            Kind::Postgres(store) => store.reset(project),
        }
    }
}

#[cfg(test)]
impl Store {
    fn embedded(&self) -> &EmbeddedStore {
        match &self.0 {
            Kind::Embedded(store) => store,
            Kind::Postgres(_) => panic!("the store is in a database"),
        }
    }
}

/// PostgreSQL servers for the tests.
#[cfg(test)]
#[path = "../tests/support/postgres.rs"]
#[allow(unused_imports, reason = "the tests of the program use more of it")]
mod cluster;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
