//! The status of a job, derived from the statuses of its subtasks.

use std::{fmt, str::FromStr};

use super::Status;

/// A job's status: the four of the published API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// No job is in it: one whose subtasks all wait is running, since callers wait for the end of RUNNING only.
    Waiting,
    /// A subtask has not ended.
    Running,
    /// Every subtask has succeeded.
    Success,
    /// Every subtask has ended, and one has not succeeded.
    Failed,
}

/// The text is none of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of WAITING, RUNNING, SUCCESS, FAILED")]
pub struct UnknownJobStatus;

impl JobStatus {
    /// Every status, in the published order.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Running, Self::Success, Self::Failed];

    /// The published name.
    pub const fn as_str(self) -> &'static str {
        self.as_status().as_str()
    }

    /// The status of subtasks that has the same name.
    pub const fn as_status(self) -> Status {
        match self {
            Self::Waiting => Status::Waiting,
            Self::Running => Status::Running,
            Self::Success => Status::Success,
            Self::Failed => Status::Failed,
        }
    }
}

impl FromStr for JobStatus {
    type Err = UnknownJobStatus;

    fn from_str(text: &str) -> Result<Self, UnknownJobStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownJobStatus)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many subtasks of a job are in each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusCounts([u64; Status::COUNT]);

impl StatusCounts {
    /// Adds subtasks in a status.
    pub fn add(&mut self, status: Status, count: u64) {
        self.0[status as usize] += count;
    }

    /// How many are in that status.
    pub fn of(&self, status: Status) -> u64 {
        self.0[status as usize]
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The status of a job that has these subtasks.
    pub fn job_status(&self) -> JobStatus {
        let has_running = Status::ALL.into_iter().any(|status| !status.has_ended() && self.of(status) > 0);
        if has_running {
            JobStatus::Running
        } else if self.of(Status::Success) == self.total() {
            JobStatus::Success
        } else {
            JobStatus::Failed
        }
    }

    /// Whether none has begun.
    pub fn all_wait(&self) -> bool {
        self.of(Status::Waiting) == self.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_status_names_are_exact() {
        for status in JobStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        for text in ["", "running", "RUNNING ", "ABNORMAL", "ROLLBACK", "ABORTING"] {
            assert_eq!(text.parse::<JobStatus>(), Err(UnknownJobStatus), "{text:?}");
        }
    }

    /// Compares every set of statuses of subtasks with the rule of the contract.
    #[test]
    fn the_status_of_a_job_follows_its_subtasks() {
        for set in 1..1 << Status::COUNT {
            let present: Vec<_> = Status::ALL.into_iter().filter(|status| set >> *status as usize & 1 == 1).collect();
            for count in [1, 2, u64::from(u32::MAX)] {
                let mut counts = StatusCounts::default();
                present.iter().for_each(|status| counts.add(*status, count));
                let runs = |status: &Status| {
                    matches!(status, Status::Waiting | Status::Running | Status::Rollback | Status::Aborting)
                };
                let expected = match () {
                    () if present.iter().any(runs) => JobStatus::Running,
                    () if present == [Status::Success] => JobStatus::Success,
                    () => JobStatus::Failed,
                };
                assert_eq!(counts.job_status(), expected, "{present:?}");
                assert_eq!(counts.all_wait(), present == [Status::Waiting], "{present:?}");
                assert_eq!(counts.total(), count * present.len() as u64);
            }
        }
    }
}
