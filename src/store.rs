//! What a store of subtasks promises, whatever it is made of. It knows nothing of HTTP.
//!
//! - [`MemoryStore::count`] is exact at the moment of reading, and takes the same time however many subtasks there are.
//! - [`MemoryStore::report`] takes all of a batch or none of it: no reader ever sees a part.
//! - Once a report has returned, every count sees it.
//! - Nothing but a report changes a count.

mod memory;

pub use memory::MemoryStore;

/// What became of the records of one batch; the sum is the number of records.
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
    #[error("an earlier report was interrupted by a panic; the counts are not to be trusted")]
    Broken,
    /// There is no number left for another subtask, job or project: there are 2^32 of each.
    #[error("the store holds as many subtasks as it can")]
    Full,
}
