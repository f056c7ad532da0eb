//! The records of all subtasks, by project in order, and by job.

use hashbrown::DefaultHashBuilder;

use super::block::Record;
use super::counters::{CounterKey, KeySet};
use super::deltas::{JobNumber, ProjectNumber};
use super::image_jobs::ImageJobs;
use super::members::Members;
use super::project::ProjectRecords;
use super::segments::Segments;
use crate::domain::{Details, SubJobId};
use crate::store::end_time::EndTime;

/// A position in a walk over all records: projects by number, and the records of each by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Cursor {
    pub(super) project: u32,
    pub(super) place: u32,
}

impl Cursor {
    pub(super) fn from_u64(number: u64) -> Self {
        Self { project: (number >> 32) as u32, place: number as u32 }
    }

    /// 0 for the beginning.
    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.project) << 32 | u64::from(self.place)
    }
}

/// The records of all subtasks.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// By the project's number.
    projects: Segments<ProjectRecords>,
    /// By the job's number.
    members: Segments<Members>,
    hasher: DefaultHashBuilder,
    details: Slab,
    renumbered: u64,
    pub(super) image_jobs: ImageJobs,
}

/// The job and key of a record before it was replaced or removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub(super) job: JobNumber,
    pub(super) key: CounterKey,
}

impl Records {
    pub(super) fn project(&self, project: ProjectNumber) -> Option<&ProjectRecords> {
        self.projects.get(project.0)
    }

    /// Adds the entries of a project and of jobs up to a number, if they are missing.
    pub(super) fn extend(&mut self, project: ProjectNumber, job: JobNumber) {
        while self.projects.len() <= project.0 as usize {
            self.projects.push(ProjectRecords::default());
        }
        while self.members.len() <= job.0 as usize {
            self.members.push(Members::None);
        }
    }

    /// The place of a subtask's record. `hint` is the place that the plan has found.
    pub(super) fn find(&self, project: ProjectNumber, id: &SubJobId, hint: Option<u32>) -> Option<u32> {
        let records = self.projects.get(project.0)?;
        hint.filter(|&at| records.is(at, id)).or_else(|| records.find(id, &self.hasher))
    }

    pub(super) fn get(&self, project: ProjectNumber, at: u32) -> Option<Record> {
        self.projects.get(project.0)?.get(at)
    }

    /// Whether a project has places for `more` records.
    pub(super) fn has_capacity(&self, project: ProjectNumber, more: usize) -> bool {
        self.projects.get(project.0).is_none_or(|records| records.live() as usize + more < u32::MAX as usize / 2)
    }

    /// Whether a project must be renumbered.
    pub(super) fn is_sparse(&self, project: ProjectNumber) -> bool {
        self.projects[project.0].is_sparse()
    }

    /// Gives the records of a project consecutive places.
    pub(super) fn renumber(&mut self, project: ProjectNumber) {
        self.renumbered += 1;
        let old = std::mem::take(&mut self.projects[project.0]);
        for (_, record) in old.iter_from(0) {
            self.members[record.job.0] = Members::None;
        }
        let mut settled = 0;
        for (at, record) in old.iter_from(0) {
            settled += u32::from(at < old.settled);
            self.add(project, record);
        }
        self.projects[project.0].settled = settled;
        self.image_jobs.renumber(project, &self.projects[project.0]);
    }

    /// Adds a record. Returns its place.
    fn add(&mut self, project: ProjectNumber, record: Record) -> u32 {
        let (job, key) = (record.job, record.key);
        let records = &mut self.projects[project.0];
        let at = records.create(record, &self.hasher);
        self.members[job.0].insert(at, key, |other| records.key(other));
        at
    }

    /// Adds the record of a new subtask, whose details are kept in memory if there are any. Returns its place.
    pub(super) fn create(&mut self, project: ProjectNumber, mut record: Record, details: Option<Box<Details>>) -> u32 {
        if let Some(details) = details {
            record.details = self.details.insert(details);
        }
        self.add(project, record)
    }

    /// Replaces a record by another one of the same subtask, whose details are kept in memory if there are any.
    pub(super) fn replace(
        &mut self,
        project: ProjectNumber,
        at: u32,
        mut record: Record,
        details: Option<Box<Details>>,
    ) -> Option<Old> {
        let records = &mut self.projects[project.0];
        let old = records.get(at)?;
        self.details.remove(old.details);
        if let Some(details) = details {
            record.details = self.details.insert(details);
        }
        let (job, key) = (record.job, record.key);
        records.replace(at, old.key, record);
        if old.job != job {
            self.members[old.job.0].remove(at, old.key);
            self.members[job.0].insert(at, key, |other| records.key(other));
        } else if old.key != key {
            self.members[job.0].rekey(at, old.key, key);
        }
        Some(Old { job: old.job, key: old.key })
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, project: ProjectNumber, at: u32) -> Option<Old> {
        let records = &mut self.projects[project.0];
        let old = records.get(at)?;
        self.details.remove(old.details);
        records.remove(at, &old.id, old.key, &self.hasher);
        self.members[old.job.0].remove(at, old.key);
        Some(Old { job: old.job, key: old.key })
    }

