//! Subtasks in memory: records for pages and for whoever plans, counters for counts.
//!
//! Three locks, always taken in this order: the verifier, the records, the counters. Only one thread at a time applies changes, and
//! nothing else changes anything. It has the records to itself for one report; it takes the counters only in short steps, each
//! bounded by [`STEP`], and one of these makes the whole report visible at once. So a count waits for one step at most, a page
//! for one report, and neither ever for a disk.

mod apply;
mod block;
mod block_counts;
mod counter_table;
mod counters;
mod index;
mod members;
mod project;
mod read;
mod records;
mod segments;
mod verifier;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::counter_table::CounterTable;
use self::records::{Cursor, Records};
use self::verifier::{Phase, Verifier};
use super::StoreError;
use super::core::{Known, KnownDetails, Stored};
use super::ended::Ended;
use super::watch::Watches;
use crate::domain::{CountFilter, Details, JobType, ProjectId, Status, StatusSet, SubJobId};

pub(super) use self::read::{Found, FoundPage, Slice};

/// How many jobs or changes of counters one step under the write lock may handle: some tens of microseconds.
const STEP: usize = 256;

/// Subtasks in memory, with exact counts in constant time. See [`crate::store`] for what it promises.
#[derive(Debug)]
pub(super) struct MemoryStore {
    verifier: Mutex<Verifier>,
    records: RwLock<Records>,
    counters: RwLock<CounterTable>,
    watches: Arc<Watches>,
    step: usize,
}

/// What is stored at one moment. Nothing is applied while one is there.
#[derive(Debug)]
pub(super) struct View<'a> {
    records: RwLockReadGuard<'a, Records>,
    counters: RwLockReadGuard<'a, CounterTable>,
    /// Tells whether the details with a number are those.
    has_details: Option<HasDetails<'a>>,
}

/// Compares details that are not in memory.
pub(super) type HasDetails<'a> = &'a dyn DetailsReader;

/// Reads details that are not in memory.
pub(super) trait DetailsReader: std::fmt::Debug {
    /// Whether the details with that number can be read and are these.
    fn has_details(&self, number: u64, details: &Details) -> bool;
}

/// Records that ended before some moment, of one project.
pub(super) type Due = (ProjectId, Vec<SubJobId>);

impl MemoryStore {
    /// An empty store for subtasks of `job_types` many types.
    pub(super) fn new(job_types: usize) -> Self {
        Self::with_step(job_types, STEP)
    }

    fn with_step(job_types: usize, step: usize) -> Self {
        Self {
            verifier: Mutex::default(),
            records: RwLock::default(),
            counters: RwLock::new(CounterTable::new(job_types)),
            watches: Arc::default(),
            step,
        }
    }

    /// How many subtasks of `project` match `filter`: at most types x statuses additions.
    pub(super) fn count(&self, project: &ProjectId, filter: &CountFilter) -> Result<u64, StoreError> {
        Ok(self.read_counters()?.count(project, filter))
    }

    /// How many subtasks of `project` are in one of `statuses` and match the rest of `filter`, and the project's revision, both
    /// of one moment.
    pub(super) fn count_at_revision(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        statuses: StatusSet,
    ) -> Result<(u64, u64), StoreError> {
        let counters = self.read_counters()?;
        Ok((counters.count_in(project, filter, statuses), counters.revision(project)))
    }

    /// The watched projects.
    pub(super) fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// How many subtasks of all projects are of that type and in that status.
    pub(super) fn total(&self, job_type: JobType, status: Status) -> Result<u64, StoreError> {
        Ok(self.read_counters()?.total(job_type, status))
    }

    /// How many subtasks there are.
    pub(super) fn sub_jobs(&self) -> Result<u64, StoreError> {
        Ok(self.read_counters()?.totals().iter().map(|(_, count)| u64::from(count)).sum())
    }

