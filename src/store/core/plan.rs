//! The rules of a report, of a deletion and of retention.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::effect::{Changes, Effect, Put};
use crate::domain::{Details, JobId, JobType, JobTypeSet, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::ended::Ended;
use crate::store::{Outcome, StoreError};

/// What is stored, as far as a plan asks.
pub(in crate::store) trait Stored {
    /// The number of a project that has subtasks.
    fn project(&self, id: &ProjectId) -> Option<u32>;

    /// A subtask of the project with that number.
    fn find(&self, project: u32, id: &SubJobId) -> Option<Known<'_>>;

    /// The subtasks of the project with that number.
    fn ids(&self, project: u32) -> Vec<SubJobId>;

    /// Whether the details of a subtask that has some are these.
    fn has_details(&self, known: &Known<'_>, details: &Details) -> bool;

    /// Whether so many more subtasks, of as many jobs, can be stored in the project.
    fn has_capacity(&self, project: Option<u32>, more: usize) -> bool;
}

/// A subtask that is stored, or will be once what has been planned is applied.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Known<'a> {
    pub(in crate::store) job_id: &'a JobId,
    pub(in crate::store) job_type: JobType,
    pub(in crate::store) status: Status,
    pub(in crate::store) version: Version,
    pub(in crate::store) ended: Ended,
    /// Whether it was there when the store was opened.
    pub(in crate::store) is_settled: bool,
    /// Where its record is.
    pub(in crate::store) place: Option<u32>,
    pub(in crate::store) details: KnownDetails<'a>,
}

/// What is known of the details of a subtask.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum KnownDetails<'a> {
    None,
    Planned(&'a Details),
    /// As the store numbers them.
    Stored(u64),
}

/// How a report is taken.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Rules {
    /// When a subtask ended that is reported as ended without a time.
    pub(in crate::store) now: Ended,
    /// Whether subtasks that were there when the store was opened are left as they are.
    pub(in crate::store) only_new: bool,
}

/// A subtask that cannot be deleted, since it has not come to an end that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotDeletable {
    /// Its place among those that were to be deleted, from 0.
    pub position: usize,
    /// Where it stands.
    pub status: Status,
}

/// Changes that have been planned and not been applied: each sees what those before it will have done.
pub(in crate::store) struct Draft<'a, S> {
    stored: &'a S,
    changes: Vec<Changes>,
    /// The latest effect on each subtask, as the numbers of its changes and of the effect.
    latest: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    next_revision: u64,
}

impl<'a, S: Stored> Draft<'a, S> {
    /// Nothing yet; the first change gets this revision.
    pub(in crate::store) fn new(stored: &'a S, next_revision: u64) -> Self {
        let (latest, hasher) = (HashTable::new(), DefaultHashBuilder::default());
        Self { stored, changes: Vec::new(), latest, hasher, next_revision }
    }

    /// What is to be applied, in order.
    pub(in crate::store) fn into_changes(self) -> Vec<Changes> {
        self.changes
    }

