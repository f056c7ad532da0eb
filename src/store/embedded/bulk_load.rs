//! Loading subtasks from files, which the start does before the server is ready.

use super::{Backend, EmbeddedStore};
use crate::domain::{ProjectId, SubJob};
use crate::store::{OpenError, Outcome, StoreError};

impl EmbeddedStore {
    /// Begins to load files. True if everything loaded is discarded should the process end before [`EmbeddedStore::end_load`]; false if the
    /// data directory held subtasks already.
    pub(in crate::store) fn begin_load(&self) -> Result<bool, OpenError> {
        match &self.backend {
            Backend::DataDir(_) if self.memory.sub_jobs()? > 0 => Ok(false),
            Backend::DataDir(disk) => disk.begin_load().map(|()| true),
            Backend::Memory(_) => Ok(true),
        }
    }

    /// Ends a load for which [`EmbeddedStore::begin_load`] returned true: what was loaded stays.
    pub(in crate::store) fn end_load(&self) -> Result<(), OpenError> {
        match &self.backend {
            Backend::DataDir(disk) => disk.end_load(),
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Stores batches of subtasks from a file, and blocks until all are durable. Subtasks that were stored before the start are left
    /// unchanged, and counted as such: what is stored may be newer than the file.
    pub(in crate::store) fn load(
        &self,
        batches: impl IntoIterator<Item = (ProjectId, Vec<SubJob>)>,
    ) -> Result<Outcome, StoreError> {
        // All are submitted before the first is waited for, so that they share flushes.
        let submitted = batches.into_iter().map(|(project, batch)| self.submit_batch(project, batch, true));
        let submitted: Vec<_> = submitted.collect();
        let mut all = Outcome::default();
        for pending in submitted {
            all += pending.wait()?;
        }
        Ok(all)
    }
}
