//! One subtask as a worker reports it.

use super::{JobId, JobType, Status, SubJobId, Timestamp};

/// Orders the reports of one subtask: 0 to 2^63-1, 0 when a worker gives none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version(u64);

/// The number is above 2^63-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be at most 9223372036854775807")]
pub struct VersionError;

impl Version {
    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Version {
    type Error = VersionError;

    fn try_from(number: u64) -> Result<Self, VersionError> {
        if number <= i64::MAX as u64 { Ok(Self(number)) } else { Err(VersionError) }
    }
}

/// A subtask: one unit of a job's work, whose status is what callers count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubJob {
    /// Unique within its project.
    pub id: SubJobId,
    /// The job it is a part of.
    pub job_id: JobId,
    /// What kind of job that is.
    pub job_type: JobType,
    /// Its status.
    pub status: Status,
    /// Orders this report among those of the same subtask.
    pub version: Version,
    /// What else the worker said of it; none if nothing.
    pub details: Option<Box<Details>>,
}

/// What no count depends on, kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// When the subtask was created.
    pub begin_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// The resource it works on: the text of a JSON object, at most 8 KiB.
    pub job_resource_info: Option<Box<str>>,
    /// How its execution went: the text of a JSON object, at most 8 KiB.
    pub job_execute_info: Option<Box<str>>,
    /// Why it failed, as a code of at most 64 characters.
    pub error_code: Option<Box<str>>,
    /// Why it failed, as a text of at most 1,024 characters.
    pub error_message: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_end_at_the_signed_maximum() {
        assert_eq!(Version::try_from(i64::MAX as u64).map(Version::get), Ok(i64::MAX as u64));
        assert_eq!(Version::try_from(1 << 63), Err(VersionError));
    }
}
