//! The rules of a report, of a deletion and of retention.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::effect::{Changes, Effect, Put};
use crate::domain::{Details, JobId, JobType, JobTypeSet, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::end_time::EndTime;
use crate::store::types::{Outcome, StoreError};

/// What is stored, as a plan reads it.
pub(in crate::store) trait Stored {
    /// The number of a project that has or had subtasks.
    fn project(&self, id: &ProjectId) -> Option<u32>;

    /// The place of a subtask of the project with that number.
    fn place(&self, project: u32, id: &SubJobId) -> Option<u32>;

    /// The subtask at a place of the project with that number.
    fn known(&self, project: u32, place: u32) -> Option<Known<'_>>;

    /// The subtasks of the project with that number.
    fn ids(&self, project: u32) -> Vec<SubJobId>;

    /// Whether the details of a subtask that has some are these.
    fn has_details(&self, known: &Known<'_>, details: &Details) -> bool;

    /// Whether the project has capacity for `more` subtasks, each of a job of its own.
    fn has_capacity(&self, project: Option<u32>, more: usize) -> bool;
}

/// The current state of a subtask: the stored one, or the one that an earlier change of the draft gives it.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Known<'a> {
    /// `None`: a job that no record of the batch names.
    pub(in crate::store) job_id: Option<&'a JobId>,
    pub(in crate::store) job_type: JobType,
    pub(in crate::store) status: Status,
    pub(in crate::store) version: Version,
    pub(in crate::store) end_time: Option<EndTime>,
    /// Whether it was stored before the start.
    pub(in crate::store) is_settled: bool,
    /// The place of its record.
    pub(in crate::store) place: Option<u32>,
    pub(in crate::store) details: KnownDetails<'a>,
}

/// The details of a subtask.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum KnownDetails<'a> {
    None,
    Planned(&'a Details),
    /// The location that the store gives them.
    Stored(u64),
}

/// The rules that differ between a report and a load file.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Rules {
    /// The end time of a subtask that is reported with a final status and without a time.
    pub(in crate::store) now: EndTime,
    /// Whether subtasks that were stored before the start are left unchanged.
    pub(in crate::store) only_new: bool,
}

/// A subtask whose status does not allow its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDeletable {
    /// Its index in the list of identifiers, from 0.
    pub position: usize,
    /// Its status.
    pub status: Status,
}

/// Planned changes, of which each sees the effects of those before it.
pub(in crate::store) struct Draft<'a, S> {
    stored: &'a S,
    changes: Vec<Changes>,
    /// The latest effect on each subtask, as the index of the change and that of the effect in it.
    latest: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    next_revision: u64,
}

impl<'a, S: Stored> Draft<'a, S> {
    /// An empty draft, whose first change gets this revision.
    pub(in crate::store) fn new(stored: &'a S, next_revision: u64) -> Self {
        let (latest, hasher) = (HashTable::new(), DefaultHashBuilder::default());
        Self { stored, changes: Vec::new(), latest, hasher, next_revision }
    }

    /// The changes to apply, in order.
    pub(in crate::store) fn into_changes(self) -> Vec<Changes> {
        self.changes
    }

