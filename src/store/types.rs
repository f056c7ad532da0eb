//! The results and errors of a store.

use std::time::Duration;

use crate::domain::{JobId, JobType, Status, StatusCounts, SubJob, TimeRange};

/// How many records of a batch had which result; the sum is the number of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Outcome {
    /// Subtasks that were not stored before.
    pub created: u64,
    /// Subtasks whose stored record was replaced.
    pub updated: u64,
    /// Records identical to what is stored, version included.
    pub unchanged: u64,
    /// Records with a lower version than what is stored; they change nothing.
    pub stale: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.stale += other.stale;
    }
}

/// Why a store cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A panic has interrupted a report, so that no count can be trusted any more.
    #[error("a panic interrupted an earlier change, so the counts cannot be trusted")]
    Broken,
    /// A recount from the records has found other numbers than the counts.
    #[error("the counters do not match the records: off by {0}")]
    Drifted(u64),
    /// There is no number left for another subtask, job or project: there are 2^32 of each.
    #[error("the store is full")]
    Full,
    /// The disk did not take it, or is not open; nothing of it counts.
    #[error("changes cannot be stored")]
    NotStored,
    /// The database does not answer in time. A change may have been made nevertheless.
    #[error("the database does not answer")]
    Unavailable,
    /// The database refuses a statement, for a reason that is in the log.
    #[error("the database refuses a statement")]
    Refused,
    /// The details of a subtask cannot be read from the disk, or are not as they were written.
    #[error("the details of a subtask cannot be read")]
    Unreadable,
}

/// How far an [`expire`](super::Store::expire) has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// From where to go on; at the beginning, 0, when all records have been looked at.
    pub next: u64,
    /// How many subtasks have been dropped.
    pub count: u64,
}

/// Some of the subtasks that match a filter, all of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// How many match in all.
    pub total: u64,
    /// The project's revision.
    pub revision: u64,
    /// In the order of their first reports.
    pub sub_jobs: Vec<SubJob>,
}

/// The numbers of a project or of a job, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The project's revision: it grows with every change of the project's subtasks, and is never used twice. It stays when the
    /// last subtask has gone. A project that has never had a subtask has revision 0.
    pub revision: u64,
    /// The numbers that are not zero, in the order of types and statuses.
    pub counts: Vec<(JobType, Status, u64)>,
}

/// Where the subtasks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In memory only.
    Memory,
    /// In memory and in a data directory.
    DataDir,
    /// In a PostgreSQL database.
    Postgres,
}

/// The numbers of all projects together, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// How many subtasks there are of each type, by its index, in each status.
    pub counts: Vec<[u64; Status::COUNT]>,
    /// How long ago that moment is.
    pub age: Duration,
}

/// A job and its first subtasks, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// How many subtasks it has in each status; at least one in all.
    pub counts: StatusCounts,
    /// In the order of their first reports.
    pub sub_jobs: Vec<SubJob>,
    /// The first subtask that failed or ended abnormally, if it comes after those.
    pub failed_later: Option<SubJob>,
}

/// A job of image subtasks, without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageJob {
    /// Its identifier.
    pub id: JobId,
    /// The type of its first image subtask.
    pub job_type: JobType,
    /// How many image subtasks it has in each status.
    pub counts: StatusCounts,
    /// The times of all of them; none if they are more than was asked for.
    pub times: TimeRange,
}

/// Some of the image jobs that match a filter, all of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobPage {
    /// How many match in all.
    pub total: u64,
    /// In the order of the first reports of their first image subtasks.
    pub jobs: Vec<ImageJob>,
}
