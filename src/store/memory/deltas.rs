//! What a report changes of the counters of a project and its jobs.

use super::counters::CounterKey;

/// A project's index in the table of projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProjectNumber(pub(super) u32);

/// A job's index in the table of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobNumber(pub(super) u32);

/// The change of one counter of one job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta {
    pub(super) job: JobNumber,
    pub(super) key: CounterKey,
    pub(super) change: i32,
}

/// The changes of a report, summed up: of its project by key, and of the project's jobs by job and key.
#[derive(Debug)]
pub(super) struct CounterChanges {
    pub(super) project: ProjectNumber,
    pub(super) of_project: Vec<(CounterKey, i32)>,
    /// At most one of each job and key, in the order of the jobs; none is zero.
    pub(super) of_jobs: Vec<Delta>,
}

impl CounterChanges {
    /// Sums up changes of jobs of one project.
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
}