    /// Plans a report: all of it, or nothing if it fails.
    ///
    /// Records are taken in order. One with a lower version than what is known changes nothing, an identical one neither, and any
    /// other replaces it.
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
        for sub_job in batch {
            let known = self.find(project, number, &sub_job.id);
            let put = match known {
                None => {
                    outcome.created += 1;
                    let ended = Ended::of(sub_job.status, sub_job.details.as_deref(), Ended::NOT, rules.now);
                    Put { sub_job, ended, is_new: true, hint: None, details: 0 }
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
                    let ended = Ended::of(sub_job.status, sub_job.details.as_deref(), known.ended, rules.now);
                    Put { ended, is_new: false, hint: known.place, sub_job, details: 0 }
                }
            };
            self.push(Effect::Put(put));
        }
        self.end();
        Ok(outcome)
    }

    fn is_same(&self, new: &SubJob, known: &Known<'_>) -> bool {
        let is_alike = (new.version, new.status, new.job_type) == (known.version, known.status, known.job_type)
            && new.job_id == *known.job_id;
        is_alike
            && match (&new.details, known.details) {
                (None, KnownDetails::None) => true,
                (Some(new), KnownDetails::Planned(known)) => **new == *known,
                (Some(new), KnownDetails::Stored(_)) => self.stored.has_details(known, new),
                _ => false,
            }
    }

    /// Plans that subtasks are deleted, all or none: those of these types, of which each must have succeeded or failed. What is
    /// not stored is passed over. How many are.
    pub(in crate::store) fn delete(
        &mut self,
        project: &ProjectId,
        ids: &[SubJobId],
        job_types: JobTypeSet,
    ) -> Result<u64, NotDeletable> {
        let number = self.stored.project(project);
        let mut found = Vec::new();
        for (position, id) in ids.iter().enumerate() {
            match self.find(project, number, id).filter(|known| job_types.contains(known.job_type.index())) {
                Some(known) if !matches!(known.status, Status::Success | Status::Failed) => {
                    return Err(NotDeletable { position, status: known.status });
                }
                Some(_) if !found.contains(id) => found.push(id.clone()),
                _ => {}
            }
        }
        self.begin(project, found.len());
        found.into_iter().for_each(|id| self.push(Effect::Remove(id)));
        Ok(self.end())
    }

    /// Plans that all subtasks of a project are deleted, whatever their status. How many are.
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
            if self.find(project, number, &id).is_some() {
                self.push(Effect::Remove(id));
            }
        }
        self.end()
    }

    /// Plans that those of some subtasks are dropped which ended before that moment. How many are.
    pub(in crate::store) fn expire(&mut self, project: &ProjectId, ids: Vec<SubJobId>, moment: Ended) -> u64 {
        let number = self.stored.project(project);
        self.begin(project, ids.len());
        for id in ids {
            if self.find(project, number, &id).is_some_and(|known| known.ended.is_before(moment)) {
                self.push(Effect::Remove(id));
            }
        }
        self.end()
    }

    /// How many effects there are.
    fn planned(&self) -> usize {
        self.changes.iter().map(|changes| changes.effects.len()).sum()
    }

    fn find(&self, project: &ProjectId, number: Option<u32>, id: &SubJobId) -> Option<Known<'_>> {
        let planned = if self.latest.is_empty() { None } else { self.find_planned(project, id) };
        match planned {
            None => self.stored.find(number?, id),
            Some(Effect::Remove(_)) => None,
            Some(Effect::Put(put)) => {
                let SubJob { job_id, job_type, status, version, details, .. } = &put.sub_job;
                Some(Known {
                    job_id,
                    job_type: *job_type,
                    status: *status,
                    version: *version,
                    ended: put.ended,
                    is_settled: false,
                    place: put.hint,
                    details: details.as_deref().map_or(KnownDetails::None, KnownDetails::Planned),
                })
            }
        }
    }

    fn find_planned(&self, project: &ProjectId, id: &SubJobId) -> Option<&Effect> {
        let is_it = |&(changes, effect): &(u32, u32)| {
            let changes = &self.changes[changes as usize];
            changes.effects[effect as usize].id() == id && changes.project == *project
        };
        let (changes, effect) = *self.latest.find(self.hasher.hash_one(id), is_it)?;
        Some(&self.changes[changes as usize].effects[effect as usize])
    }

    fn begin(&mut self, project: &ProjectId, most: usize) {
        let effects = Vec::with_capacity(most);
        self.changes.push(Changes { project: project.clone(), revision: self.next_revision, effects });
    }

    /// Adds an effect to the changes that were begun last.
    fn push(&mut self, effect: Effect) {
        let last = self.changes.len() - 1;
        let hash = self.hasher.hash_one(effect.id());
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

    /// Ends the changes that were begun last; how many effects they have.
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
