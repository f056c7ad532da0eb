//! The counters of all projects and jobs, and the changes of a report that are being moved into them.

use super::counters::{CounterKey, Counters, DenseCounters};
use super::deltas::{CounterChanges, Delta, JobNumber, ProjectNumber};
use super::index::Index;
use super::segments::Segments;
use crate::domain::{CountFilter, JobId, JobType, ProjectId, Status, StatusSet};

#[derive(Debug)]
struct Project {
    id: ProjectId,
    counters: Counters,
    /// Grows with each change of the project's subtasks. A project without a subtask stays in the table for its sake.
    revision: u64,
    /// How many jobs it has.
    jobs: u32,
}

#[derive(Debug)]
struct Job {
    id: JobId,
    counters: Counters,
    project: ProjectNumber,
}

/// The counters of all projects and jobs. A count includes all of a report or nothing of it.
#[derive(Debug)]
pub(super) struct CounterTable {
    totals: DenseCounters,
    project_numbers: Index,
    projects: Segments<Project>,
    job_numbers: Index,
    jobs: Segments<Job>,
    /// The numbers of jobs that no subtask has any more, to be used again.
    vacant_jobs: Segments<u32>,
    /// Changes that counts include, but that are not yet in the counters of the jobs, in the order of the jobs.
    pending: Vec<Delta>,
    /// How many of `pending` are in the counters already.
    folded: usize,
}

impl CounterTable {
    pub(super) fn new(job_types: usize) -> Self {
        Self {
            totals: DenseCounters::new(job_types),
            project_numbers: Index::default(),
            projects: Segments::default(),
            job_numbers: Index::default(),
            jobs: Segments::default(),
            vacant_jobs: Segments::default(),
            pending: Vec::new(),
            folded: 0,
        }
    }

    pub(super) fn count(&self, project: &ProjectId, filter: &CountFilter) -> u64 {
        let Some(project) = self.project(project) else { return 0 };
        let Some(job_id) = &filter.job_id else { return self.projects[project.0].counters.sum(filter) };
        let Some(job) = self.find_job(project, job_id) else { return 0 };
        let pending: i64 =
            self.pending_of(job).filter(|delta| delta.key.matches(filter)).map(|delta| i64::from(delta.change)).sum();
        self.jobs[job.0].counters.sum(filter).wrapping_add_signed(pending)
    }

    /// How many subtasks of `project` are in one of `statuses` and match `filter`. The status of `filter` is ignored.
    pub(super) fn count_in(&self, project: &ProjectId, filter: &CountFilter, statuses: StatusSet) -> u64 {
        if statuses == StatusSet::ALL {
            return self.count(project, &CountFilter { status: None, ..filter.clone() });
        }
        let in_one = |status| self.count(project, &CountFilter { status: Some(status), ..filter.clone() });
        statuses.iter().map(in_one).sum()
    }

    fn pending_of(&self, job: JobNumber) -> impl Iterator<Item = &Delta> {
        let pending = &self.pending[self.folded..];
        let first = pending.partition_point(|delta| delta.job < job);
        pending[first..].iter().take_while(move |delta| delta.job == job)
    }

    /// The counters of a project, or of one of its jobs, that are not zero.
    pub(super) fn summary(&self, project: &ProjectId, job: Option<&JobId>) -> Vec<(CounterKey, u32)> {
        let Some(project) = self.project(project) else { return Vec::new() };
        let Some(job) = job else { return self.projects[project.0].counters.iter().collect() };
        let Some(job) = self.find_job(project, job) else { return Vec::new() };
        let mut counters: Vec<_> = self.jobs[job.0].counters.iter().collect();
        for delta in self.pending_of(job) {
            match counters.iter_mut().find(|(key, _)| *key == delta.key) {
                Some((_, count)) => *count = count.wrapping_add_signed(delta.change),
                None => counters.push((delta.key, delta.change as u32)),
            }
        }
        counters.retain(|(_, count)| *count != 0);
        counters
    }

    /// The revision of the project's latest change; 0 if the project has never had a subtask.
    pub(super) fn revision(&self, project: &ProjectId) -> u64 {
        self.project(project).map_or(0, |project| self.projects[project.0].revision)
    }

    pub(super) fn total(&self, job_type: JobType, status: Status) -> u64 {
        self.totals.get(CounterKey::new(job_type, status))
    }

    /// The project's number, if it has or had a subtask.
    pub(super) fn project(&self, id: &ProjectId) -> Option<ProjectNumber> {
        let is_it = |number| self.projects[number].id == *id;
        self.project_numbers.find(self.project_numbers.hash(id), is_it).map(ProjectNumber)
    }

    /// The identifier and the revision of the project with that number.
    pub(super) fn project_at(&self, number: u32) -> Option<(&ProjectId, u64)> {
        self.projects.get(number).map(|project| (&project.id, project.revision))
    }

