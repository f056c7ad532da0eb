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
//! Reads and changes are async, so that a store whose subtasks are in a database can have the same interface. A count in memory never
//! waits.

mod bulk_load;
mod core;
mod data_dir;
mod end_time;
mod jobs;
mod log;
mod memory;
mod pending;
mod postgres;
mod types;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

pub use self::core::NotDeletable;
use self::core::{Draft, Rules};
use self::data_dir::DataDirStore;
pub use self::data_dir::{DataDir, OpenError, STORE_DESCRIPTORS, export};
use self::end_time::EndTime;
use self::memory::{MemoryStore, Row, RowPage, View};
pub use self::pending::{Deferred, Submitted};
use self::pending::{Pending, Plan, Work};
pub use self::postgres::{
    DatabaseError, Migrated, StoreCheck, StoreUrl, StoreUrlError, Target, TargetError, check_database, export_database,
    migrate,
};
pub use self::types::{Dropped, ImageJob, Job, JobPage, Outcome, Page, StoreError, Summary};
pub use self::watch::{Watch, WatchEnded};
use crate::domain::{
    CountFilter, JobId, JobType, JobTypeSet, JobTypes, ProjectId, Status, StatusSet, SubJob, SubJobId, Timestamp,
};

/// The most records that one [`Store::expire`] removes.
const EXPIRE_SLICE: usize = 1024;

/// Subtasks, with exact counts in constant time.
#[derive(Debug)]
pub struct Store {
    memory: Arc<MemoryStore>,
    backend: Backend,
    /// The largest mismatch that a verification has found; 0 is right.
    drift: AtomicU64,
}

/// What makes changes durable.
#[derive(Debug)]
enum Backend {
    /// Nothing. The revision of the next change, locked while a change is made.
    Memory(Mutex<u64>),
    DataDir(DataDirStore),
}

impl Store {
    /// An empty store, in memory only, for subtasks of `job_types` many types.
    pub fn in_memory(job_types: usize) -> Self {
        // Higher than all of an earlier process, so that none is used twice.
        let first_revision = Timestamp::now().as_microseconds().max(1) as u64;
        Self::new(job_types, Backend::Memory(Mutex::new(first_revision)))
    }

    /// A store with a data directory, which is empty and refuses changes before [`Store::open`].
    pub fn on_disk(dir: DataDir, job_types: JobTypes) -> Self {
        Self::new(job_types.len(), Backend::DataDir(DataDirStore::new(dir, job_types)))
    }

    fn new(job_types: usize, backend: Backend) -> Self {
        Self { memory: Arc::new(MemoryStore::new(job_types)), backend, drift: AtomicU64::new(0) }
    }

