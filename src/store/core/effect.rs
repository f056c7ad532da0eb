//! What becomes of subtasks.

use crate::domain::{ProjectId, SubJob, SubJobId};
use crate::store::ended::Ended;

/// A subtask as it is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Put {
    pub(in crate::store) sub_job: SubJob,
    pub(in crate::store) ended: Ended,
    /// Whether it is new, and so comes last in the order of its project.
    pub(in crate::store) is_new: bool,
    /// Where its record was when this was planned.
    pub(in crate::store) hint: Option<u32>,
    /// Where its details are, if they are kept in files; zero if not or not yet.
    pub(in crate::store) details: u64,
}

/// What becomes of one subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Effect {
    Put(Put),
    Remove(SubJobId),
}

impl Effect {
    pub(in crate::store) fn id(&self) -> &SubJobId {
        match self {
            Self::Put(put) => &put.sub_job.id,
            Self::Remove(id) => id,
        }
    }

    /// Whether it makes a subtask that was not there.
    pub(in crate::store) fn is_new(&self) -> bool {
        matches!(self, Self::Put(put) if put.is_new)
    }
}

/// What one report, or another change, does to subtasks of one project, in order. Readers see all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Changes {
    pub(in crate::store) project: ProjectId,
    /// The project's from then on: higher than any before.
    pub(in crate::store) revision: u64,
    pub(in crate::store) effects: Vec<Effect>,
}
