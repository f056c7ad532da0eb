//! What is read of subtasks beside their numbers: one, a page of a project or of a job, all counters.

use super::block::Record;
use super::counter_table::{CounterTable, ProjectNumber};
use super::counters::KeySet;
use super::records::Records;
use super::{Cursor, MemoryStore};
use crate::domain::{CountFilter, JobId, JobType, ProjectId, Status, SubJob, SubJobId};
use crate::store::StoreError;
use crate::store::ended::Ended;

/// A subtask, and where its details are if they are not in memory.
#[derive(Debug)]
pub(in crate::store) struct Found {
    pub(in crate::store) sub_job: SubJob,
    pub(in crate::store) ended: Ended,
    pub(in crate::store) details: u64,
}

/// Some subtasks of all that match, with how many these are and the project's revision.
#[derive(Debug)]
pub(in crate::store) struct FoundPage {
    pub(in crate::store) total: u64,
    pub(in crate::store) revision: u64,
    pub(in crate::store) items: Vec<Found>,
}

impl MemoryStore {
    /// One subtask.
    pub(in crate::store) fn find(&self, project: &ProjectId, id: &SubJobId) -> Result<Option<Found>, StoreError> {
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let Some(number) = counters.project(project) else { return Ok(None) };
        let place = records.find(number, id, None);
        Ok(place.and_then(|place| found(&records, &counters, number, place)))
    }

    /// The subtasks that match, in the order of their first reports, but for the first `skip`, at most `limit`.
    pub(in crate::store) fn page(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        skip: u64,
        limit: usize,
    ) -> Result<FoundPage, StoreError> {
        let keys = KeySet::of(filter);
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let (total, revision) = (counters.count(project, filter), counters.revision(project));
        let page = counters.project(project).filter(|_| skip < total).map(|number| {
            let places = match &filter.job_id {
                None => records.project(number).map_or_else(Vec::new, |of| of.page(&keys, skip, limit)),
                Some(job) => match counters.find_job(number, job) {
                    Some(job) => records.page_of_job(number, job, &keys, skip, limit),
                    None => Vec::new(),
                },
            };
            places.into_iter().filter_map(|at| found(&records, &counters, number, at)).collect()
        });
        Ok(FoundPage { total, revision, items: page.unwrap_or_default() })
    }

    /// The counters of a project, or of one of its jobs, that are not zero, by type and status; and the project's revision.
    #[expect(clippy::type_complexity, reason = "the three parts of a counter")]
    pub(in crate::store) fn summary(
        &self,
        project: &ProjectId,
        job: Option<&JobId>,
    ) -> Result<(u64, Vec<(JobType, Status, u64)>), StoreError> {
        let counters = self.read_counters()?;
        let mut summary = counters.summary(project, job);
        summary.sort_unstable();
        let of = summary.into_iter().map(|(key, count)| (key.job_type(), key.status(), count.into()));
        Ok((counters.revision(project), of.collect()))
    }

    /// Every project, with its number for a [`MemoryStore::slice`].
    pub(in crate::store) fn projects(&self) -> Result<Vec<(ProjectId, u32)>, StoreError> {
        Ok(self.read_counters()?.projects().map(|(id, number)| (id.clone(), number.0)).collect())
    }

    /// At most `most` subtasks of one project from `from` on, in their order, for a snapshot; none of a project that has only its
    /// revision left. And where to go on, at the beginning when that was the end; and how often places have been given anew: slices between which that was done miss subtasks.
    pub(in crate::store) fn slice(&self, from: u64, most: u32) -> Result<(Option<Slice>, u64, u64), StoreError> {
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let (from, mut slice) = (Cursor { project: (from >> 32) as u32, place: from as u32 }, None);
        let next = records.walk(from, most, |number, of, places| {
            let (project, revision) = counters.project_at(number.0)?;
            let items: Vec<_> = of
                .iter_from(places.start)
                .take_while(|(at, _)| *at < places.end)
                .map(|(_, record)| Found::of(&records, &counters, record))
                .collect();
            // A project that is being added has no revision yet; a report that is logged after the snapshot's cut adds it.
            if items.is_empty() && (of.live() > 0 || revision == 0) {
                return None;
            }
            slice = Some(Slice { project: project.clone(), revision, items });
            // One project at a time.
            Some(places.end)
        });
        let next = next.map_or(0, |next| u64::from(next.project) << 32 | u64::from(next.place));
        Ok((slice, next, records.renumbered()))
    }

    /// Says of subtasks whose details are where `old` says that they are in other places now.
    pub(in crate::store) fn move_details(
        &self,
        project: &ProjectId,
        moved: &[(SubJobId, u64)],
        is_old: impl Fn(u64) -> bool,
    ) -> Result<(), StoreError> {
        let mut records = self.write_records()?;
        let Some(number) = self.read_counters()?.project(project) else { return Ok(()) };
        for (id, details) in moved {
            if let Some(place) = records.find(number, id, None)
                && records.get(number, place).is_some_and(|record| is_old(record.details))
            {
                records.set_details(number, place, *details);
            }
        }
        Ok(())
    }
}

/// Subtasks of one project.
#[derive(Debug)]
pub(in crate::store) struct Slice {
    pub(in crate::store) project: ProjectId,
    pub(in crate::store) revision: u64,
    pub(in crate::store) items: Vec<Found>,
}

impl Found {
    fn of(records: &Records, counters: &CounterTable, record: Record) -> Self {
        let Record { id, version, job, key, ended, details } = record;
        let sub_job = SubJob {
            id,
            job_id: counters.job_id(job).clone(),
            job_type: key.job_type(),
            status: key.status(),
            version,
            details: records.details(details).map(|details| Box::new(details.clone())),
        };
        Self { sub_job, ended, details }
    }
}

fn found(records: &Records, counters: &CounterTable, project: ProjectNumber, at: u32) -> Option<Found> {
    Some(Found::of(records, counters, records.get(project, at)?))
}
