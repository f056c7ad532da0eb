//! The store in memory: records for the writer, tallies for the readers.
//!
//! Two locks, always taken in this order. `records` is a mutex that one report holds for as long as it works, so reports
//! follow one another. `tallies` is what counts read; a report takes it to write only in short steps, each bounded by
//! [`STEP`], and one of these steps makes the whole report visible at once. A count therefore never waits for a report,
//! only for one step of it. A plain `RwLock` serves here: a read holds it for some tens of nanoseconds, and readers beside
//! a busy writer measured as fast with it as lock-free maps need to be here.

mod index;
mod records;
mod segments;
mod tallies;
mod tally;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::records::{JobNumber, Records};
use self::tallies::{Changes, Tallies};
use super::{Outcome, StoreError};
use crate::domain::{CountFilter, JobType, ProjectId, Status, SubJob};

/// How many jobs or changes of tallies one step under the write lock may handle: some tens of microseconds.
const STEP: usize = 256;

/// Subtasks in memory, with exact counts in constant time. See [`crate::store`] for what it promises.
#[derive(Debug)]
pub struct MemoryStore {
    records: Mutex<Records>,
    tallies: RwLock<Tallies>,
    step: usize,
}

impl MemoryStore {
    /// An empty store for subtasks of `job_types` many types.
    pub fn new(job_types: usize) -> Self {
        Self::with_step(job_types, STEP)
    }

    fn with_step(job_types: usize, step: usize) -> Self {
        Self { records: Mutex::default(), tallies: RwLock::new(Tallies::new(job_types)), step }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    ///
    /// A project or job that no report has named has none.
    pub fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        Ok(self.read_tallies()?.count(project, filter))
    }

    /// How many subtasks of all projects are of that type and in that status.
    pub fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        Ok(self.read_tallies()?.total(job_type, status))
    }

    /// Fails if a report has been interrupted, so that nothing the store says is to be trusted any more.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.records.is_poisoned() || self.tallies.is_poisoned() { Err(StoreError::Broken) } else { Ok(()) }
    }

    /// Takes a batch of subtasks of one project, in order, all or nothing for every reader.
    ///
    /// A subtask is known by (project, id): a record replaces the stored one unless its version is lower.
    pub fn report(&self, project: &ProjectId, batch: Vec<SubJob>) -> Result<Outcome, StoreError> {
        let mut records = self.lock_records()?;
        if batch.is_empty() {
            return Ok(Outcome::default());
        }
        records.room_for(batch.len())?;
        let jobs = self.number_jobs(&mut records, project, &batch)?;
        let project = records.owner(jobs[0]);
        let mut outcome = Outcome::default();
        let mut changes = Vec::with_capacity(batch.len());
        for (sub_job, job) in batch.into_iter().zip(jobs) {
            outcome += records.upsert(job, sub_job, &mut changes);
        }
        self.publish(Changes::sum(project, changes))?;
        Ok(outcome)
    }

    /// The number of each record's job. New ones are entered with an empty tally, which no count can tell from none.
    fn number_jobs(
        &self,
        records: &mut Records,
        project: &ProjectId,
        batch: &[SubJob],
    ) -> Result<Vec<JobNumber>, StoreError> {
        let mut numbers = Vec::with_capacity(batch.len());
        for step in batch.chunks(self.step) {
            let known = numbers.len();
            {
                let tallies = self.read_tallies()?;
                numbers.extend(step.iter().map_while(|sub_job| tallies.job(project, &sub_job.job_id)));
            }
            let unknown = &step[numbers.len() - known..];
            if !unknown.is_empty() {
                let mut tallies = self.write_tallies()?;
                let new: Result<Vec<_>, _> =
                    unknown.iter().map(|sub_job| tallies.job_or_new(project, &sub_job.job_id)).collect();
                records.enter_jobs(tallies.owners_from(records.jobs()));
                numbers.extend(new?);
            }
        }
        Ok(numbers)
    }

    /// Makes a report's changes visible in one step, then folds them into the jobs' tallies in steps of bounded length.
    fn publish(&self, changes: Changes) -> Result<(), StoreError> {
        let mut spent = {
            let mut tallies = self.write_tallies()?;
            tallies.publish(changes);
            tallies.fold(self.step)
        };
        while spent.is_none() {
            spent = self.write_tallies()?.fold(self.step);
        }
        Ok(())
    }

    fn lock_records(&self) -> Result<MutexGuard<'_, Records>, StoreError> {
        self.records.lock().map_err(broken)
    }

    fn read_tallies(&self) -> Result<RwLockReadGuard<'_, Tallies>, StoreError> {
        self.tallies.read().map_err(broken)
    }

    fn write_tallies(&self) -> Result<RwLockWriteGuard<'_, Tallies>, StoreError> {
        self.tallies.write().map_err(broken)
    }
}

fn broken<G>(_: PoisonError<G>) -> StoreError {
    StoreError::Broken
}

#[cfg(test)]
mod tests;
