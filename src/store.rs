//! What a store of subtasks promises, whatever it is made of. It knows nothing of HTTP.
//!
//! - [`Store::count`] is exact at the moment of reading, and takes the same time however many subtasks there are.
//! - [`Store::report`] takes all of a batch or none of it: no reader ever sees a part.
//! - Once a report has returned, every count sees it; of a store on a disk, it survives power loss from then on.
//! - Nothing but a report or [`Store::expire`] changes a count.
//!
//! Counts come from memory alone. What else is known of subtasks is in memory too, or on a disk.

mod disk;
mod ended;
mod journal;
mod memory;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::disk::{Answer, Disk};
pub use self::disk::{DataDir, ENGINE_DESCRIPTORS, OpenError, export};
use self::ended::Ended;
use self::journal::DetailsInMemory;
use self::memory::{MemoryStore, Rules};
use crate::domain::{CountFilter, JobType, JobTypes, ProjectId, Status, SubJob, Timestamp};

/// What became of the records of one batch; the sum is the number of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Outcome {
    /// Subtasks that were not stored before.
    pub created: u64,
    /// Subtasks whose stored record was replaced.
    pub updated: u64,
    /// Records identical to what is stored, version included.
    pub unchanged: u64,
    /// Records with a lower version than what is stored; they change nothing.
    pub stale: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.stale += other.stale;
    }
}

/// Why a store cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A panic has interrupted a report, so that no count can be trusted any more.
    #[error("an earlier report was interrupted by a panic; the counts are not to be trusted")]
    Broken,
    /// A recount from the records has found other numbers than the counts.
    #[error("the counts have drifted from the records by {0}")]
    Drifted(u64),
    /// There is no number left for another subtask, job or project: there are 2^32 of each.
    #[error("the store holds as many subtasks as it can")]
    Full,
    /// The disk did not take it, or is not open; nothing of it counts.
    #[error("reports cannot be stored")]
    NotStored,
}

/// How far an [`Store::expire`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// From where to go on; at the end when that is what was asked for.
    pub next: u32,
    /// How many subtasks have been dropped.
    pub count: u64,
}

/// Subtasks, with exact counts in constant time.
#[derive(Debug)]
pub struct Store {
    memory: Arc<MemoryStore>,
    keeping: Keeping,
    /// The most that a recount has found; 0 is right.
    drift: AtomicU64,
}

/// Where that is kept of subtasks which no count depends on.
#[derive(Debug)]
enum Keeping {
    InMemory(Mutex<DetailsInMemory>),
    OnDisk(Disk),
}

impl Store {
    /// An empty store, in memory only, for subtasks of `job_types` many types.
    pub fn in_memory(job_types: usize) -> Self {
        Self::new(job_types, Keeping::InMemory(Mutex::default()))
    }

    /// A store on a disk, which is empty and takes nothing before [`Store::open`].
    pub fn on_disk(dir: DataDir, job_types: JobTypes) -> Self {
        Self::new(job_types.len(), Keeping::OnDisk(Disk::new(dir, job_types)))
    }

    fn new(job_types: usize, keeping: Keeping) -> Self {
        Self { memory: Arc::new(MemoryStore::new(job_types)), keeping, drift: AtomicU64::new(0) }
    }

    /// Takes what is on the disk into memory; of a store in memory, does nothing. `progress` is told how many subtasks have
    /// been taken of how many. Soon after `cancelled` has become true it gives up, as it does for good if anything that was
    /// acknowledged is missing.
    pub fn open(&self, progress: impl FnMut(u64, u64), cancelled: &AtomicBool) -> Result<(), OpenError> {
        match &self.keeping {
            Keeping::InMemory(_) => Ok(()),
            Keeping::OnDisk(disk) => disk.open(self.memory.clone(), progress, cancelled),
        }
    }

    /// Takes no more reports, and lets go of the disk.
    pub fn close(&self) {
        if let Keeping::OnDisk(disk) = &self.keeping {
            disk.close();
        }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    ///
    /// A project or job of which there is no subtask has none.
    pub fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        self.memory.count(project, filter)
    }

