//! What counts read: a tally of each project and each job, and the changes of the report that is being folded in.

use hashbrown::HashMap;

use super::index::Index;
use super::records::JobNumber;
use super::recount::{Phase, Recount};
use super::segments::Segments;
use super::tally::{Cell, Dense, Sparse};
use crate::domain::{CountFilter, JobId, JobType, ProjectId, Status};
use crate::store::StoreError;

/// A project's place among the projects of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProjectNumber(pub(super) u32);

#[derive(Debug)]
struct Project {
    id: ProjectId,
    tally: Dense,
    /// How many jobs it has.
    jobs: u32,
}

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

    pub(super) fn project(&self) -> ProjectNumber {
        self.project
    }

    pub(super) fn of_project(&self) -> &[(Cell, i32)] {
        &self.of_project
    }

    /// At most one of each job and cell, in the order of the jobs; none is zero.
    pub(super) fn of_jobs(&self) -> &[Delta] {
        &self.of_jobs
    }
}

/// The tallies of all projects and jobs. What they say is always the effect of whole reports.
#[derive(Debug)]
pub(super) struct Tallies {
    totals: Dense,
    project_numbers: HashMap<ProjectId, ProjectNumber>,
    projects: Segments<Project>,
    vacant_projects: Segments<u32>,
    job_numbers: Index,
    jobs: Segments<Job>,
    /// The numbers of jobs that no subtask has any more, to be used again; the same for projects above.
    vacant_jobs: Segments<u32>,
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
            vacant_projects: Segments::default(),
            job_numbers: Index::default(),
            jobs: Segments::default(),
            vacant_jobs: Segments::default(),
            pending: Vec::new(),
            folded: 0,
        }
    }

    pub(super) fn count(&self, project: &ProjectId, filter: &CountFilter) -> u64 {
        let Some(&project) = self.project_numbers.get(project) else { return 0 };
        let Some(job_id) = &filter.job_id else { return self.projects[project.0].tally.sum(filter) };
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

    /// The job's number; a job without one gets it, and an empty tally, which no count can tell from none.
    pub(super) fn job_or_new(&mut self, project: &ProjectId, id: &JobId) -> Result<JobNumber, StoreError> {
        let project = self.project_or_new(project)?;
        if let Some(known) = self.find_job(project, id) {
            return Ok(known);
        }
        let job = Job { id: id.clone(), tally: Sparse::default(), project };
        let new = put(&mut self.jobs, &mut self.vacant_jobs, job)?;
        self.projects[project.0].jobs += 1;
        let jobs = &self.jobs;
        self.job_numbers.insert((project, id), new, |other| (jobs[other].project, &jobs[other].id));
        Ok(JobNumber(new))
    }

    fn project_or_new(&mut self, id: &ProjectId) -> Result<ProjectNumber, StoreError> {
        if let Some(&known) = self.project_numbers.get(id) {
            return Ok(known);
        }
        let project = Project { id: id.clone(), tally: self.totals.empty_like(), jobs: 0 };
        let new = ProjectNumber(put(&mut self.projects, &mut self.vacant_projects, project)?);
        self.project_numbers.insert(id.clone(), new);
        Ok(new)
    }

    /// Forgets a job that has no subtask, and its project if that has no other job. Nothing may be pending.
    pub(super) fn release(&mut self, number: JobNumber) {
        let job = &self.jobs[number.0];
        if !job.tally.is_empty() {
            return;
        }
        self.job_numbers.remove((job.project, &job.id), |other| other == number.0);
        self.vacant_jobs.push(number.0);
        let project = &mut self.projects[job.project.0];
        project.jobs -= 1;
        if project.jobs == 0 {
            self.project_numbers.remove(&project.id);
            self.vacant_projects.push(job.project.0);
        }
    }

    /// How many jobs have a subtask.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len() - self.vacant_jobs.len()
    }

    /// How many projects have a subtask.
    #[cfg(test)]
    pub(super) fn projects(&self) -> usize {
        assert_eq!(self.project_numbers.len(), self.projects.len() - self.vacant_projects.len());
        self.project_numbers.len()
    }

    /// The project of a job.
    pub(super) fn owner(&self, job: JobNumber) -> ProjectNumber {
        self.jobs[job.0].project
    }

    /// The identifiers of a job and of its project.
    pub(super) fn ids(&self, job: JobNumber) -> (&ProjectId, &JobId) {
        let job = &self.jobs[job.0];
        (&self.projects[job.project.0].id, &job.id)
    }

    /// Shows `recount` the tallies that come next in its phase, at most as many; whether that was the last.
    pub(super) fn recount(&self, recount: &mut Recount, most: u32) -> bool {
        let (from, of_jobs) = (recount.at(), recount.phase() == Phase::Jobs);
        let end = if of_jobs { self.jobs.len() } else { self.projects.len() } as u32;
        let to = end.min(from.saturating_add(most));
        let count = (to - from) as usize;
        if of_jobs {
            self.jobs.iter_from(from).take(count).for_each(|(job, of)| recount.found_job(JobNumber(job), &of.tally));
        } else {
            let projects = self.projects.iter_from(from).take(count);
            projects.for_each(|(project, of)| recount.found_project(ProjectNumber(project), &of.tally));
        }
        recount.move_to(to);
        to == end
    }

    /// Of all projects.
    pub(super) fn totals(&self) -> &Dense {
        &self.totals
    }

    /// Makes the changes of a report count, all at once, in a time that does not depend on the report's size. From then
    /// on [`Tallies::fold`] must be called until it is done, before anything else is published.
    pub(super) fn publish(&mut self, changes: Changes) {
        debug_assert!(self.pending.is_empty(), "a report is published while another is folded in");
        for (cell, change) in changes.of_project {
            self.totals.add(cell, change);
            self.projects[changes.project.0].tally.add(cell, change);
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

/// Puts an item where there is room for it.
fn put<T>(items: &mut Segments<T>, vacant: &mut Segments<u32>, item: T) -> Result<u32, StoreError> {
    if let Some(number) = vacant.pop() {
        items[number] = item;
        return Ok(number);
    }
    let number = u32::try_from(items.len()).map_err(|_| StoreError::Full)?;
    items.push(item);
    Ok(number)
}
