//! Which subtasks of a project a count is about.

use super::{JobId, JobStatus, JobTypeSet, Status};

/// The largest count that is answered, the published maximum of `count`; a larger one is answered as this.
pub const MAX_COUNT: u64 = i32::MAX as u64;

/// The filter of a count: a subtask matches if it matches every part that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountFilter {
    /// Only subtasks in this status.
    pub status: Option<Status>,
    /// Only subtasks of these types.
    pub job_types: JobTypeSet,
    /// Only subtasks of this job.
    pub job_id: Option<JobId>,
}

impl Default for CountFilter {
    /// Matches every subtask.
    fn default() -> Self {
        Self { status: None, job_types: JobTypeSet::ALL, job_id: None }
    }
}

/// The filter of a list of jobs: a job matches if it matches every part that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobFilter {
    /// Only jobs in this status.
    pub status: Option<JobStatus>,
    /// Only jobs whose first subtasks are of these types.
    pub job_types: JobTypeSet,
}
