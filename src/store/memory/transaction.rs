//! Reports and other changes on their way: taken into the records, where only the writer looks, and counted by nobody
//! until they are committed.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::MutexGuard;

use super::MemoryStore;
use super::records::{JobNumber, Record, Records, Undo};
use super::tallies::{Changes, Delta, ProjectNumber};
use super::tally::Cell;
use crate::domain::{JobId, JobType, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::ended::Ended;
use crate::store::journal::{Journal, Key, State};
use crate::store::{Dropped, Outcome, StoreError};

/// The most records that one call drops.
const DROPPED_AT_ONCE: usize = 1024;

/// How a report is taken.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Rules {
    /// When a subtask ended that is reported as ended without a time.
    pub(in crate::store) now: Ended,
    /// Records with numbers below this are left as they are.
    pub(in crate::store) settled: u32,
}

/// A subtask as it was stored.
#[derive(Debug)]
pub(in crate::store) struct Restored {
    pub(in crate::store) id: SubJobId,
    pub(in crate::store) job_id: JobId,
    pub(in crate::store) job_type: JobType,
    pub(in crate::store) status: Status,
    pub(in crate::store) version: Version,
    pub(in crate::store) has_details: bool,
    pub(in crate::store) ended: Ended,
}

/// Changes that are taken back when this is dropped, unless they are committed.
#[derive(Debug)]
pub(in crate::store) struct Transaction<'a> {
    store: &'a MemoryStore,
    records: MutexGuard<'a, Records>,
    unpublished: Vec<Changes>,
    undo: Vec<Undo>,
    /// Jobs that may be left without a subtask.
    touched: Vec<JobNumber>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(store: &'a MemoryStore, records: MutexGuard<'a, Records>) -> Self {
        Self { store, records, unpublished: Vec::new(), undo: Vec::new(), touched: Vec::new() }
    }

    /// Takes subtasks of one project, in order, all or none of them; tells `journal` of those that change something.
    pub(in crate::store) fn report(
        &mut self,
        project: &ProjectId,
        batch: Vec<SubJob>,
        rules: Rules,
        journal: &mut impl Journal,
    ) -> Result<Outcome, StoreError> {
        let before = self.undo.len();
        let taken = self.upsert_all(project, batch, rules, journal);
        if taken.is_err() {
            self.undo_to(before);
        }
        taken
    }

    fn upsert_all(
        &mut self,
        project: &ProjectId,
        batch: Vec<SubJob>,
        rules: Rules,
        journal: &mut impl Journal,
    ) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        if batch.is_empty() {
            return Ok(outcome);
        }
        self.records.room_for(batch.len())?;
        let jobs = self.number_jobs(project, batch.iter().map(|sub_job| &sub_job.job_id))?;
        let number = self.records.owner(jobs[0]);
        let mut deltas = Vec::with_capacity(batch.len());
        for (sub_job, job) in batch.into_iter().zip(jobs) {
            outcome += self.upsert((number, project), job, sub_job, rules, &mut deltas, journal)?;
        }
        self.note(number, deltas);
        Ok(outcome)
    }

    fn upsert(
        &mut self,
        (of, project): (ProjectNumber, &ProjectId),
        job: JobNumber,
        sub_job: SubJob,
        rules: Rules,
        deltas: &mut Vec<Delta>,
        journal: &mut impl Journal,
    ) -> Result<Outcome, StoreError> {
        let SubJob { id, job_id, job_type, status, version, details } = sub_job;
        let record = Record { id, version, job, cell: Cell::new(job_type, status), has_details: details.is_some() };
        let (id, enters) = (record.id.clone(), Delta { job, cell: record.cell, change: 1 });
        let of_details = |known| Ended::of(status, details.as_deref(), known, rules.now);
        let new = |ended| State { job_id: &job_id, job_type: job_type.index(), status, version, ended };

        let Some(number) = self.records.find(of, &id) else {
            let new = new(of_details(Ended::NOT));
            let (number, undo) = self.records.create(record, new.ended);
            journal.stored(Key { project, id: &id, number }, None, new, details);
            self.undo.push(undo);
            deltas.push(enters);
            return Ok(Outcome { created: 1, ..Outcome::default() });
        };
        let Some((stored, ended)) = self.records.get(number) else { return Err(StoreError::Broken) };
        if number < rules.settled {
            return Ok(Outcome { unchanged: 1, ..Outcome::default() });
        }
        if version < stored.version {
            return Ok(Outcome { stale: 1, ..Outcome::default() });
        }
        let key = Key { project, id: &id, number };
        if *stored == record && details.as_deref().map_or(Ok(true), |details| journal.has_details(key, details))? {
            return Ok(Outcome { unchanged: 1, ..Outcome::default() });
        }
        let leaves = Delta { job: stored.job, cell: stored.cell, change: -1 };
        let other_job =
            if stored.job == job { None } else { Some(self.store.read_tallies()?.ids(stored.job).1.clone()) };
        let old = state(stored, ended, other_job.as_ref().unwrap_or(&job_id));
        let new = new(of_details(ended));
        journal.stored(key, Some(old), new, details);
        self.undo.extend(self.records.replace(number, record, new.ended));
        if (leaves.job, leaves.cell) != (enters.job, enters.cell) {
            deltas.extend([leaves, enters]);
        }
        Ok(Outcome { updated: 1, ..Outcome::default() })
    }

    /// Takes subtasks of one project that are not there yet, as they were stored.
    pub(in crate::store) fn restore(&mut self, project: &ProjectId, batch: Vec<Restored>) -> Result<(), StoreError> {
        self.records.room_for(batch.len())?;
        let jobs = self.number_jobs(project, batch.iter().map(|restored| &restored.job_id))?;
        let Some(&first) = jobs.first() else { return Ok(()) };
        let mut deltas = Vec::with_capacity(batch.len());
        for (restored, job) in batch.into_iter().zip(jobs) {
            let Restored { id, job_type, status, version, has_details, ended, .. } = restored;
            let cell = Cell::new(job_type, status);
            deltas.push(Delta { job, cell, change: 1 });
            // Never to be taken back: what cannot be restored whole is not served.
            self.records.create(Record { id, version, job, cell, has_details }, ended);
        }
        let of = self.records.owner(first);
        self.note(of, deltas);
        Ok(())
    }

    /// One more than the highest number that a record has ever had.
    #[cfg(test)]
    pub(super) fn end(&self) -> u32 {
        self.records.end()
    }

    /// Drops subtasks that ended before `moment`, among the records with those numbers, but not too many at once.
    pub(in crate::store) fn expire(
        &mut self,
        moment: Ended,
        numbers: Range<u32>,
        journal: &mut impl Journal,
    ) -> Result<Dropped, StoreError> {
        let end = numbers.end;
        let expired: Vec<_> = self.records.ended_before(moment, numbers).take(DROPPED_AT_ONCE).collect();
        let next = if expired.len() == DROPPED_AT_ONCE { expired.last().map_or(end, |last| last + 1) } else { end };
        let mut by_project: HashMap<_, Vec<Delta>> = HashMap::new();
        for numbers in expired.chunks(self.store.step) {
            let tallies = self.store.read_tallies()?;
            for &number in numbers {
                let Some((stored, ended)) = self.records.get(number) else { return Err(StoreError::Broken) };
                let (project, job_id) = tallies.ids(stored.job);
                journal.dropped(Key { project, id: &stored.id, number }, state(stored, ended, job_id));
                let leaves = Delta { job: stored.job, cell: stored.cell, change: -1 };
                by_project.entry(tallies.owner(stored.job)).or_default().push(leaves);
                self.undo.extend(self.records.remove(number));
            }
        }
        for (project, deltas) in by_project {
            self.note(project, deltas);
        }
        Ok(Dropped { next, count: expired.len() as u64 })
    }

    /// Makes all of it count, report by report, in the order in which they were taken.
    pub(in crate::store) fn commit(mut self) -> Result<(), StoreError> {
        self.undo.clear();
        for changes in std::mem::take(&mut self.unpublished) {
            self.records.recount.changed(&changes);
            self.store.publish(changes)?;
        }
        self.release()
    }

    fn undo_to(&mut self, length: usize) {
        for step in self.undo.drain(length..).rev() {
            self.records.undo(step);
        }
    }

    fn note(&mut self, project: ProjectNumber, deltas: Vec<Delta>) {
        let changes = Changes::sum(project, deltas);
        let left = changes.of_jobs().iter().filter(|delta| delta.change < 0);
        self.touched.extend(left.map(|delta| delta.job));
        self.unpublished.push(changes);
    }

    /// The number of each job. New ones are entered with an empty tally.
    fn number_jobs<'b>(
        &mut self,
        project: &ProjectId,
        ids: impl ExactSizeIterator<Item = &'b JobId>,
    ) -> Result<Vec<JobNumber>, StoreError> {
        let ids: Vec<_> = ids.collect();
        let mut numbers = Vec::with_capacity(ids.len());
        for step in ids.chunks(self.store.step) {
            let known = numbers.len();
            {
                let tallies = self.store.read_tallies()?;
                numbers.extend(step.iter().map_while(|id| tallies.job(project, id)));
            }
            let unknown = &step[numbers.len() - known..];
            if unknown.is_empty() {
                continue;
            }
            let mut tallies = self.store.write_tallies()?;
            for id in unknown {
                let job = tallies.job_or_new(project, id)?;
                self.records.enter_job(job, tallies.owner(job));
                self.touched.push(job);
                numbers.push(job);
            }
        }
        Ok(numbers)
    }

    /// Forgets the jobs that are left without a subtask.
    fn release(&mut self) -> Result<(), StoreError> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for jobs in touched.chunks(self.store.step) {
            let mut tallies = self.store.write_tallies()?;
            jobs.iter().for_each(|job| tallies.release(*job));
        }
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.unpublished.clear();
        self.undo_to(0);
        // Fails only if the store is broken, which whoever asks next is told.
        let _ = self.release();
    }
}

fn state<'a>(record: &Record, ended: Ended, job_id: &'a JobId) -> State<'a> {
    let (job_type, status) = (record.cell.job_type(), record.cell.status());
    State { job_id, job_type, status, version: record.version, ended }
}
