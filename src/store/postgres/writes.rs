//! What a transaction writes: the rows and the counters, as arrays that are sorted by key.

use std::collections::{BTreeMap, BTreeSet};

use super::job_hash::JobHash;
use super::locked::Locked;
use super::pace::{SLICE, is_alone};
use super::statements::order_class;
use super::types::TypeNumbers;
use crate::domain::{JobId, ProjectId, Status, SubJobId};
use crate::store::core::{Changes, Effect, Put};
use crate::store::data_dir::details_to_bytes;
use crate::store::end_time::EndTime;

/// Rows of `sub_job`, by column.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) projects: Vec<i64>,
    pub(super) ids: Vec<String>,
    pub(super) jobs: Vec<JobHash>,
    pub(super) job_types: Vec<i16>,
    pub(super) statuses: Vec<i16>,
    pub(super) versions: Vec<i64>,
    /// The places in the block of the transaction, which give the order; `None`: the row keeps its order.
    pub(super) places: Vec<Option<i64>>,
    pub(super) ended: Vec<Option<i64>>,
    pub(super) details: Vec<Option<Vec<u8>>>,
}

/// Changes of counters, by column; `counts` has a column for each status.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) projects: Vec<i64>,
    /// Empty for the counters of projects.
    pub(super) jobs: Vec<JobHash>,
    pub(super) job_ids: Vec<String>,
    pub(super) job_types: Vec<i16>,
    pub(super) counts: [Vec<i64>; Status::COUNT],
}

/// All that a transaction writes.
#[derive(Debug, Default)]
pub(super) struct Writes {
    pub(super) inserted: Rows,
    pub(super) updated: Rows,
    pub(super) deleted: (Vec<i64>, Vec<String>),
    pub(super) of_jobs: Tallies,
    pub(super) of_projects: Tallies,
    /// Jobs that may have no subtask any more.
    pub(super) decreased: (Vec<i64>, Vec<JobHash>),
    /// Projects, and how many changes each has had.
    pub(super) revisions: (Vec<i64>, Vec<i64>),
    /// The projects that change.
    pub(super) changed: Vec<ProjectId>,
    /// The classes of the projects in which subtasks get a place in the order. If there are many rows, of all projects: others that add
    /// subtasks would wait for their counters otherwise, and lists for them.
    pub(super) classes: Vec<i32>,
}

/// The key of a counter of a job.
type JobKey = (i64, JobHash, i16);

/// The final state of a subtask, and its place in the block if it is new.
#[derive(Default)]
struct Final<'a> {
    put: Option<&'a Put>,
    place: Option<i64>,
}