    /// The job's number, if it has one.
    pub(super) fn find_job(&self, project: ProjectNumber, id: &JobId) -> Option<JobNumber> {
        let is_it = |number| self.jobs[number].id == *id && self.jobs[number].project == project;
        self.job_numbers.find(self.job_numbers.hash((project, id)), is_it).map(JobNumber)
    }

    /// The counters of a job that are not zero, while no report is applied.
    pub(super) fn of_job(&self, job: JobNumber) -> impl Iterator<Item = (CounterKey, u32)> {
        debug_assert!(self.pending.is_empty(), "a report is applied");
        self.jobs[job.0].counters.iter()
    }

    pub(super) fn job_id(&self, job: JobNumber) -> &JobId {
        &self.jobs[job.0].id
    }

    /// The job's number. A new job is added with empty counters.
    pub(super) fn job_or_new(&mut self, project: ProjectNumber, id: &JobId) -> JobNumber {
        if let Some(known) = self.find_job(project, id) {
            return known;
        }
        let job = Job { id: id.clone(), counters: Counters::default(), project };
        let new = put(&mut self.jobs, &mut self.vacant_jobs, job);
        self.projects[project.0].jobs += 1;
        self.job_numbers.insert(self.job_numbers.hash((project, id)), new);
        JobNumber(new)
    }

    /// The project's number. A new project is added with empty counters.
    pub(super) fn project_or_new(&mut self, id: &ProjectId) -> ProjectNumber {
        if let Some(known) = self.project(id) {
            return known;
        }
        let new = self.projects.len() as u32;
        self.projects.push(Project { id: id.clone(), counters: Counters::default(), revision: 0, jobs: 0 });
        self.project_numbers.insert(self.project_numbers.hash(id), new);
        ProjectNumber(new)
    }

    /// Whether there are numbers for so many more jobs, each of a project of its own.
    pub(super) fn has_capacity(&self, more: usize) -> bool {
        self.jobs.len() + more < u32::MAX as usize && self.projects.len() + more < u32::MAX as usize
    }

    /// Removes a job that has no subtask; nothing may be pending. True if it was the last job of its project, of which only the
    /// revision is left.
    pub(super) fn release(&mut self, number: JobNumber) -> bool {
        let job = &self.jobs[number.0];
        if !job.counters.is_empty() {
            return false;
        }
        self.job_numbers.remove(self.job_numbers.hash((job.project, &job.id)), |other| other == number.0);
        self.vacant_jobs.push(number.0);
        let project = &mut self.projects[job.project.0];
        project.jobs -= 1;
        if project.jobs > 0 {
            return false;
        }
        project.counters = Counters::default();
        true
    }

    /// How many jobs have a subtask.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len() - self.vacant_jobs.len()
    }

    /// The projects that have or had a subtask.
    pub(super) fn projects(&self) -> impl Iterator<Item = (&ProjectId, ProjectNumber)> {
        self.projects.iter_from(0).map(|(number, project)| (&project.id, ProjectNumber(number)))
    }

    /// The counters of every job from a number on, with the job's number.
    pub(super) fn jobs_from(&self, from: u32) -> impl Iterator<Item = (u32, &Counters)> {
        self.jobs.iter_from(from).map(|(number, job)| (number, &job.counters))
    }

    /// The counters of every project from a number on, with the project's number.
    pub(super) fn projects_from(&self, from: u32) -> impl Iterator<Item = (u32, &Counters)> {
        self.projects.iter_from(from).map(|(number, project)| (number, &project.counters))
    }

    /// Of all projects.
    pub(super) fn totals(&self) -> &DenseCounters {
        &self.totals
    }

    /// Includes the changes of a report in all counts, in a time that does not depend on its size. [`CounterTable::fold`] must then be
    /// called until it is done, before another report is published.
    pub(super) fn publish(&mut self, changes: CounterChanges, revision: u64) {
        debug_assert!(self.pending.is_empty(), "a report is published while another is folded in");
        let project = &mut self.projects[changes.project.0];
        project.revision = revision;
        for (key, change) in changes.of_project {
            self.totals.add(key, change);
            project.counters.add(key, change);
        }
        self.pending = changes.of_jobs;
    }

    /// Moves at most `step` pending changes into the jobs' counters, which changes no count. After the last one it returns the list, so
    /// that the caller frees it without a lock.
    pub(super) fn fold(&mut self, step: usize) -> Option<Vec<Delta>> {
        let end = self.pending.len().min(self.folded + step);
        for delta in &self.pending[self.folded..end] {
            self.jobs[delta.job.0].counters.add(delta.key, delta.change);
        }
        self.folded = end;
        if end < self.pending.len() {
            return None;
        }
        self.folded = 0;
        Some(std::mem::take(&mut self.pending))
    }
}

/// Stores an item at a vacant number, or appends it. The plan has checked the capacity.
fn put<T>(items: &mut Segments<T>, vacant: &mut Segments<u32>, item: T) -> u32 {
    if let Some(number) = vacant.pop() {
        items[number] = item;
        return number;
    }
    items.push(item);
    (items.len() - 1) as u32
}
