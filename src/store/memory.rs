//! What of the store is in memory, which is all that a count needs: records for the writer, tallies for the readers.
//!
//! Two locks, always taken in this order. `records` is a mutex that one transaction holds for as long as it works, so
//! transactions follow one another. `tallies` is what counts read; a transaction takes it to write only in short steps,
//! each bounded by [`STEP`], and one of these steps makes a whole report visible at once. A count therefore never waits for
//! a report, only for one step of it. A plain `RwLock` serves here: a read holds it for some tens of nanoseconds, and readers
//! beside a busy writer measured as fast with it as lock-free maps need to be here.

mod index;
mod records;
mod recount;
mod segments;
mod tallies;
mod tally;
mod transaction;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::records::Records;
use self::recount::Phase;
use self::tallies::{Changes, Tallies};
pub(super) use self::transaction::{Restored, Rules, Transaction};
use super::StoreError;
use crate::domain::{CountFilter, JobType, ProjectId, Status};

/// How many jobs or changes of tallies one step under the write lock may handle: some tens of microseconds.
const STEP: usize = 256;

/// Subtasks in memory, with exact counts in constant time. See [`crate::store`] for what it promises.
#[derive(Debug)]
pub(super) struct MemoryStore {
    records: Mutex<Records>,
    tallies: RwLock<Tallies>,
    step: usize,
}

impl MemoryStore {
    /// An empty store for subtasks of `job_types` many types.
    pub(super) fn new(job_types: usize) -> Self {
        Self::with_step(job_types, STEP)
    }

    fn with_step(job_types: usize, step: usize) -> Self {
        Self { records: Mutex::default(), tallies: RwLock::new(Tallies::new(job_types)), step }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    pub(super) fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        Ok(self.read_tallies()?.count(project, filter))
    }

    /// How many subtasks of all projects are of that type and in that status.
    pub(super) fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        Ok(self.read_tallies()?.total(job_type, status))
    }

    /// Fails if a transaction has been interrupted, so that nothing the store says is to be trusted any more.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.records.is_poisoned() || self.tallies.is_poisoned() { Err(StoreError::Broken) } else { Ok(()) }
    }

    /// Begins a transaction when the one before has ended.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        Ok(Transaction::new(self, self.lock_records()?))
    }

    /// One more than the highest number that a record has ever had.
    pub(super) fn end(&self) -> Result<u32, StoreError> {
        Ok(self.lock_records()?.end())
    }

    /// How many subtasks there are.
    pub(super) fn sub_jobs(&self) -> Result<u64, StoreError> {
        Ok(self.lock_records()?.len())
    }

    /// Goes on with the recount by at most `most` records or tallies. When it is complete: by how many subtasks the tallies
    /// are off.
    pub(super) fn recount(&self, most: usize) -> Result<Option<u64>, StoreError> {
        let mut records = self.lock_records()?;
        let phase = records.recount.phase();
        let is_done = match phase {
            Phase::Records => records.recount(most),
            Phase::Jobs | Phase::Projects => self.read_tallies()?.recount(&mut records.recount, most as u32),
        };
        match phase {
            Phase::Records if is_done => records.recount.enter(Phase::Jobs),
            Phase::Jobs if is_done => records.recount.enter(Phase::Projects),
            Phase::Projects if is_done => return Ok(Some(records.recount.finish(self.read_tallies()?.totals()))),
            _ => {}
        }
        Ok(None)
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
