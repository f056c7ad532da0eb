//! What counts read: a tally of each project and each job, and the changes of the report that is being folded in.

use hashbrown::HashMap;

use super::StoreError;
use super::index::Index;
use super::records::JobNumber;
use super::segments::Segments;
use super::tally::{Cell, Dense, Sparse};
use crate::domain::{CountFilter, JobId, JobType, ProjectId, Status};

/// A project's place among the projects of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProjectNumber(u32);

#[derive(Debug)]
struct Job {
    id: JobId,
    tally: Sparse,
    project: ProjectNumber,
}

/// By how much a report changes the count of one cell of one job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta {
    pub(super) job: JobNumber,
    pub(super) cell: Cell,
    pub(super) change: i32,
}

/// What a report changes, summed up: of its project by cell, and of the project's jobs by job and cell.
#[derive(Debug)]
pub(super) struct Changes {
    project: ProjectNumber,
    of_project: Vec<(Cell, i32)>,
    of_jobs: Vec<Delta>,
}

impl Changes {
    /// Sums up changes of jobs of one project; each job and cell is left at most once, in the order of the jobs.
    pub(super) fn sum(project: ProjectNumber, mut of_jobs: Vec<Delta>) -> Self {
        let mut of_project = HashMap::new();
        for delta in &of_jobs {
            *of_project.entry(delta.cell).or_default() += delta.change;
        }
        of_jobs.sort_unstable_by_key(|delta| (delta.job, delta.cell));
        of_jobs.dedup_by(|next, kept| {
            let same = (next.job, next.cell) == (kept.job, kept.cell);
            if same {
                kept.change += next.change;
            }
            same
        });
        of_jobs.retain(|delta| delta.change != 0);
        Self { project, of_project: of_project.into_iter().collect(), of_jobs }
    }
}

/// The tallies of all projects and jobs. What they say is always the effect of whole reports.
#[derive(Debug)]
pub(super) struct Tallies {
    totals: Dense,
    project_numbers: HashMap<ProjectId, ProjectNumber>,
    projects: Segments<Dense>,
    job_numbers: Index,
    jobs: Segments<Job>,
    /// Changes that count already but do not stand in the tallies of the jobs yet, in the order of the jobs.
    pending: Vec<Delta>,
    /// How many of `pending` do stand there by now.
    folded: usize,
}

impl Tallies {
    pub(super) fn new(job_types: usize) -> Self {
        Self {
            totals: Dense::new(job_types),
            project_numbers: HashMap::new(),
            projects: Segments::default(),
            job_numbers: Index::default(),
            jobs: Segments::default(),
            pending: Vec::new(),
            folded: 0,
        }
    }

    pub(super) fn count(&self, project: &ProjectId, filter: &CountFilter) -> u64 {
        let Some(&project) = self.project_numbers.get(project) else { return 0 };
        let Some(job_id) = &filter.job_id else { return self.projects[project.0].sum(filter) };
        let Some(job) = self.find_job(project, job_id) else { return 0 };
        let pending = &self.pending[self.folded..];
        let first = pending.partition_point(|delta| delta.job < job);
        let pending = pending[first..].iter().take_while(|delta| delta.job == job);
        let pending: i64 =
            pending.filter(|delta| delta.cell.matches(filter)).map(|delta| i64::from(delta.change)).sum();
        self.jobs[job.0].tally.sum(filter).wrapping_add_signed(pending)
    }

    pub(super) fn total(&self, job_type: JobType, status: Status) -> u64 {
        self.totals.get(Cell::new(job_type, status))
    }

    /// The job's number, if it has one.
    pub(super) fn job(&self, project: &ProjectId, id: &JobId) -> Option<JobNumber> {
        self.find_job(*self.project_numbers.get(project)?, id)
    }

    fn find_job(&self, project: ProjectNumber, id: &JobId) -> Option<JobNumber> {
        let is_it = |number| self.jobs[number].id == *id && self.jobs[number].project == project;
        self.job_numbers.find((project, id), is_it).map(JobNumber)
    }

    /// The job's number; a job without one gets it, and an empty tally.
    pub(super) fn job_or_new(&mut self, project: &ProjectId, id: &JobId) -> Result<JobNumber, StoreError> {
        let number = |len: usize| u32::try_from(len).map_err(|_| StoreError::Full);
        let project = match self.project_numbers.get(project) {
            Some(&known) => known,
            None => {
                let new = ProjectNumber(number(self.projects.len())?);
                self.projects.push(self.totals.empty_like());
                self.project_numbers.insert(project.clone(), new);
                new
            }
        };
        if let Some(known) = self.find_job(project, id) {
            return Ok(known);
        }
        let new = number(self.jobs.len())?;
        self.jobs.push(Job { id: id.clone(), tally: Sparse::default(), project });
        let jobs = &self.jobs;
        self.job_numbers.insert((project, id), new, |other| (jobs[other].project, &jobs[other].id));
        Ok(JobNumber(new))
    }

    /// The projects of the jobs from number `first` on.
    pub(super) fn owners_from(&self, first: usize) -> impl Iterator<Item = ProjectNumber> {
        self.jobs.iter_from(first).map(|job| job.project)
    }

    /// Makes the changes of a report count, all at once, in a time that does not depend on the report's size. From then
    /// on [`Tallies::fold`] must be called until it is done, before anything else is published.
    pub(super) fn publish(&mut self, changes: Changes) {
        debug_assert!(self.pending.is_empty(), "a report is published while another is folded in");
        for (cell, change) in changes.of_project {
            self.totals.add(cell, change);
            self.projects[changes.project.0].add(cell, change);
        }
        self.pending = changes.of_jobs;
    }

    /// Moves at most `step` of the pending changes into the jobs' tallies, which changes no count. When none is left it
    /// is done and hands out the spent list, to be freed when no lock is held.
    pub(super) fn fold(&mut self, step: usize) -> Option<Vec<Delta>> {
        let end = self.pending.len().min(self.folded + step);
        for delta in &self.pending[self.folded..end] {
            self.jobs[delta.job.0].tally.add(delta.cell, delta.change);
        }
        self.folded = end;
        if end < self.pending.len() {
            return None;
        }
        self.folded = 0;
        Some(std::mem::take(&mut self.pending))
    }
}
