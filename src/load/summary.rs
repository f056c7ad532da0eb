//! The numbers of subtasks, jobs and projects in a load file, as `check` prints them.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use super::LoadError;
use super::source::Source;
use crate::domain::JobTypes;
use crate::output::counted;

/// The numbers of records, subtasks, jobs and projects in a load file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records. Several may be about one subtask.
    pub records: u64,
    /// Subtasks.
    pub sub_jobs: usize,
    /// Projects.
    pub projects: usize,
    /// Jobs; equal ids in two projects are two jobs.
    pub jobs: usize,
}

/// Checks a load file and counts what it has. Ids are stored as hashes of 8 bytes.
///
/// # Errors
///
/// The file cannot be read, or a line breaks a rule.
pub fn summarize(path: &Path, job_types: &JobTypes) -> Result<Summary, LoadError> {
    let (mut records, state) = (0, RandomState::new());
    let [mut sub_jobs, mut projects, mut jobs] = [(); 3].map(|()| HashSet::new());
    Source::read_once(path).for_each_record(job_types, |project, sub_job, _| {
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
