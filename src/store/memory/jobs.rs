//! What is read of jobs: one with its subtasks, and a page of a project's image jobs.

use super::counter_table::CounterTable;
use super::counters::{CounterKey, KeySet};
use super::deltas::{Delta, JobNumber, ProjectNumber};
use super::image_jobs::{ImageJob, is_image};
use super::locks::MemoryStore;
use super::read::{Row, row};
use super::records::Records;
use crate::domain::{CountFilter, JobFilter, JobId, JobType, JobTypeSet, ProjectId, Status, StatusCounts, TimeRange};
use crate::store::StoreError;

/// A job's subtasks.
#[derive(Debug)]
pub(in crate::store) struct JobRows {
    pub(in crate::store) counts: StatusCounts,
    /// The first ones; after them, if it comes later, the first one that has failed.
    pub(in crate::store) rows: Vec<Row>,
    /// Whether the last row is that one.
    pub(in crate::store) has_failed_later: bool,
}

/// A job of image subtasks, without them.
#[derive(Debug)]
pub(in crate::store) struct ImageJobRow {
    pub(in crate::store) id: JobId,
    pub(in crate::store) job_type: JobType,
    pub(in crate::store) counts: StatusCounts,
    /// From those details that are in memory.
    pub(in crate::store) times: TimeRange,
    /// Where the other details are.
    pub(in crate::store) details: Vec<u64>,
}

/// Some image jobs of all that match, and how many these are.
#[derive(Debug)]
pub(in crate::store) struct ImageJobPage {
    pub(in crate::store) total: u64,
    pub(in crate::store) jobs: Vec<ImageJobRow>,
}

impl MemoryStore {
    /// A job's subtasks of some types, at most `limit` of them; none if it has none.
    pub(in crate::store) fn job(
        &self,
        project: &ProjectId,
        id: &JobId,
        job_types: JobTypeSet,
        limit: usize,
    ) -> Result<Option<JobRows>, StoreError> {
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let number = counters.project(project).and_then(|project| Some((project, counters.find_job(project, id)?)));
        let Some((project, job)) = number else { return Ok(None) };
        let counts = status_counts(&counters, job, job_types);
        if counts.total() == 0 {
            return Ok(None);
        }
        let first = |status, limit| {
            let keys = KeySet::of(&CountFilter { status, job_types, job_id: None });
            records.page_of_job(project, job, &keys, 0, limit)
        };
        let mut places = first(None, limit);
        let is_failed = |status: &Status| status.has_failed() && counts.of(*status) > 0;
        let failed = Status::ALL.into_iter().filter(is_failed).flat_map(|status| first(Some(status), 1)).min();
        let later = failed.filter(|place| places.last().is_some_and(|last| place > last));
        places.extend(later);
        let rows = places.into_iter().filter_map(|at| row(&records, &counters, project, at)).collect();
        Ok(Some(JobRows { counts, rows, has_failed_later: later.is_some() }))
    }

    /// The jobs of image subtasks whose own type and status match, in the order of their first image subtasks, but for the first
    /// `skip`, at most `limit`. Those of more than `most_timed` subtasks have no times.
    pub(in crate::store) fn image_jobs(
        &self,
        project: &ProjectId,
        filter: JobFilter,
        skip: u64,
        limit: usize,
        most_timed: u64,
    ) -> Result<ImageJobPage, StoreError> {
        let status = filter.status.map(|status| status.as_status());
        let keys = KeySet::of(&CountFilter { status, job_types: filter.job_types, job_id: None });
        let (records, counters) = (self.read_records()?, self.read_counters()?);
        let of_project = counters.project(project).and_then(|number| Some((number, records.project(number)?)));
        let Some((project, of)) = of_project else { return Ok(ImageJobPage { total: 0, jobs: Vec::new() }) };
        let (total, found) = records.image_jobs.page(project, of, &keys, skip, limit);
        let images = image_keys();
        let jobs = found.into_iter().map(|(number, ImageJob { key, .. })| {
            let counts = status_counts(&counters, number, JobTypeSet::IMAGE);
            let (mut times, mut elsewhere) = (TimeRange::default(), Vec::new());
            let is_timed = counts.total() <= most_timed;
            let places = records.page_of_job(project, number, &images, 0, if is_timed { usize::MAX } else { 0 });
            for details in places.into_iter().filter_map(|at| Some(of.get(at)?.details)).filter(|at| *at > 0) {
                match records.details(details) {
                    Some(details) => times.include(details),
                    None => elsewhere.push(details),
                }
            }
            ImageJobRow {
                id: counters.job_id(number).clone(),
                job_type: key.job_type(),
                counts,
                times,
                details: elsewhere,
            }
        });
        Ok(ImageJobPage { total, jobs: jobs.collect() })
    }

    /// Brings the image jobs up to date after changes of some jobs have been applied.
    pub(super) fn refresh_image_jobs(
        &self,
        records: &mut Records,
        project: ProjectNumber,
        changed: &[JobNumber],
    ) -> Result<(), StoreError> {
        if changed.is_empty() {
            return Ok(());
        }
        let (counters, keys) = (self.read_counters()?, image_keys());
        for &number in changed {
            let counts = status_counts(&counters, number, JobTypeSet::IMAGE);
            let first = records.page_of_job(project, number, &keys, 0, 1).first().copied();
            let job = first.and_then(|place| {
                let job_type = records.project(project)?.key(place).job_type();
                Some(ImageJob { place, key: CounterKey::new(job_type, counts.job_status().as_status()) })
            });
            records.image_jobs.set(project, number, job);
        }
        Ok(())
    }
}

/// The jobs whose image subtasks have changed, each once.
pub(super) fn changed_image_jobs(deltas: &[Delta]) -> Vec<JobNumber> {
    let mut changed: Vec<_> = deltas.iter().filter(|delta| is_image(delta.key)).map(|delta| delta.job).collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}

fn image_keys() -> KeySet {
    KeySet::of(&CountFilter { job_types: JobTypeSet::IMAGE, ..CountFilter::default() })
}

/// How many subtasks of those types a job has in each status.
fn status_counts(counters: &CounterTable, job: JobNumber, job_types: JobTypeSet) -> StatusCounts {
    let mut counts = StatusCounts::default();
    for (key, count) in counters.of_job(job) {
        if job_types.contains(key.job_type().index()) {
            counts.add(key.status(), count.into());
        }
    }
    counts
}