    /// Frees the memory of a project that has no record any more.
    pub(super) fn release(&mut self, project: ProjectNumber) {
        self.projects[project.0] = ProjectRecords::default();
    }

    /// Changes the location of a record's details.
    pub(super) fn set_details(&mut self, project: ProjectNumber, at: u32, details: u64) {
        self.projects[project.0].set_details(at, details);
    }

    /// The details with that location in memory.
    pub(super) fn details(&self, number: u64) -> Option<&Details> {
        self.details.get(number)
    }

    /// The places of a job's records with a key of the set, without the first `skip` of them, at most `limit`.
    pub(super) fn page_of_job(
        &self,
        project: ProjectNumber,
        job: JobNumber,
        keys: &KeySet,
        skip: u64,
        limit: usize,
    ) -> Vec<u32> {
        let (Some(members), Some(records)) = (self.members.get(job.0), self.projects.get(project.0)) else {
            return Vec::new();
        };
        members.page(keys, skip, limit, |at| records.key(at))
    }

    /// Marks all records as stored before the start.
    pub(super) fn settle(&mut self) {
        for number in 0..self.projects.len() as u32 {
            self.projects[number].settled = self.projects[number].end();
        }
    }

    /// Walks over at most `most` places from `from` on. Calls `each` with the places of one project after the other; a project without
    /// records has none. `each` may stop the walk by returning the place to continue at. Returns where to continue; `None` at the end.
    pub(super) fn walk(
        &self,
        from: Cursor,
        most: u32,
        mut each: impl FnMut(ProjectNumber, &ProjectRecords, std::ops::Range<u32>) -> Option<u32>,
    ) -> Option<Cursor> {
        let (mut at, mut left) = (from, most);
        while let Some(records) = self.projects.get(at.project) {
            let end = records.end().min(at.place.saturating_add(left));
            let looked_at = end.saturating_sub(at.place);
            let has_more = looked_at > 0 || records.end() == 0;
            if has_more && let Some(place) = each(ProjectNumber(at.project), records, at.place..at.place + looked_at) {
                let is_last = place >= records.end();
                let next = Cursor { project: at.project + 1, place: 0 };
                return Some(if is_last { next } else { Cursor { place, ..at } });
            }
            // A project without records counts as a place.
            left = left.saturating_sub(looked_at.max(1));
            at.place = end.max(at.place);
            if at.place >= records.end() {
                at = Cursor { project: at.project + 1, place: 0 };
            }
            if left == 0 {
                return Some(at);
            }
        }
        None
    }

    /// The places, within a range, of records that ended before a moment, with their identifiers.
    pub(super) fn ended_before(
        records: &ProjectRecords,
        moment: EndTime,
        places: std::ops::Range<u32>,
    ) -> Vec<(u32, SubJobId)> {
        let due = records.ended_before(moment, places);
        due.filter_map(|at| records.get(at).map(|record| (at, record.id))).collect()
    }

    /// How often a project has been renumbered.
    pub(super) fn renumbered(&self) -> u64 {
        self.renumbered
    }

    #[cfg(test)]
    pub(super) fn use_up_places(&mut self, project: ProjectNumber) {
        self.projects[project.0].use_up_places();
    }

    /// Asserts that all that is derived from the records is theirs.
    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        let (mut with_details, mut of_jobs) = (0, std::collections::BTreeMap::<_, Vec<_>>::new());
        for (number, records) in self.projects.iter_from(0) {
            records.assert_sound(&self.hasher);
            for (at, record) in records.iter_from(0) {
                with_details += usize::from(record.details > 0 && self.details.len() > 0);
                of_jobs.entry(record.job).or_default().push((number, at));
            }
        }
        for (number, members) in self.members.iter_from(0) {
            let expected = of_jobs.remove(&JobNumber(number)).unwrap_or_default();
            let project = expected.first().map_or(0, |(project, _)| *project);
            let places = members.places(|at| self.projects[project].key(at));
            assert!(places.into_iter().map(|at| (project, at)).eq(expected), "job {number}");
        }
        assert_eq!(with_details, self.details.len());
    }
}

/// Details in memory, by numbers from 1 on.
#[derive(Debug, Default)]
struct Slab {
    items: Segments<Option<Box<Details>>>,
    vacant: Segments<u32>,
}

impl Slab {
    fn insert(&mut self, details: Box<Details>) -> u64 {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.items.push(None);
            self.items.len() as u32 - 1
        });
        self.items[number] = Some(details);
        u64::from(number) + 1
    }

    fn get(&self, number: u64) -> Option<&Details> {
        self.items.get(u32::try_from(number.checked_sub(1)?).ok()?)?.as_deref()
    }

    /// Does nothing for a location in a file.
    fn remove(&mut self, number: u64) {
        let Some(at) = number.checked_sub(1).filter(|at| *at < self.items.len() as u64) else { return };
        if self.items[at as u32].take().is_some() {
            self.vacant.push(at as u32);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.items.len() - self.vacant.len()
    }
}
