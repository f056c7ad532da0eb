//! The effects of a change.

use crate::domain::{ProjectId, SubJob, SubJobId};
use crate::store::end_time::EndTime;

/// The new state of a subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Put {
    pub(in crate::store) sub_job: SubJob,
    pub(in crate::store) end_time: Option<EndTime>,
    /// Whether the subtask is new, and so the last in the order of its project.
    pub(in crate::store) is_new: bool,
    /// The place of its record when the change was planned.
    pub(in crate::store) hint: Option<u32>,
    /// The location of its details in a file; 0 if they are in memory, or not written yet.
    pub(in crate::store) details: u64,
}

/// A subtask is stored or removed.
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

/// The effects of one change on subtasks of one project, in order. Readers see all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Changes {
    pub(in crate::store) project: ProjectId,
    /// The project's new revision, which is higher than any before.
    pub(in crate::store) revision: u64,
    pub(in crate::store) effects: Vec<Effect>,
}