    /// Fails if a change has been interrupted, so that nothing the store says is to be trusted any more.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let is_broken = self.verifier.is_poisoned() || self.records.is_poisoned() || self.counters.is_poisoned();
        if is_broken { Err(StoreError::Broken) } else { Ok(()) }
    }

    /// What is stored now, for a plan. Details that are not in memory are read by `details`.
    pub(super) fn view<'a>(&'a self, details: Option<HasDetails<'a>>) -> Result<View<'a>, StoreError> {
        Ok(View { records: self.read_records()?, counters: self.read_counters()?, has_details: details })
    }

    /// From now on all subtasks are those that were there when the store was opened.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        self.write_records()?.settle();
        Ok(())
    }

    /// Goes on with the verification by at most `most` records or counters. When it is complete: by how many subtasks the
    /// counters are off.
    pub(super) fn verify(&self, most: u32) -> Result<Option<u64>, StoreError> {
        let mut verifier = self.lock_verifier()?;
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let phase = verifier.phase();
        let is_done = match phase {
            Phase::Records => {
                let next = records.walk(verifier.cursor(), most, |project, of, places| {
                    for (at, job, key) in of.jobs_and_keys(places.start) {
                        if at >= places.end {
                            break;
                        }
                        verifier.visit_record(project, job, key);
                    }
                    None
                });
                verifier.set_cursor(next.unwrap_or_default());
                next.is_none()
            }
            Phase::Jobs | Phase::Projects => counters.verify(&mut verifier, most),
        };
        match phase {
            Phase::Records if is_done => verifier.enter(Phase::Jobs),
            Phase::Jobs if is_done => verifier.enter(Phase::Projects),
            Phase::Projects if is_done => return Ok(Some(verifier.finish(counters.totals()))),
            _ => {}
        }
        Ok(None)
    }

    fn lock_verifier(&self) -> Result<MutexGuard<'_, Verifier>, StoreError> {
        self.verifier.lock().map_err(broken)
    }

    fn read_records(&self) -> Result<RwLockReadGuard<'_, Records>, StoreError> {
        self.records.read().map_err(broken)
    }

    fn write_records(&self) -> Result<RwLockWriteGuard<'_, Records>, StoreError> {
        self.records.write().map_err(broken)
    }

    fn read_counters(&self) -> Result<RwLockReadGuard<'_, CounterTable>, StoreError> {
        self.counters.read().map_err(broken)
    }

    fn write_counters(&self) -> Result<RwLockWriteGuard<'_, CounterTable>, StoreError> {
        self.counters.write().map_err(broken)
    }
}

impl View<'_> {
    /// Subtasks that ended before that moment, among `most` records from `from` on and not too many at once, by project; and
    /// where to go on, at the beginning when that was the end.
    pub(super) fn ended_before(&self, moment: Ended, from: u64, most: u32, at_once: usize) -> (Vec<Due>, u64) {
        let (mut due, mut count) = (Vec::<Due>::new(), 0);
        let from = Cursor { project: (from >> 32) as u32, place: from as u32 };
        let next = self.records.walk(from, most, |project, records, places| {
            let mut ended = Records::ended_before(records, moment, places);
            ended.truncate(at_once - count);
            count += ended.len();
            let last = ended.last().map(|(at, _)| *at);
            if let Some((id, _)) = self.counters.project_at(project.0).filter(|_| !ended.is_empty()) {
                due.push((id.clone(), ended.into_iter().map(|(_, id)| id).collect()));
            }
            last.filter(|_| count == at_once).map(|last| last + 1)
        });
        (due, next.map_or(0, |next| u64::from(next.project) << 32 | u64::from(next.place)))
    }
}

impl Stored for View<'_> {
    fn project(&self, id: &ProjectId) -> Option<u32> {
        self.counters.project(id).map(|number| number.0)
    }

    fn find(&self, project: u32, id: &SubJobId) -> Option<Known<'_>> {
        let project = counter_table::ProjectNumber(project);
        let place = self.records.find(project, id, None)?;
        let (records, record) = (self.records.project(project)?, self.records.get(project, place)?);
        Some(Known {
            job_id: self.counters.job_id(record.job),
            job_type: record.key.job_type(),
            status: record.key.status(),
            version: record.version,
            ended: record.ended,
            is_settled: place < records.settled,
            place: Some(place),
            details: if record.details > 0 { KnownDetails::Stored(record.details) } else { KnownDetails::None },
        })
    }

    fn has_details(&self, known: &Known<'_>, details: &Details) -> bool {
        let KnownDetails::Stored(number) = known.details else { return false };
        match self.has_details {
            Some(reader) => reader.has_details(number, details),
            None => self.records.details(number) == Some(details),
        }
    }

    fn ids(&self, project: u32) -> Vec<SubJobId> {
        let records = self.records.project(counter_table::ProjectNumber(project));
        records.map_or_else(Vec::new, |records| records.iter_from(0).map(|(_, record)| record.id).collect())
    }

    fn has_capacity(&self, project: Option<u32>, more: usize) -> bool {
        let has_places = |project| self.records.has_capacity(counter_table::ProjectNumber(project), more);
        project.is_none_or(has_places) && self.counters.has_capacity(more)
    }
}

fn broken<G>(_: PoisonError<G>) -> StoreError {
    StoreError::Broken
}

#[cfg(test)]
mod tests;
