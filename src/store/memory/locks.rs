//! The store in memory: records, counters and a verifier, each behind a lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};

use super::counter_table::CounterTable;
use super::records::Records;
use super::verifier::Verifier;
use crate::domain::{CountFilter, JobType, ProjectId, Status, StatusSet, WaitCondition};
use crate::store::types::StoreError;
use crate::store::watch::Watches;

/// How many jobs or counters are changed in one step under the write lock: some tens of microseconds.
pub(super) const STEP: usize = 256;

/// Subtasks in memory, with exact counts in constant time. See [`crate::store`] for the contract.
///
/// Locks are taken in the order of the fields.
#[derive(Debug)]
pub(in crate::store) struct MemoryStore {
    verifier: Mutex<Verifier>,
    records: RwLock<Records>,
    watches: Arc<Watches>,
    /// Readers on different cores change different locks, so they do not wait for each other's caches.
    counters: ShardedLock<CounterTable>,
    pub(super) step: usize,
}

impl MemoryStore {
    /// An empty store for subtasks of `job_types` many types.
    pub(in crate::store) fn new(job_types: usize) -> Self {
        Self::with_step(job_types, STEP)
    }

    pub(super) fn with_step(job_types: usize, step: usize) -> Self {
        Self {
            verifier: Mutex::default(),
            records: RwLock::default(),
            counters: ShardedLock::new(CounterTable::new(job_types)),
            watches: Arc::default(),
            step,
        }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    pub(in crate::store) fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        Ok(self.read_counters()?.count(project, filter))
    }

    /// How many subtasks of `project` have one of `statuses` and match the rest of `filter`, and the project's revision, both at one
    /// moment.
    pub(in crate::store) fn count_at_revision(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        statuses: StatusSet,
    ) -> Result<(u64, u64), StoreError> {
        let counters = self.read_counters()?;
        Ok((counters.count_in(project, filter, statuses), counters.revision(project)))
    }

    /// Whether a condition is true now. It is true too if that cannot be read, so that who waits for it learns why.
    pub(in crate::store) fn holds(&self, project: &ProjectId, condition: &WaitCondition) -> bool {
        let read = self.count_at_revision(project, &condition.filter, condition.statuses);
        read.map_or(true, |(count, revision)| condition.holds(count, revision))
    }

    /// The watched projects.
    pub(in crate::store) fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// How many subtasks of all projects have that type and status.
    pub(in crate::store) fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        Ok(self.read_counters()?.total(job_type, status))
    }

    /// How many subtasks of all projects there are of each type in each status, all at one moment.
    pub(in crate::store) fn totals(&self) -> Result<Vec<[u64; Status::COUNT]>, StoreError> {
        let counters = self.read_counters()?;
        let mut totals = vec![[0; Status::COUNT]; counters.totals().len() / Status::COUNT];
        for (key, count) in counters.totals().iter() {
            totals[key.job_type().index()][key.status() as usize] = count.into();
        }
        Ok(totals)
    }

    /// How many subtasks there are.
    pub(in crate::store) fn sub_jobs(&self) -> Result<u64, StoreError> {
        Ok(self.read_counters()?.totals().iter().map(|(_, count)| u64::from(count)).sum())
    }

    /// Fails if a panic has interrupted a change, after which nothing in the store can be trusted.
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        let is_poisoned = self.verifier.is_poisoned() || self.records.is_poisoned() || self.counters.is_poisoned();
        if is_poisoned { Err(StoreError::Broken) } else { Ok(()) }
    }

    /// Marks all subtasks as stored before the start.
    pub(in crate::store) fn settle(&self) -> Result<(), StoreError> {
        self.write_records()?.settle();
        Ok(())
    }

    pub(super) fn lock_verifier(&self) -> Result<MutexGuard<'_, Verifier>, StoreError> {
        self.verifier.lock().map_err(broken)
    }

    pub(super) fn read_records(&self) -> Result<RwLockReadGuard<'_, Records>, StoreError> {
        self.records.read().map_err(broken)
    }

    pub(super) fn write_records(&self) -> Result<RwLockWriteGuard<'_, Records>, StoreError> {
        self.records.write().map_err(broken)
    }

    pub(super) fn read_counters(&self) -> Result<ShardedLockReadGuard<'_, CounterTable>, StoreError> {
        self.counters.read().map_err(broken)
    }

    pub(super) fn write_counters(&self) -> Result<ShardedLockWriteGuard<'_, CounterTable>, StoreError> {
        self.counters.write().map_err(broken)
    }
}

fn broken<G>(_: PoisonError<G>) -> StoreError {
    StoreError::Broken
}