impl Writes {
    /// What the planned changes write.
    pub(super) fn of(changes: &[Changes], locked: &Locked, types: &TypeNumbers) -> Self {
        let mut finals: BTreeMap<(i64, String), (u32, &SubJobId, Final<'_>)> = BTreeMap::new();
        let (mut next_place, mut revisions) = (0, BTreeMap::<i64, i64>::new());
        let mut classes = BTreeSet::new();
        let mut writes = Self::default();
        for Changes { project, effects, .. } in changes {
            let Some((at, number)) = locked.project_number(project) else { continue };
            if revisions.insert(number, revisions.get(&number).copied().unwrap_or(0) + 1).is_none() {
                writes.changed.push(project.clone());
            }
            for effect in effects {
                let id = effect.id();
                let entry = finals.entry((number, id.to_string()));
                let (.., last) = entry.or_insert_with(|| (at, id, Final::default()));
                match effect {
                    Effect::Remove(_) => last.put = None,
                    Effect::Put(put) => {
                        if put.is_new {
                            last.place = Some(next_place);
                            next_place += 1;
                            classes.insert(order_class(number));
                        }
                        last.put = Some(put);
                    }
                }
            }
        }
        writes.revisions = revisions.into_iter().unzip();
        writes.add_rows(finals, locked, types);
        if is_alone(writes.rows(), SLICE) {
            classes.extend(writes.revisions.0.iter().copied().map(order_class));
        }
        writes.classes = classes.into_iter().collect();
        writes
    }

    /// How many rows it writes.
    pub(super) fn rows(&self) -> usize {
        let of_jobs = self.of_jobs.projects.len() + self.decreased.0.len();
        self.inserted.ids.len() + self.updated.ids.len() + self.deleted.0.len() + of_jobs
    }

    fn add_rows(
        &mut self,
        finals: BTreeMap<(i64, String), (u32, &SubJobId, Final<'_>)>,
        locked: &Locked,
        types: &TypeNumbers,
    ) {
        let mut counts: BTreeMap<JobKey, [i64; Status::COUNT]> = BTreeMap::new();
        let mut names: BTreeMap<JobHash, &JobId> = locked.jobs.iter().map(|(hash, id)| (*hash, id)).collect();
        let mut decreased = BTreeSet::new();
        for ((project, id), (at, sub_job_id, Final { put, place })) in finals {
            let old = locked.row(at, sub_job_id);
            if let Some(old) = old {
                let key = (project, old.job, types.number(old.job_type));
                counts.entry(key).or_default()[old.status as usize] -= 1;
                decreased.insert((project, old.job));
            }
            let Some(put) = put else {
                if old.is_some() {
                    self.deleted.0.push(project);
                    self.deleted.1.push(id);
                }
                continue;
            };
            let job = JobHash::of(&put.sub_job.job_id);
            names.insert(job, &put.sub_job.job_id);
            let key = (project, job, types.number(put.sub_job.job_type));
            counts.entry(key).or_default()[put.sub_job.status as usize] += 1;
            let rows = if old.is_some() { &mut self.updated } else { &mut self.inserted };
            rows.push((project, id), job, put, place, types);
        }
        counts.retain(|_, changes| changes.iter().any(|change| *change != 0));
        decreased.retain(|(project, job)| {
            let of_job = counts.range((*project, *job, i16::MIN)..=(*project, *job, i16::MAX));
            of_job.flat_map(|(_, changes)| changes).any(|change| *change < 0)
        });
        self.decreased = decreased.into_iter().unzip();
        let mut of_projects: BTreeMap<(i64, i16), [i64; Status::COUNT]> = BTreeMap::new();
        for ((project, job, job_type), changes) in counts {
            let of_project = of_projects.entry((project, job_type)).or_default();
            of_project.iter_mut().zip(&changes).for_each(|(sum, change)| *sum += change);
            self.of_jobs.jobs.push(job);
            // A job that no change names has its name in the row that is updated.
            self.of_jobs.job_ids.push(names.get(&job).map(|id| id.to_string()).unwrap_or_default());
            self.of_jobs.push(project, job_type, changes);
        }
        for ((project, job_type), changes) in of_projects {
            if changes.iter().any(|change| *change != 0) {
                self.of_projects.push(project, job_type, changes);
            }
        }
    }
}

impl Rows {
    fn push(&mut self, (project, id): (i64, String), job: JobHash, put: &Put, place: Option<i64>, types: &TypeNumbers) {
        self.projects.push(project);
        self.ids.push(id);
        self.jobs.push(job);
        self.job_types.push(types.number(put.sub_job.job_type));
        self.statuses.push(put.sub_job.status as i16);
        // A version is at most 2^63 - 1.
        self.versions.push(i64::try_from(put.sub_job.version.get()).unwrap_or(i64::MAX));
        self.places.push(place);
        self.ended.push(put.end_time.map(EndTime::as_seconds));
        self.details.push(put.sub_job.details.as_deref().map(details_to_bytes));
    }
}

impl Tallies {
    fn push(&mut self, project: i64, job_type: i16, changes: [i64; Status::COUNT]) {
        self.projects.push(project);
        self.job_types.push(job_type);
        self.counts.iter_mut().zip(changes).for_each(|(column, change)| column.push(change));
    }
}
