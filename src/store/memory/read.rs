//! Reads: one subtask, a page of a project or a job, a summary, a slice for a snapshot.

use super::block::Record;
use super::counter_table::CounterTable;
use super::counters::KeySet;
use super::deltas::ProjectNumber;
use super::locks::MemoryStore;
use super::records::{Cursor, Records};
use crate::domain::{CountFilter, JobId, JobType, ProjectId, Status, SubJob, SubJobId};
use crate::store::end_time::EndTime;
use crate::store::types::StoreError;

/// A stored subtask.
#[derive(Debug)]
pub(in crate::store) struct Row {
    pub(in crate::store) sub_job: SubJob,
    pub(in crate::store) end_time: Option<EndTime>,
    /// The location of the details if they are not in memory; 0 if there are none.
    pub(in crate::store) details: u64,
}

/// Some of the subtasks that match a filter.
#[derive(Debug)]
pub(in crate::store) struct RowPage {
    /// How many match in all.
    pub(in crate::store) total: u64,
    /// The project's revision.
    pub(in crate::store) revision: u64,
    pub(in crate::store) items: Vec<Row>,
}

impl MemoryStore {
    /// One subtask.
    pub(in crate::store) fn find(&self, project: &ProjectId, id: &SubJobId) -> Result<Option<Row>, StoreError> {
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let Some(number) = counters.project(project) else { return Ok(None) };
        let place = records.find(number, id, None);
        Ok(place.and_then(|place| row(&records, &counters, number, place)))
    }

    /// The subtasks that match, in the order of their first reports, from the one at `offset` on, at most `limit`.
    pub(in crate::store) fn page(
        &self,
        project: &ProjectId,
        filter: &CountFilter,
        offset: u64,
        limit: usize,
    ) -> Result<RowPage, StoreError> {
        let keys = KeySet::of(filter);
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let (total, revision) = (counters.count(project, filter), counters.revision(project));
        let page = counters.project(project).filter(|_| offset < total).map(|number| {
            let places = match &filter.job_id {
                None => records.project(number).map_or_else(Vec::new, |of| of.page(&keys, offset, limit)),
                Some(job) => match counters.find_job(number, job) {
                    Some(job) => records.page_of_job(number, job, &keys, offset, limit),
                    None => Vec::new(),
                },
            };
            places.into_iter().filter_map(|at| row(&records, &counters, number, at)).collect()
        });
        Ok(RowPage { total, revision, items: page.unwrap_or_default() })
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

    /// Every project, with its number: the upper half of where its slices begin.
    pub(in crate::store) fn projects(&self) -> Result<Vec<(ProjectId, u32)>, StoreError> {
        Ok(self.read_counters()?.projects().map(|(id, number)| (id.clone(), number.0)).collect())
    }

    /// At most `most` subtasks of one project from `from` on, in their order; none of a project of which only the revision is left.
    /// Also returns where to continue, 0 after the last one, and how often the places of a project have been renumbered: slices
    /// between which that has happened may miss subtasks.
    pub(in crate::store) fn slice(&self, from: u64, most: u32) -> Result<(Option<Slice>, u64, u64), StoreError> {
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let mut slice = None;
        let next = records.walk(Cursor::from_u64(from), most, |number, of, places| {
            let (project, revision) = counters.project_at(number.0)?;
            let items: Vec<_> = of
                .iter_from(places.start)
                .take_while(|(at, _)| *at < places.end)
                .map(|(_, record)| Row::of(&records, &counters, record))
                .collect();
            // A project that is being added has no revision yet; a report that is logged after the snapshot's cut adds it.
            if items.is_empty() && (of.live() > 0 || revision == 0) {
                return None;
            }
            slice = Some(Slice { project: project.clone(), revision, items });
            // One project at a time.
            Some(places.end)
        });
        Ok((slice, next.map_or(0, Cursor::to_u64), records.renumbered()))
    }

    /// Changes the locations of details, of those subtasks whose details are at a location for which `is_old` holds.
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
    pub(in crate::store) items: Vec<Row>,
}

impl Row {
    fn of(records: &Records, counters: &CounterTable, record: Record) -> Self {
        let Record { id, version, job, key, end_time, details } = record;
        let sub_job = SubJob {
            id,
            job_id: counters.job_id(job).clone(),
            job_type: key.job_type(),
            status: key.status(),
            version,
            details: records.details(details).map(|details| Box::new(details.clone())),
        };
        Self { sub_job, end_time, details }
    }
}

pub(super) fn row(records: &Records, counters: &CounterTable, project: ProjectNumber, at: u32) -> Option<Row> {
    Some(Row::of(records, counters, records.get(project, at)?))
}
