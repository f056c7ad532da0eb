//! Applies planned changes. It fails only if an earlier change has panicked.

use super::block::Record;
use super::counters::CounterKey;
use super::deltas::{CounterChanges, Delta, JobNumber, ProjectNumber};
use super::jobs::changed_image_jobs;
use super::locks::MemoryStore;
use super::records::{Old, Records};
use super::verifier::Verifier;
use crate::domain::{JobId, ProjectId, SubJob, SubJobId};
use crate::store::core::{Changes, Effect, Put};
use crate::store::types::StoreError;

/// How many of the latest deltas a record may be added to.
const MAX_LATEST: usize = 8;

impl MemoryStore {
    /// Applies the changes of one project, in one step for every reader. They are planned for the current state.
    pub(in crate::store) fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        self.apply_changes(changes, false)
    }

    /// Applies recovered changes. They may be in the snapshot already, together with later changes; after all of these have been applied
    /// again, the state is the same.
    pub(in crate::store) fn apply_again(&self, changes: Changes) -> Result<(), StoreError> {
        self.apply_changes(changes, true)
    }

    fn apply_changes(&self, changes: Changes, is_recovered: bool) -> Result<(), StoreError> {
        let Changes { project: id, revision, effects } = changes;
        let (project, jobs) = self.number_jobs(&id, &effects)?;
        let (mut verifier, mut records) = (self.lock_verifier()?, self.write_records()?);
        let highest = jobs.iter().flatten().max().copied().unwrap_or(JobNumber(0));
        records.extend(project, highest);
        let mut work =
            Work { records: &mut records, verifier: &mut verifier, project, is_recovered, deltas: Vec::new() };
        for (effect, job) in effects.into_iter().zip(&jobs) {
            match (effect, job) {
                (Effect::Put(put), Some(job)) => work.put(put, *job),
                (effect, _) => work.remove(effect.id()),
            }
        }
        let deltas = work.deltas;
        // A sum of zero too: the job may be one whose only subtask came and went.
        let touched = deltas.iter().filter(|delta| delta.change <= 0).map(|delta| delta.job).collect();
        let image_jobs = changed_image_jobs(&deltas);
        let changes = CounterChanges::sum(project, deltas);
        verifier.changed_counters(&changes);
        self.publish(changes, revision)?;
        self.refresh_image_jobs(&mut records, project, &image_jobs)?;
        self.release(&mut records, project, touched)?;
        self.watches().mark(&id);
        Ok(())
    }

    /// Makes changes visible in one step, then moves them into the jobs' counters in steps of bounded length.
    pub(super) fn publish(&self, changes: CounterChanges, revision: u64) -> Result<(), StoreError> {
        let mut spent = {
            let mut counters = self.write_counters()?;
            counters.publish(changes, revision);
            counters.fold(self.step)
        };
        while spent.is_none() {
            spent = self.write_counters()?.fold(self.step);
        }
        Ok(())
    }

    /// The numbers of the project, and of the job of each effect that stores a subtask. New ones are added with empty counters, which
    /// change no count.
    fn number_jobs(
        &self,
        id: &ProjectId,
        effects: &[Effect],
    ) -> Result<(ProjectNumber, Vec<Option<JobNumber>>), StoreError> {
        let known = self.read_counters()?.project(id);
        let project = match known {
            Some(project) => project,
            None => self.write_counters()?.project_or_new(id),
        };
        let mut numbers = Vec::with_capacity(effects.len());
        for step in effects.chunks(self.step) {
            let from = numbers.len();
            let mut unknown = Vec::new();
            {
                let counters = self.read_counters()?;
                // Fast path: the subtasks of a job are mostly reported together.
                let mut latest: Option<(&JobId, JobNumber)> = None;
                for (at, effect) in step.iter().enumerate() {
                    let Effect::Put(Put { sub_job: SubJob { job_id, .. }, .. }) = effect else {
                        numbers.push(None);
                        continue;
                    };
                    let same = latest.filter(|(id, _)| *id == job_id).map(|(_, number)| number);
                    let number = same.or_else(|| counters.find_job(project, job_id));
                    match number {
                        Some(number) => latest = Some((job_id, number)),
                        None => unknown.push((from + at, job_id)),
                    }
                    numbers.push(number);
                }
            }
            if !unknown.is_empty() {
                let mut counters = self.write_counters()?;
                for (at, job_id) in unknown {
                    numbers[at] = Some(counters.job_or_new(project, job_id));
                }
            }
        }
        Ok((project, numbers))
    }

    /// Removes those jobs that have no subtask any more.
    fn release(
        &self,
        records: &mut Records,
        project: ProjectNumber,
        mut jobs: Vec<JobNumber>,
    ) -> Result<(), StoreError> {
        jobs.sort_unstable();
        jobs.dedup();
        let mut is_gone = false;
        for jobs in jobs.chunks(self.step) {
            let mut counters = self.write_counters()?;
            jobs.iter().for_each(|job| is_gone |= counters.release(*job));
        }
        if is_gone {
            records.release(project);
        }
        Ok(())
    }
}

/// The application of changes of one project to the records.
struct Work<'a> {
    records: &'a mut Records,
    verifier: &'a mut Verifier,
    project: ProjectNumber,
    is_recovered: bool,
    deltas: Vec<Delta>,
}

impl Work<'_> {
    fn put(&mut self, put: Put, job: JobNumber) {
        let Put { sub_job, end_time, is_new, hint, details: at } = put;
        let SubJob { id, job_type, status, version, details, .. } = sub_job;
        let key = CounterKey::new(job_type, status);
        // The plan has looked for a new subtask and found none.
        let mut known = if is_new && !self.is_recovered { None } else { self.records.find(self.project, &id, hint) };
        if is_new && known.is_some() {
            // It is in the snapshot already. Its place comes after those of all subtasks that were stored before it.
            self.remove(&id);
            known = None;
        }
        let record = Record { id, version, job, key, end_time, details: at };
        // Details that are in a file are not kept in memory.
        let details = details.filter(|_| at == 0);
        match known {
            Some(place) => {
                if let Some(old) = self.records.replace(self.project, place, record, details) {
                    self.note(place, old.job, old.key, -1, (old.job, old.key) != (job, key));
                    self.note(place, job, key, 1, (old.job, old.key) != (job, key));
                }
            }
            None => {
                if self.records.is_sparse(self.project) {
                    self.records.renumber(self.project);
                    self.verifier.restart();
                }
                let place = self.records.create(self.project, record, details);
                self.note(place, job, key, 1, true);
            }
        }
    }

    fn remove(&mut self, id: &SubJobId) {
        let Some(place) = self.records.find(self.project, id, None) else { return };
        if let Some(Old { job, key }) = self.records.remove(self.project, place) {
            self.note(place, job, key, -1, true);
        }
    }

    /// Counts a record in (1) or out (-1).
    fn note(&mut self, place: u32, job: JobNumber, key: CounterKey, change: i32, changes_counters: bool) {
        if changes_counters {
            self.verifier.changed_record(self.project, place, job, key, change.into());
            // Fast path: the subtasks of a job are mostly reported together, and then have few keys.
            let mut latest = self.deltas.iter_mut().rev().take_while(|delta| delta.job == job).take(MAX_LATEST);
            match latest.find(|delta| delta.key == key) {
                Some(delta) => delta.change += change,
                None => self.deltas.push(Delta { job, key, change }),
            }
        }
    }
}