    /// Plans a report, one record after the other. A record with a lower version than the current one, or an identical record, changes
    /// nothing; any other replaces the current one.
    ///
    /// # Errors
    ///
    /// If the store has no capacity for the batch; then nothing is planned.
    pub(in crate::store) fn report(
        &mut self,
        project: &ProjectId,
        batch: Vec<SubJob>,
        rules: Rules,
    ) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        let number = self.stored.project(project);
        if !self.stored.has_capacity(number, batch.len() + self.planned()) {
            return Err(StoreError::Full);
        }
        self.begin(project, batch.len());
        // All at first: in so short a loop the processor reads several places of a large store from memory at once.
        let place = |sub_job: &SubJob| self.stored.place(number?, &sub_job.id);
        let places: Vec<_> = batch.iter().map(place).collect();
        for (sub_job, place) in batch.into_iter().zip(places) {
            let hash = self.hash(&sub_job.id);
            let known = self.known(project, number, place, &sub_job.id, hash);
            let put = match known {
                None => {
                    outcome.created += 1;
                    let end_time = EndTime::of_report(sub_job.status, sub_job.details.as_deref(), None, rules.now);
                    Put { sub_job, end_time, is_new: true, hint: None, details: 0 }
                }
                Some(known) if rules.only_new && known.is_settled => {
                    outcome.unchanged += 1;
                    continue;
                }
                Some(known) if sub_job.version < known.version => {
                    outcome.stale += 1;
                    continue;
                }
                Some(known) if self.is_same(&sub_job, &known) => {
                    outcome.unchanged += 1;
                    continue;
                }
                Some(known) => {
                    outcome.updated += 1;
                    let end_time =
                        EndTime::of_report(sub_job.status, sub_job.details.as_deref(), known.end_time, rules.now);
                    Put { end_time, is_new: false, hint: known.place, sub_job, details: 0 }
                }
            };
            self.push(Effect::Put(put), hash);
        }
        self.end();
        Ok(outcome)
    }

    fn is_same(&self, new: &SubJob, known: &Known<'_>) -> bool {
        let is_alike = (new.version, new.status, new.job_type) == (known.version, known.status, known.job_type)
            && known.job_id == Some(&new.job_id);
        is_alike
            && match (&new.details, known.details) {
                (None, KnownDetails::None) => true,
                (Some(new), KnownDetails::Planned(known)) => **new == *known,
                (Some(new), KnownDetails::Stored(_)) => self.stored.has_details(known, new),
                _ => false,
            }
    }

    /// Plans the deletion of subtasks of these types, all or none: each must have status SUCCESS or FAILED. Identifiers that are not
    /// stored are ignored. Returns how many are deleted.
    pub(in crate::store) fn delete(
        &mut self,
        project: &ProjectId,
        ids: &[SubJobId],
        job_types: JobTypeSet,
    ) -> Result<u64, NotDeletable> {
        let number = self.stored.project(project);
        let mut found = Vec::new();
        for (position, id) in ids.iter().enumerate() {
            let known = self.find(project, number, id, self.hash(id));
            match known.filter(|known| job_types.contains(known.job_type.index())) {
                Some(known) if !matches!(known.status, Status::Success | Status::Failed) => {
                    return Err(NotDeletable { position, status: known.status });
                }
                Some(_) if !found.contains(id) => found.push(id.clone()),
                _ => {}
            }
        }
        self.begin(project, found.len());
        for id in found {
            let hash = self.hash(&id);
            self.push(Effect::Remove(id), hash);
        }
        Ok(self.end())
    }

    /// Plans the deletion of all subtasks of a project, whatever their status. Returns how many are deleted.
    pub(in crate::store) fn reset(&mut self, project: &ProjectId) -> u64 {
        let number = self.stored.project(project);
        let mut ids = number.map_or_else(Vec::new, |number| self.stored.ids(number));
        let planned = self.changes.iter().filter(|changes| changes.project == *project);
        ids.extend(
            planned
                .flat_map(|changes| &changes.effects)
                .filter(|effect| effect.is_new())
                .map(|effect| effect.id().clone()),
        );
        self.begin(project, ids.len());
        for id in ids {
            let hash = self.hash(&id);
            if self.find(project, number, &id, hash).is_some() {
                self.push(Effect::Remove(id), hash);
            }
        }
        self.end()
    }

    /// Plans the removal of those subtasks that ended before a moment. Returns how many are removed.
    pub(in crate::store) fn expire(&mut self, project: &ProjectId, ids: Vec<SubJobId>, moment: EndTime) -> u64 {
        let number = self.stored.project(project);
        self.begin(project, ids.len());
        for id in ids {
            let hash = self.hash(&id);
            let known = self.find(project, number, &id, hash);
            if known.is_some_and(|known| known.end_time.is_some_and(|end_time| end_time < moment)) {
                self.push(Effect::Remove(id), hash);
            }
        }
        self.end()
    }

    /// The number of effects so far.
    fn planned(&self) -> usize {
        self.changes.iter().map(|changes| changes.effects.len()).sum()
    }

    /// The hash of a subtask in `latest`.
    fn hash(&self, id: &SubJobId) -> u64 {
        self.hasher.hash_one(id)
    }

    fn find(&self, project: &ProjectId, number: Option<u32>, id: &SubJobId, hash: u64) -> Option<Known<'_>> {
        let place = number.and_then(|number| self.stored.place(number, id));
        self.known(project, number, place, id, hash)
    }

    /// The current state of a subtask, which is stored at `place`.
    fn known(
        &self,
        project: &ProjectId,
        number: Option<u32>,
        place: Option<u32>,
        id: &SubJobId,
        hash: u64,
    ) -> Option<Known<'_>> {
        let planned = if self.latest.is_empty() { None } else { self.find_planned(project, id, hash) };
        match planned {
            None => self.stored.known(number?, place?),
            Some(Effect::Remove(_)) => None,
            Some(Effect::Put(put)) => {
                let SubJob { job_id, job_type, status, version, details, .. } = &put.sub_job;
                Some(Known {
                    job_id: Some(job_id),
                    job_type: *job_type,
                    status: *status,
                    version: *version,
                    end_time: put.end_time,
                    is_settled: false,
                    place: put.hint,
                    details: details.as_deref().map_or(KnownDetails::None, KnownDetails::Planned),
                })
            }
        }
    }

    fn find_planned(&self, project: &ProjectId, id: &SubJobId, hash: u64) -> Option<&Effect> {
        let is_it = |&(changes, effect): &(u32, u32)| {
            let changes = &self.changes[changes as usize];
            changes.effects[effect as usize].id() == id && changes.project == *project
        };
        let (changes, effect) = *self.latest.find(hash, is_it)?;
        Some(&self.changes[changes as usize].effects[effect as usize])
    }

    fn begin(&mut self, project: &ProjectId, most: usize) {
        let effects = Vec::with_capacity(most);
        self.changes.push(Changes { project: project.clone(), revision: self.next_revision, effects });
        // At once, because a table that grows hashes each identifier in it again.
        let Self { changes, latest, hasher, .. } = self;
        latest.reserve(most, |&(at, effect)| hasher.hash_one(changes[at as usize].effects[effect as usize].id()));
    }

    /// Adds an effect on the subtask with that hash to the last change.
    fn push(&mut self, effect: Effect, hash: u64) {
        let last = self.changes.len() - 1;
        let at = (last as u32, self.changes[last].effects.len() as u32);
        let Self { changes, latest, hasher, .. } = self;
        let of = |&(changes_at, effect): &(u32, u32)| &changes[changes_at as usize].effects[effect as usize];
        let is_it = |other: &(u32, u32)| {
            of(other).id() == effect.id() && changes[other.0 as usize].project == changes[last].project
        };
        match latest.find_mut(hash, is_it) {
            Some(known) => *known = at,
            None => {
                latest.insert_unique(hash, at, |other| hasher.hash_one(of(other).id()));
            }
        }
        changes[last].effects.push(effect);
    }

    /// Ends the last change. Returns the number of its effects.
    fn end(&mut self) -> u64 {
        let effects = self.changes.last().map_or(0, |changes| changes.effects.len());
        if effects == 0 {
            self.changes.pop();
        } else {
            self.next_revision += 1;
        }
        effects as u64
    }
}
