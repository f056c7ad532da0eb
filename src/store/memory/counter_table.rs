//! What counts read: the counters of each project and each job, and the changes of the report that is being folded in.

use super::counters::{CounterKey, DenseCounters, JobCounters, ProjectCounters};
use super::index::Index;
use super::segments::Segments;
use super::verifier::{Phase, Verifier};
use crate::domain::{CountFilter, JobId, JobType, ProjectId, Status, StatusSet};

/// A project's place among the projects of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProjectNumber(pub(super) u32);

/// A job's place among the jobs of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobNumber(pub(super) u32);

#[derive(Debug)]
struct Project {
    id: ProjectId,
    counters: ProjectCounters,
    /// Grows with each change of the project's subtasks. A project without a subtask stays in the table for its sake.
    revision: u64,
    /// How many jobs it has.
    jobs: u32,
}

#[derive(Debug)]
struct Job {
    id: JobId,
    counters: JobCounters,
    project: ProjectNumber,
}

/// By how much a report changes one counter of one job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta {
    pub(super) job: JobNumber,
    pub(super) key: CounterKey,
    pub(super) change: i32,
}

/// What a report changes, summed up: of its project by key, and of the project's jobs by job and key.
#[derive(Debug)]
pub(super) struct CounterChanges {
    project: ProjectNumber,
    of_project: Vec<(CounterKey, i32)>,
    of_jobs: Vec<Delta>,
}

impl CounterChanges {
    /// Sums up changes of jobs of one project; each job and key is left at most once, in the order of the jobs.
    pub(super) fn sum(project: ProjectNumber, mut of_jobs: Vec<Delta>) -> Self {
        let mut of_project: Vec<(CounterKey, i32)> = Vec::new();
        for delta in &of_jobs {
            match of_project.iter_mut().find(|(key, _)| *key == delta.key) {
                Some((_, change)) => *change += delta.change,
                None => of_project.push((delta.key, delta.change)),
            }
        }
        of_jobs.sort_unstable_by_key(|delta| (delta.job, delta.key));
        of_jobs.dedup_by(|next, kept| {
            let same = (next.job, next.key) == (kept.job, kept.key);
            if same {
                kept.change += next.change;
            }
            same
        });
        of_jobs.retain(|delta| delta.change != 0);
        Self { project, of_project, of_jobs }
    }

    pub(super) fn project(&self) -> ProjectNumber {
        self.project
    }

    pub(super) fn of_project(&self) -> &[(CounterKey, i32)] {
        &self.of_project
    }

    /// At most one of each job and key, in the order of the jobs; none is zero.
    pub(super) fn of_jobs(&self) -> &[Delta] {
        &self.of_jobs
    }
}

/// The counters of all projects and jobs. What they say is always the effect of whole reports.
#[derive(Debug)]
pub(super) struct CounterTable {
    totals: DenseCounters,
    project_numbers: Index,
    projects: Segments<Project>,
    job_numbers: Index,
    jobs: Segments<Job>,
    /// The numbers of jobs that no subtask has any more, to be used again.
    vacant_jobs: Segments<u32>,
    /// Changes that count already but do not stand in the counters of the jobs yet, in the order of the jobs.
    pending: Vec<Delta>,
    /// How many of `pending` do stand there by now.
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

    /// How many subtasks of `project` are in one of `statuses` and match the rest of `filter`, whatever status that names.
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

    pub(super) fn job_id(&self, job: JobNumber) -> &JobId {
        &self.jobs[job.0].id
    }

    /// The job's number; a job without one gets it, and empty counters, which no count can tell from none.
    pub(super) fn job_or_new(&mut self, project: ProjectNumber, id: &JobId) -> JobNumber {
        if let Some(known) = self.find_job(project, id) {
            return known;
        }
        let job = Job { id: id.clone(), counters: JobCounters::default(), project };
        let new = put(&mut self.jobs, &mut self.vacant_jobs, job);
        self.projects[project.0].jobs += 1;
        self.job_numbers.insert(self.job_numbers.hash((project, id)), new);
        JobNumber(new)
    }

    /// The same of a project.
    pub(super) fn project_or_new(&mut self, id: &ProjectId) -> ProjectNumber {
        if let Some(known) = self.project(id) {
            return known;
        }
        let new = self.projects.len() as u32;
        self.projects.push(Project { id: id.clone(), counters: ProjectCounters::default(), revision: 0, jobs: 0 });
        self.project_numbers.insert(self.project_numbers.hash(id), new);
        ProjectNumber(new)
    }

    /// Whether there are numbers for so many more jobs, each of a project of its own.
    pub(super) fn has_capacity(&self, more: usize) -> bool {
        self.jobs.len() + more < u32::MAX as usize && self.projects.len() + more < u32::MAX as usize
    }

    /// Forgets a job that has no subtask. Nothing may be pending. Whether it was the last job of its project, of which only the
    /// revision is left then.
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
        project.counters = ProjectCounters::default();
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

    /// Shows a verifier the counters that come next in its phase, at most as many; whether that was the last.
    pub(super) fn verify(&self, verifier: &mut Verifier, most: u32) -> bool {
        let (from, of_jobs) = (verifier.position(), verifier.phase() == Phase::Jobs);
        let end = if of_jobs { self.jobs.len() } else { self.projects.len() } as u32;
        let to = end.min(from.saturating_add(most));
        let count = (to - from) as usize;
        if of_jobs {
            self.jobs
                .iter_from(from)
                .take(count)
                .for_each(|(job, of)| verifier.visit_job(JobNumber(job), &of.counters));
        } else {
            let projects = self.projects.iter_from(from).take(count);
            projects.for_each(|(project, of)| verifier.visit_project(ProjectNumber(project), &of.counters));
        }
        verifier.move_to(to);
        to == end
    }

    /// Of all projects.
    pub(super) fn totals(&self) -> &DenseCounters {
        &self.totals
    }

    /// Makes the changes of a report count, all at once, in a time that does not depend on the report's size. From then
    /// on [`CounterTable::fold`] must be called until it is done, before anything else is published.
    pub(super) fn publish(&mut self, changes: CounterChanges, revision: u64) {
        debug_assert!(self.pending.is_empty(), "a report is published while another is folded in");
        let (keys, project) = (self.totals.len(), &mut self.projects[changes.project.0]);
        project.revision = revision;
        for (key, change) in changes.of_project {
            self.totals.add(key, change);
            project.counters.add(key, change, keys);
        }
        self.pending = changes.of_jobs;
    }

    /// Moves at most `step` of the pending changes into the jobs' counters, which changes no count. When none is left it
    /// is done and hands out the spent list, to be freed when no lock is held.
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

/// Puts an item where there is a vacant number, or appends it. Whether there are numbers left has been looked at before.
fn put<T>(items: &mut Segments<T>, vacant: &mut Segments<u32>, item: T) -> u32 {
    if let Some(number) = vacant.pop() {
        items[number] = item;
        return number;
    }
    items.push(item);
    (items.len() - 1) as u32
}