    /// Recovers the data directory; does nothing for a store in memory. Calls `progress` with the number of subtasks read so far and
    /// in all. Stops soon after `cancelled` has become true.
    ///
    /// # Errors
    ///
    /// If anything that was acknowledged is missing or not intact, or the directory cannot be read or written.
    pub fn open(&self, progress: impl FnMut(u64, u64), cancelled: &AtomicBool) -> Result<(), OpenError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::DataDir(disk) => disk.open(self.memory.clone(), progress, cancelled),
        }
    }

    /// Refuses changes from now on, and closes the data directory.
    pub fn close(&self) {
        if let Backend::DataDir(disk) = &self.backend {
            disk.close();
        }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    ///
    /// The count of an unknown project or job is 0.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub async fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        self.memory.count(project, filter)
    }

    /// How many subtasks of all projects are of that type and in that status.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        self.memory.total(job_type, status)
    }

    /// How many subtasks there are.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub fn sub_jobs(&self) -> Result<u64, StoreError> {
        self.memory.sub_jobs()
    }

    /// The time between the last write to the data directory and its opening by this process, by the wall clock. `None` if it is
    /// unknown, or for a store in memory.
    pub fn unwritten_before(&self) -> Option<Duration> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::DataDir(disk) => disk.unwritten_before(),
        }
    }

    /// One subtask, with its details.
    ///
    /// # Errors
    ///
    /// If the store is broken, or details cannot be read from the data directory.
    pub async fn sub_job(&self, project: &ProjectId, id: &SubJobId) -> Result<Option<SubJob>, StoreError> {
        loop {
            let mut rows: Vec<_> = self.memory.find(project, id)?.into_iter().collect();
            if self.read_details(&mut rows).await? {
                return Ok(rows.pop().map(|row| row.sub_job));
            }
        }
    }

    /// The subtasks that match, from the one at `offset` on, at most `limit`, with their details, as they are at one moment.
    ///
    /// The time hardly depends on the filter, the offset, or the number of subtasks.
    ///
    /// # Errors
    ///
    /// If the store is broken, or details cannot be read from the data directory.
    pub async fn page(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        offset: u64,
        limit: usize,
    ) -> Result<Page, StoreError> {
        loop {
            let RowPage { total, revision, mut items } = self.memory.page(project, filter, offset, limit)?;
            if self.read_details(&mut items).await? {
                return Ok(Page { total, revision, sub_jobs: items.into_iter().map(|row| row.sub_job).collect() });
            }
        }
    }

    /// Reads the details that are not in memory. False if a snapshot has moved them meanwhile; the caller then reads all again.
    async fn read_details(&self, rows: &mut [Row]) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Memory(_) => Ok(true),
            Backend::DataDir(disk) => disk.read_details(rows).await,
        }
    }

    /// How many subtasks a project, or one of its jobs, has of each type in each status.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub async fn summary(&self, project: &ProjectId, job: Option<&JobId>) -> Result<Summary, StoreError> {
        let (revision, counts) = self.memory.summary(project, job)?;
        Ok(Summary { revision, counts })
    }

    /// How many subtasks of `project` are in one of `statuses` and match the rest of `filter`, and the project's revision, both
    /// of one moment.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub async fn count_at_revision(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        statuses: StatusSet,
    ) -> Result<(u64, u64), StoreError> {
        self.memory.count_at_revision(project, filter, statuses)
    }

    /// Watches a project: [`Watch::changed`] returns after each change that is made from now on.
    pub fn watch(&self, project: &ProjectId) -> Watch {
        self.memory.watches().watch(project)
    }

    /// Wakes tasks that watch projects when these change, for ever; nothing else does.
    pub async fn wake_watchers(&self) {
        self.memory.watches().run().await;
    }

    /// Ends every [`Watch`], those that are made later too.
    pub fn end_watches(&self) {
        self.memory.watches().end();
    }

    /// Fails if the store can no longer be trusted.
    ///
    /// # Errors
    ///
    /// Why the counts cannot be trusted.
    pub fn check(&self) -> Result<(), StoreError> {
        self.memory.check()?;
        if let Backend::DataDir(disk) = &self.backend
            && disk.has_crashed()
        {
            return Err(StoreError::Broken);
        }
        match self.drift() {
            0 => Ok(()),
            drift => Err(StoreError::Drifted(drift)),
        }
    }

    /// Whether a report could be stored now, as far as is known. Only a report that fails tells that the disk is full or broken.
    pub fn takes_reports(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => self.memory.check().is_ok(),
            Backend::DataDir(disk) => disk.takes_changes() && self.memory.check().is_ok(),
        }
    }

    /// Stores a batch of subtasks of one project, in order, atomically. Blocks until it is durable, so an async task must use
    /// [`Store::submit`].
    ///
    /// The key of a subtask is (project, id). A record replaces the stored one unless its version is lower.
    ///
    /// # Errors
    ///
    /// If the store is broken or full, or the data directory refuses changes.
    pub fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        self.submit(project.clone(), batch).0.wait()
    }

    /// The same, whose result can be awaited. The call itself blocks while the queue is full.
    pub fn submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Submitted {
        Submitted(self.submit_batch(project, batch, false))
    }

    fn submit_batch(&self, project: ProjectId, batch: Vec<SubJob>, only_new: bool) -> Pending<Outcome> {
        self.change(batch.len(), report_plan(project, batch, only_new))
    }

    /// The same without blocking, for a small batch.
    ///
    /// # Errors
    ///
    /// The batch, if a call of [`Store::submit_deferred`] is needed, which may block: other changes are in progress.
    pub fn try_submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Result<Submitted, Deferred> {
        let size = batch.len();
        let (plan, pending) = Pending::new(report_plan(project, batch, false));
        let work = Work { size, plan };
        let not_submitted = match &self.backend {
            Backend::DataDir(disk) => disk.try_submit(work).err(),
            Backend::Memory(next_revision) => match next_revision.try_lock() {
                Err(TryLockError::WouldBlock) => Some(work),
                next_revision => {
                    self.change_in_memory(next_revision.ok(), work.plan);
                    None
                }
            },
        };
        match not_submitted {
            None => Ok(Submitted(pending)),
            Some(work) => Err(Deferred { work, pending }),
        }
    }

    /// Submits a batch that could not be submitted without blocking. The call itself blocks while the queue is full.
    pub fn submit_deferred(&self, deferred: Deferred) -> Submitted {
        self.make(deferred.work);
        Submitted(deferred.pending)
    }

    /// Deletes the subtasks with these identifiers and types from a project, all or none: each must have status SUCCESS or FAILED.
    /// Identifiers that are not stored are ignored. Returns how many have been deleted.
    pub fn delete(
        &self,
        project: ProjectId,
        ids: Vec<SubJobId>,
        job_types: JobTypeSet,
    ) -> Submitted<Result<u64, NotDeletable>> {
        Submitted(self.change(ids.len(), move |draft| Ok(draft.delete(&project, &ids, job_types))))
    }

    /// Deletes all subtasks of a project in one step, whatever their status. How many have been deleted.
    pub fn reset(&self, project: ProjectId) -> Submitted<u64> {
        Submitted(self.change(1, move |draft| Ok(draft.reset(&project))))
    }

    /// Removes subtasks that ended longer than `age` before `now`, among about `most` records after the position `from`. Blocks until
    /// it is durable.
    ///
    /// # Errors
    ///
    /// If the store is broken or full, or the data directory refuses changes.
    pub fn expire(&self, age: Duration, now: Timestamp, from: u64, most: u32) -> Result<Dropped, StoreError> {
        let moment = EndTime::new(now.before(age));
        let (due, next) = self.memory.view(None)?.ended_before(moment, from, most, EXPIRE_SLICE);
        if due.is_empty() {
            return Ok(Dropped { next, count: 0 });
        }
        let dropped = self.change(EXPIRE_SLICE, move |draft| {
            Ok(due.into_iter().map(|(project, ids)| draft.expire(&project, ids, moment)).sum())
        });
        Ok(Dropped { next, count: dropped.wait()? })
    }

    /// Makes a change of about `size` subtasks: plans it, appends it, applies it.
    fn change<A: Send + 'static>(
        &self,
        size: usize,
        plan: impl for<'d, 'v> FnOnce(&'d mut Draft<'v, View<'v>>) -> Result<A, StoreError> + Send + 'static,
    ) -> Pending<A> {
        let (plan, pending) = Pending::new(plan);
        self.make(Work { size, plan });
        pending
    }

    fn make(&self, work: Work) {
        match &self.backend {
            Backend::DataDir(disk) => disk.submit(work),
            Backend::Memory(next_revision) => self.change_in_memory(next_revision.lock().ok(), work.plan),
        }
    }

    /// Makes a change. There is no lock if a panic has interrupted an earlier change.
    fn change_in_memory(&self, next_revision: Option<MutexGuard<'_, u64>>, plan: Plan) {
        let Some(mut next_revision) = next_revision else { return plan(Err(StoreError::Broken))(Ok(())) };
        let (reply, changes) = match self.memory.view(None) {
            Err(error) => return plan(Err(error))(Ok(())),
            Ok(view) => {
                let mut draft = Draft::new(&view, *next_revision);
                (plan(Ok(&mut draft)), draft.into_changes())
            }
        };
        *next_revision += changes.len() as u64;
        reply(changes.into_iter().try_for_each(|changes| self.memory.apply(changes)));
    }

    /// Writes a snapshot, which makes the next start faster; does nothing for a store in memory. Reports go on meanwhile. Returns
    /// whether it has been written.
    pub fn snapshot(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => false,
            Backend::DataDir(disk) => disk.snapshot(),
        }
    }

    /// Continues the verification of the counters by `most` records or counters. When it is complete, returns by how many subtasks
    /// the counters are off, or were in an earlier verification: [`Store::check`] fails from then on until a restart.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub fn recount(&self, most: usize) -> Result<Option<u64>, StoreError> {
        let mismatch = self.memory.verify(u32::try_from(most).unwrap_or(u32::MAX))?;
        Ok(mismatch.map(|drift| self.drift.fetch_max(drift, Ordering::Relaxed).max(drift)))
    }

    /// The largest mismatch that a verification has found, in subtasks; 0 is right.
    pub fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }
}

/// The plan of a report, or of a load file if it stores new subtasks only.
fn report_plan(
    project: ProjectId,
    batch: Vec<SubJob>,
    only_new: bool,
) -> impl for<'d, 'v> FnOnce(&'d mut Draft<'v, View<'v>>) -> Result<Outcome, StoreError> {
    move |draft| draft.report(&project, batch, Rules { now: EndTime::new(Timestamp::now()), only_new })
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
