//! What a transaction in memory tells of every subtask that it changes, for whoever keeps the rest of it.

use hashbrown::HashMap;

use super::StoreError;
use super::ended::Ended;
use crate::domain::{Details, JobId, ProjectId, Status, SubJobId, Version};

/// Which subtask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) project: &'a ProjectId,
    pub(super) id: &'a SubJobId,
    /// Its record's, which no other one has for as long as it is stored.
    pub(super) number: u32,
}

/// What memory holds of a subtask: all that any answer depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct State<'a> {
    pub(super) job_id: &'a JobId,
    /// The number of the job type.
    pub(super) job_type: usize,
    pub(super) status: Status,
    pub(super) version: Version,
    pub(super) ended: Ended,
}

/// Keeps what memory does not: subtasks' details, or everything on a disk.
pub(super) trait Journal {
    /// Whether the details of a stored subtask that has some are these.
    fn has_details(&mut self, key: Key<'_>, details: &Details) -> Result<bool, StoreError>;

    /// A subtask has been stored, in place of what was stored of it before.
    fn stored(&mut self, key: Key<'_>, old: Option<State<'_>>, new: State<'_>, details: Option<Box<Details>>);

    /// A subtask has been dropped.
    fn dropped(&mut self, key: Key<'_>, old: State<'_>);
}

/// The details of the subtasks that have some, in memory.
#[derive(Debug, Default, Clone)]
pub(super) struct DetailsInMemory(HashMap<u32, Box<Details>>);

impl Journal for DetailsInMemory {
    fn has_details(&mut self, key: Key<'_>, details: &Details) -> Result<bool, StoreError> {
        Ok(self.0.get(&key.number).is_some_and(|stored| **stored == *details))
    }

    fn stored(&mut self, key: Key<'_>, _: Option<State<'_>>, _: State<'_>, details: Option<Box<Details>>) {
        match details {
            Some(details) => self.0.insert(key.number, details),
            None => self.0.remove(&key.number),
        };
    }

    fn dropped(&mut self, key: Key<'_>, _: State<'_>) {
        self.0.remove(&key.number);
    }
}
