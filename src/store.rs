//! What a store of subtasks promises, whatever it is made of. It knows nothing of HTTP.
//!
//! - [`Store::count`] is exact at the moment of reading, and takes the same time however many subtasks there are.
//! - [`Store::report`] takes all of a batch or none of it: no reader ever sees a part.
//! - Once a report has returned, every count sees it; of a store on a disk, it survives power loss from then on.
//! - Nothing but a report, a deletion or [`Store::expire`] changes a count.
//! - Subtasks have an order, that of their first reports, which stays whatever is reported of them later.
//!
//! A change goes through three steps. The core plans it: a pure function of what is stored and what is asked, which yields the
//! outcome and what becomes of each subtask. A store on a disk appends that to its log. Then memory applies it, which cannot
//! fail. So nothing is ever taken back, and nobody who reads waits for the disk.
//!
//! Reads and changes may wait, so that they can be those of a store whose subtasks are elsewhere; those here hardly do.

mod core;
mod data_dir;
mod ended;
mod log;
mod memory;
mod pending;
mod types;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use self::core::NotDeletable;
use self::core::{Draft, Rules};
use self::data_dir::DataDirStore;
pub use self::data_dir::{DataDir, OpenError, STORE_DESCRIPTORS, export};
use self::ended::Ended;
use self::memory::{Found, FoundPage, MemoryStore, View};
pub use self::pending::Submitted;
use self::pending::{Pending, Plan};
pub use self::types::{Dropped, Outcome, Page, StoreError, Summary};
pub use self::watch::{Watch, WatchEnded};
use crate::domain::{
    CountFilter, JobId, JobType, JobTypeSet, JobTypes, ProjectId, Status, StatusSet, SubJob, SubJobId, Timestamp,
};

/// The most records that one [`Store::expire`] drops.
const DROPPED_AT_ONCE: usize = 1024;

/// Subtasks, with exact counts in constant time.
#[derive(Debug)]
pub struct Store {
    memory: Arc<MemoryStore>,
    backend: Backend,
    /// The most that a recount has found; 0 is right.
    drift: AtomicU64,
}

/// What changes go through on their way into memory.
#[derive(Debug)]
enum Backend {
    /// Nothing. The revision of the next change, held by whoever makes one.
    Memory(Mutex<u64>),
    DataDir(DataDirStore),
}

impl Store {
    /// An empty store, in memory only, for subtasks of `job_types` many types.
    pub fn in_memory(job_types: usize) -> Self {
        // Later than all of an earlier life, so that none is ever used twice.
        let first_revision = Timestamp::now().as_microseconds().max(1) as u64;
        Self::new(job_types, Backend::Memory(Mutex::new(first_revision)))
    }

    /// A store on a disk, which is empty and takes nothing before [`Store::open`].
    pub fn on_disk(dir: DataDir, job_types: JobTypes) -> Self {
        Self::new(job_types.len(), Backend::DataDir(DataDirStore::new(dir, job_types)))
    }

    fn new(job_types: usize, backend: Backend) -> Self {
        Self { memory: Arc::new(MemoryStore::new(job_types)), backend, drift: AtomicU64::new(0) }
    }