    /// How many subtasks of all projects are of that type and in that status.
    pub fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        self.memory.total(job_type, status)
    }

    /// Fails if what the store says is not to be trusted any more.
    pub fn check(&self) -> Result<(), StoreError> {
        self.memory.check()?;
        if let Keeping::OnDisk(disk) = &self.keeping
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
        match &self.keeping {
            Keeping::InMemory(_) => self.memory.check().is_ok(),
            Keeping::OnDisk(disk) => disk.takes_changes() && self.memory.check().is_ok(),
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
        self.hand_over(project, batch, false)
    }

    /// Begins to load files; whether all that is loaded is dropped if the process ends before [`Store::end_load`]. On a disk it
    /// is not if there are subtasks already.
    pub fn begin_load(&self) -> Result<bool, OpenError> {
        match &self.keeping {
            Keeping::OnDisk(_) if self.memory.end()? > 0 => Ok(false),
            Keeping::OnDisk(disk) => disk.begin_load().map(|()| true),
            Keeping::InMemory(_) => Ok(true),
        }
    }

    /// Ends what has begun with [`Store::begin_load`] answering yes.
    pub fn end_load(&self) -> Result<(), OpenError> {
        match &self.keeping {
            Keeping::OnDisk(disk) => disk.end_load(),
            Keeping::InMemory(_) => Ok(()),
        }
    }

    /// Takes batches of subtasks of a file, and waits until all are done. On a disk, those that were there when it was opened
    /// are left as they are, and count as unchanged: the file may be older than what has been reported since.
    pub fn load(&self, batches: impl IntoIterator<Item = (ProjectId, Vec<SubJob>)>) -> Result<Outcome, StoreError> {
        // All are handed over before the first is waited for, so that the disk is flushed for many at once.
        let submitted = batches.into_iter().map(|(project, batch)| self.hand_over(project, batch, true));
        let submitted: Vec<_> = submitted.collect();
        let mut all = Outcome::default();
        for Submitted(answer) in submitted {
            all += answer.wait()?;
        }
        Ok(all)
    }

    fn hand_over(&self, project: ProjectId, batch: Vec<SubJob>, only_new: bool) -> Submitted {
        Submitted(match &self.keeping {
            Keeping::InMemory(details) => Answer::There(self.report_in_memory(details, &project, batch)),
            Keeping::OnDisk(disk) => disk.report(project, batch, only_new),
        })
    }

    fn report_in_memory(
        &self,
        details: &Mutex<DetailsInMemory>,
        project: &ProjectId,
        batch: Vec<SubJob>,
    ) -> Result<Outcome, StoreError> {
        let mut transaction = self.memory.begin()?;
        let rules = Rules { now: Ended::at(Timestamp::now()), settled: 0 };
        let outcome = transaction.report(project, batch, rules, &mut *held(details)?)?;
        transaction.commit()?;
        Ok(outcome)
    }

    /// How many subtasks there are.
    pub fn sub_jobs(&self) -> Result<u64, StoreError> {
        self.memory.sub_jobs()
    }

    /// How long ago, by the wall clock, an earlier process last wrote what this one has found on the disk; `None` if there was
    /// nothing, or the clock says that it is still to come.
    pub fn unwritten_before(&self) -> Option<Duration> {
        match &self.keeping {
            Keeping::OnDisk(disk) => disk.unwritten_before(),
            Keeping::InMemory(_) => None,
        }
    }

    /// Drops subtasks that ended longer than `age` before `now`, looking at `most` records from number `from` on; dropped ones
    /// are as if they had never been. `next` of the answer is 0 when the last record has been looked at. Waits until it is
    /// done.
    pub fn expire(&self, age: Duration, now: Timestamp, from: u32, most: u32) -> Result<Dropped, StoreError> {
        let last = self.memory.end()?;
        let end = from.saturating_add(most).min(last);
        let moment = Ended::at(now.before(age));
        let dropped = match &self.keeping {
            Keeping::OnDisk(disk) => disk.expire(moment, from..end).wait()?,
            Keeping::InMemory(details) => {
                let mut transaction = self.memory.begin()?;
                let dropped = transaction.expire(moment, from..end, &mut *held(details)?)?;
                transaction.commit()?;
                dropped
            }
        };
        Ok(if dropped.next >= last { Dropped { next: 0, ..dropped } } else { dropped })
    }

    /// Counts again from the records, `most` of them at a time. When all have been counted: by how many subtasks the counts
    /// are off or once were, which [`Store::check`] tells from then on: what has been wrong is not to be trusted before a restart.
    pub fn recount(&self, most: usize) -> Result<Option<u64>, StoreError> {
        let found = self.memory.recount(most)?;
        Ok(found.map(|drift| self.drift.fetch_max(drift, Ordering::Relaxed).max(drift)))
    }

    /// By how many subtasks recounts have found the counts off, at most: 0, unless something is wrong.
    pub fn drift(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }
}

/// A report that has been handed over.
#[derive(Debug)]
pub struct Submitted(Answer<Outcome>);

impl Submitted {
    /// Waits until it counts and is durable, or is known not to.
    pub async fn outcome(self) -> Result<Outcome, StoreError> {
        self.0.get().await
    }
}

/// The details, unless something that changed them has been interrupted.
fn held(details: &Mutex<DetailsInMemory>) -> Result<MutexGuard<'_, DetailsInMemory>, StoreError> {
    details.lock().map_err(|_: PoisonError<_>| StoreError::Broken)
}

#[cfg(test)]
mod tests;
