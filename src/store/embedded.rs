//! The store in the process itself: memory, made durable by a data directory if there is one.

mod bulk_load;
mod jobs;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use super::core::{Draft, NotDeletable, Rules};
use super::data_dir::{DataDir, DataDirStore, OpenError};
use super::end_time::EndTime;
use super::memory::{MemoryStore, Row, RowPage, View};
use super::pending::{Deferred, DeferredWork, Pending, Plan, Submitted, Work};
use super::types::{Dropped, Outcome, Page, StoreError, Summary};
use super::watch::Watch;
use crate::domain::{
    Clock, CountFilter, JobId, JobType, JobTypeSet, JobTypes, ProjectId, Status, StatusSet, SubJob, SubJobId,
    Timestamp, WaitCondition,
};

/// The most records that one [`EmbeddedStore::expire`] removes.
const EXPIRE_SLICE: usize = 1024;

/// Subtasks, with exact counts in constant time.
#[derive(Debug)]
pub(super) struct EmbeddedStore {
    pub(super) memory: Arc<MemoryStore>,
    pub(super) backend: Backend,
    /// The largest mismatch that a verification has found; 0 is right.
    drift: AtomicU64,
    /// The end of a subtask for which no end time is reported.
    clock: Clock,
}

/// What makes changes durable.
#[derive(Debug)]
pub(super) enum Backend {
    /// Nothing. The revision of the next change, locked while a change is made.
    Memory(Mutex<u64>),
    DataDir(DataDirStore),
}

impl EmbeddedStore {
    /// An empty store, in memory only, for subtasks of `job_types` many types.
    pub(super) fn in_memory(job_types: usize) -> Self {
        // Higher than all of an earlier process, so that none is used twice.
        let first_revision = Timestamp::now().as_microseconds().max(1) as u64;
        Self::new(job_types, Backend::Memory(Mutex::new(first_revision)))
    }

    /// A store with a data directory, which is empty and refuses changes before [`EmbeddedStore::open`].
    pub(super) fn on_disk(dir: DataDir, job_types: JobTypes) -> Self {
        Self::new(job_types.len(), Backend::DataDir(DataDirStore::new(dir, job_types)))
    }

    fn new(job_types: usize, backend: Backend) -> Self {
        Self {
            memory: Arc::new(MemoryStore::new(job_types)),
            backend,
            drift: AtomicU64::new(0),
            clock: Clock::default(),
        }
    }