    /// Takes what is on the disk into memory; of a store in memory, does nothing. `progress` is told how many subtasks have
    /// been taken of how many. Soon after `cancelled` has become true it gives up, as it does for good if anything that was
    /// acknowledged is missing.
    pub fn open(&self, progress: impl FnMut(u64, u64), cancelled: &AtomicBool) -> Result<(), OpenError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::DataDir(disk) => disk.open(self.memory.clone(), progress, cancelled),
        }
    }

    /// Takes no more reports, and lets go of the disk.
    pub fn close(&self) {
        if let Backend::DataDir(disk) = &self.backend {
            disk.close();
        }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    ///
    /// A project or job of which there is no subtask has none.
    pub async fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        self.memory.count(project, filter)
    }

    /// How many subtasks of all projects are of that type and in that status.
    pub fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        self.memory.total(job_type, status)
    }

    /// How many subtasks there are.
    pub fn sub_jobs(&self) -> Result<u64, StoreError> {
        self.memory.sub_jobs()
    }

    /// How long before this process took the data directory an earlier one last wrote to it, by the wall clock; nothing of a
    /// store in memory, or where that is not known.
    pub fn unwritten_before(&self) -> Option<Duration> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::DataDir(disk) => disk.unwritten_before(),
        }
    }

    /// One subtask, with its details.
    pub async fn sub_job(&self, project: &ProjectId, id: &SubJobId) -> Result<Option<SubJob>, StoreError> {
        loop {
            let mut found: Vec<_> = self.memory.find(project, id)?.into_iter().collect();
            if self.read_details(&mut found).await? {
                return Ok(found.pop().map(|found| found.sub_job));
            }
        }
    }

    /// The subtasks that match, but for the first `offset`, at most `limit`, with their details, all of one moment.
    ///
    /// Takes hardly longer for another filter or offset, however many there are.
    pub async fn page(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        offset: u64,
        limit: usize,
    ) -> Result<Page, StoreError> {
        loop {
            let FoundPage { total, revision, mut items } = self.memory.page(project, filter, offset, limit)?;
            if self.read_details(&mut items).await? {
                return Ok(Page { total, revision, sub_jobs: items.into_iter().map(|found| found.sub_job).collect() });
            }
        }
    }

    /// Reads what is not in memory; false if it was moved meanwhile, after which all is to be read again.
    async fn read_details(&self, found: &mut [Found]) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Memory(_) => Ok(true),
            Backend::DataDir(disk) => disk.read_details(found).await,
        }
    }

    /// How many subtasks a project, or one of its jobs, has of each type in each status.
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

    /// Fails if what the store says is not to be trusted any more.
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

    /// Whether a report could be stored now, as far as is known: a disk that has become full or has failed is only known by
    /// the last report.
    pub fn takes_reports(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => self.memory.check().is_ok(),
            Backend::DataDir(disk) => disk.takes_changes() && self.memory.check().is_ok(),
        }
    }

    /// Takes a batch of subtasks of one project, in order, all or nothing for every reader. Waits until it is done, so a
    /// store on a disk must not be called like this where a task must not be held up.
    ///
    /// A subtask is known by (project, id): a record replaces the stored one unless its version is lower.
    pub fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        self.submit(project.clone(), batch).0.wait()
    }

    /// The same, of which the end can be waited for without a thread. It may wait itself while many others do.
    pub fn submit(&self, project: ProjectId, batch: Vec<SubJob>) -> Submitted {
        Submitted(self.submit_batch(project, batch, false))
    }

    fn submit_batch(&self, project: ProjectId, batch: Vec<SubJob>, only_new: bool) -> Pending<Outcome> {
        self.change(batch.len(), move |draft| {
            draft.report(&project, batch, Rules { now: Ended::at(Timestamp::now()), only_new })
        })
    }

    /// Deletes subtasks of a project, all or none: those with these identifiers and of these types, each of which must have
    /// succeeded or failed. What is not stored is passed over. How many have been deleted.
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

    /// Drops subtasks that ended longer than `age` before `now`, looking at about `most` records from where one before has
    /// come to; dropped ones are as if they had never been. Waits until it is done.
    pub fn expire(&self, age: Duration, now: Timestamp, from: u64, most: u32) -> Result<Dropped, StoreError> {
        let moment = Ended::at(now.before(age));
        let (due, next) = self.memory.view(None)?.ended_before(moment, from, most, DROPPED_AT_ONCE);
        if due.is_empty() {
            return Ok(Dropped { next, count: 0 });
        }
        let dropped = self.change(DROPPED_AT_ONCE, move |draft| {
            Ok(due.into_iter().map(|(project, ids)| draft.expire(&project, ids, moment)).sum())
        });
        Ok(Dropped { next, count: dropped.wait()? })
    }

    /// Makes a change of about so many subtasks: plans it, makes it durable, applies it.
    fn change<A: Send + 'static>(
        &self,
        size: usize,
        plan: impl for<'d, 'v> FnOnce(&'d mut Draft<'v, View<'v>>) -> Result<A, StoreError> + Send + 'static,
    ) -> Pending<A> {
        let (plan, pending) = Pending::new(plan);
        match &self.backend {
            Backend::DataDir(disk) => disk.submit(size, plan),
            Backend::Memory(next_revision) => self.change_in_memory(next_revision, plan),
        }
        pending
    }

    fn change_in_memory(&self, next_revision: &Mutex<u64>, plan: Plan) {
        let Ok(mut next_revision) = next_revision.lock() else { return plan(Err(StoreError::Broken))(Ok(())) };
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

    /// Begins to load files; whether all that is loaded is dropped if the process ends before [`Store::end_load`]. On a disk it
    /// is not if there are subtasks already.
    pub fn begin_load(&self) -> Result<bool, OpenError> {
        match &self.backend {
            Backend::DataDir(_) if self.memory.sub_jobs()? > 0 => Ok(false),
            Backend::DataDir(disk) => disk.begin_load().map(|()| true),
            Backend::Memory(_) => Ok(true),
        }
    }

    /// Ends what has begun with [`Store::begin_load`] answering yes.
    pub fn end_load(&self) -> Result<(), OpenError> {
        match &self.backend {
            Backend::DataDir(disk) => disk.end_load(),
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Takes batches of subtasks of a file, and waits until all are done. On a disk, those that were there when it was opened
    /// are left as they are, and count as unchanged: the file may be older than what has been reported since.
    pub fn load(&self, batches: impl IntoIterator<Item = (ProjectId, Vec<SubJob>)>) -> Result<Outcome, StoreError> {
        // All are handed over before the first is waited for, so that the disk is flushed for many at once.
        let submitted = batches.into_iter().map(|(project, batch)| self.submit_batch(project, batch, true));
        let submitted: Vec<_> = submitted.collect();
        let mut all = Outcome::default();
        for pending in submitted {
            all += pending.wait()?;
        }
        Ok(all)
    }

    /// Writes a snapshot of what is on the disk, from which the next start is faster; of a store in memory, does nothing. Reports
    /// go on. Whether it has been made.
    pub fn snapshot(&self) -> bool {
        match &self.backend {
            Backend::Memory(_) => false,
            Backend::DataDir(disk) => disk.snapshot(),
        }
    }

    /// Counts again from the records, `most` of them at a time. When all have been counted: by how many subtasks the counts
    /// are off or once were, which [`Store::check`] tells from then on: what has been wrong is not to be trusted before a restart.
    pub fn recount(&self, most: usize) -> Result<Option<u64>, StoreError> {
        let found = self.memory.verify(u32::try_from(most).unwrap_or(u32::MAX))?;
        Ok(found.map(|drift| self.drift.fetch_max(drift, Ordering::Relaxed).max(drift)))
    }

    /// By how many subtasks recounts have found the counts off, at most: 0, unless something is wrong.
    pub fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
