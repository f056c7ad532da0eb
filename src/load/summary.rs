//! What a file of subtasks holds, in numbers.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use super::{LoadError, for_each_record};
use crate::domain::JobTypes;
use crate::output::counted;

/// How much there is of everything in a file of subtasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Lines, of which several may be of one subtask.
    pub records: u64,
    /// Subtasks.
    pub sub_jobs: usize,
    /// Projects.
    pub projects: usize,
    /// Jobs, which belong to one project each.
    pub jobs: usize,
}

/// Reads a file and says what is wrong with it, if anything, or else what it holds. Remembers names by hashes of 8 bytes.
pub fn summarize(path: &Path, job_types: &JobTypes) -> Result<Summary, LoadError> {
    let (mut records, state) = (0, RandomState::new());
    let [mut sub_jobs, mut projects, mut jobs] = [(); 3].map(|()| HashSet::new());
    for_each_record(path, job_types, |project, sub_job, _| {
        records += 1;
        projects.insert(state.hash_one(&project));
        jobs.insert(state.hash_one((&project, &sub_job.job_id)));
        sub_jobs.insert(state.hash_one((&project, &sub_job.id)));
        Ok(())
    })?;
    Ok(Summary { records, sub_jobs: sub_jobs.len(), projects: projects.len(), jobs: jobs.len() })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, sub_jobs, projects, jobs } = *self;
        let sub_jobs_text = counted(sub_jobs, "subtask");
        write!(f, "{sub_jobs_text} of {} in {}", counted(jobs, "job"), counted(projects, "project"))?;
        if records != sub_jobs as u64 {
            write!(f, ", in {records} records")?;
        }
        Ok(())
    }
}