    pub(super) fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Recovers the data directory; does nothing for a store in memory. Calls `progress` with the number of subtasks read so far and
    /// in all. Stops soon after `cancelled` has become true.
    pub(super) fn open(&self, progress: impl FnMut(u64, u64), cancelled: &AtomicBool) -> Result<(), OpenError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::DataDir(disk) => disk.open(self.memory.clone(), progress, cancelled),
        }
    }

    /// Refuses changes from now on, and closes the data directory.
    pub(super) fn close(&self) {
        if let Backend::DataDir(disk) = &self.backend {
            disk.close();
        }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    ///
    /// The count of an unknown project or job is 0.
    pub(super) async fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        self.memory.count(project, filter)
    }

    /// [`EmbeddedStore::total`] is always up to date.
    pub(super) async fn refresh_totals(&self) {}

    /// How many subtasks of all projects are of that type and in that status.
    pub(super) fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        self.memory.total(job_type, status)
    }

    /// How many subtasks there are.
    pub(super) fn sub_jobs(&self) -> Result<u64, StoreError> {
        self.memory.sub_jobs()
    }

    /// The time between the last write to the data directory and its opening by this process, by the wall clock. `None` if it is
    /// unknown, or for a store in memory.
    pub(super) fn unwritten_before(&self) -> Option<Duration> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::DataDir(disk) => disk.unwritten_before(),
        }
    }

    /// One subtask, with its details.
    pub(super) async fn sub_job(&self, project: &ProjectId, id: &SubJobId) -> Result<Option<SubJob>, StoreError> {
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
    pub(super) async fn page(
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
    pub(super) async fn summary(&self, project: &ProjectId, job: Option<&JobId>) -> Result<Summary, StoreError> {
        let (revision, counts) = self.memory.summary(project, job)?;
        Ok(Summary { revision, counts })
    }

    /// How many subtasks of `project` are in one of `statuses` and match the rest of `filter`, and the project's revision, both
    /// of one moment.
    pub(super) async fn count_at_revision(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        statuses: StatusSet,
    ) -> Result<(u64, u64), StoreError> {
        self.memory.count_at_revision(project, filter, statuses)
    }

    /// Watches a project: [`Watch::changed`] returns after each change that is made from now on; with a condition, only if that is true
    /// then.
    pub(super) fn watch(&self, project: &ProjectId, condition: Option<WaitCondition>) -> Watch {
        self.memory.watches().watch(project, condition)
    }

    /// Wakes tasks that watch projects when these change, for ever; nothing else does.
    pub(super) async fn wake_watchers(&self) {
        self.memory.watches().run(|project, condition| self.memory.holds(project, condition)).await;
    }

    /// Ends every [`Watch`], those that are made later too.
    pub(super) fn end_watches(&self) {
        self.memory.watches().end();
    }

    /// Fails if the store can no longer be trusted.
    pub(super) fn check(&self) -> Result<(), StoreError> {
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
    pub(super) fn takes_reports(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => self.memory.check().is_ok(),
            Backend::DataDir(disk) => disk.takes_changes() && self.memory.check().is_ok(),
        }
    }

    /// Stores a batch of subtasks of one project, in order, atomically. Blocks until it is durable, so an async task must use
    /// [`EmbeddedStore::submit`].
    ///
    /// The key of a subtask is (project, id). A record replaces the stored one unless its version is lower.
    pub(super) fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        self.submit(project.clone(), batch).0.wait()
    }

    /// The same, whose result can be awaited. The call itself blocks while the queue is full.
    pub(super) fn submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Submitted {
        Submitted(self.submit_batch(project, batch, false))
    }

    fn submit_batch(&self, project: ProjectId, batch: Vec<SubJob>, only_new: bool) -> Pending<Outcome> {
        self.change(batch.len(), report_plan(project, batch, only_new, self.clock.clone()))
    }

    /// The same without blocking, for a small batch.
    pub(super) fn try_submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Result<Submitted, Deferred> {
        let size = batch.len();
        let (plan, pending) = Pending::new(report_plan(project, batch, false, self.clock.clone()));
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
            Some(work) => Err(Deferred { work: DeferredWork::Embedded(work), pending }),
        }
    }

    /// Submits a batch that could not be submitted without blocking. The call itself blocks while the queue is full.
    pub(super) fn submit_deferred(&self, deferred: Deferred) -> Submitted {
        if let DeferredWork::Embedded(work) = deferred.work {
            self.make(work);
        }
        Submitted(deferred.pending)
    }

    /// Deletes the subtasks with these identifiers and types from a project, all or none: each must have status SUCCESS or FAILED.
    /// Identifiers that are not stored are ignored. Returns how many have been deleted.
    pub(super) fn delete(
        &self,
        project: ProjectId,
        ids: Vec<SubJobId>,
        job_types: JobTypeSet,
    ) -> Submitted<Result<u64, NotDeletable>> {
        Submitted(self.change(ids.len(), move |draft| Ok(draft.delete(&project, &ids, job_types))))
    }

    /// Deletes all subtasks of a project in one step, whatever their status. How many have been deleted.
    pub(super) fn reset(&self, project: ProjectId) -> Submitted<u64> {
        Submitted(self.change(1, move |draft| Ok(draft.reset(&project))))
    }

    /// Deletes all subtasks of all projects that are known now, those of a project in one step. How many have been deleted.
    pub(super) fn reset_all(&self) -> Result<u64, StoreError> {
        let projects = self.memory.projects()?;
        let reset = self
            .change(projects.len(), move |draft| Ok(projects.iter().map(|(project, _)| draft.reset(project)).sum()));
        reset.wait()
    }

    /// Removes subtasks that ended longer than `age` before `now`, among about `most` records after the position `from`. Blocks until
    /// it is durable.
    pub(super) fn expire(&self, age: Duration, now: Timestamp, from: u64, most: u32) -> Result<Dropped, StoreError> {
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
    pub(super) fn change<A: Send + 'static>(
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
    pub(super) fn snapshot(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => false,
            Backend::DataDir(disk) => disk.snapshot(),
        }
    }

    /// Continues the verification of the counters by `most` records or counters. When it is complete, returns by how many subtasks
    /// the counters are off, or were in an earlier verification: [`EmbeddedStore::check`] fails from then on until a restart.
    pub(super) fn recount(&self, most: usize) -> Result<Option<u64>, StoreError> {
        let mismatch = self.memory.verify(u32::try_from(most).unwrap_or(u32::MAX))?;
        Ok(mismatch.map(|drift| self.drift.fetch_max(drift, Ordering::Relaxed).max(drift)))
    }

    /// The largest mismatch that a verification has found, in subtasks; 0 is right.
    pub(super) fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }
}

/// The plan of a report, or of a load file if it stores new subtasks only.
fn report_plan(
    project: ProjectId,
    batch: Vec<SubJob>,
    only_new: bool,
    clock: Clock,
) -> impl for<'d, 'v> FnOnce(&'d mut Draft<'v, View<'v>>) -> Result<Outcome, StoreError> {
    move |draft| draft.report(&project, batch, Rules { now: EndTime::new(clock.now()), only_new })
}
