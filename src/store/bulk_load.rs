//! Loading subtasks from files, which the start does before the server is ready.

use super::{Backend, OpenError, Outcome, Store, StoreError};
use crate::domain::{ProjectId, SubJob};

impl Store {
    /// Begins to load files. True if everything loaded is discarded should the process end before [`Store::end_load`]; false if the
    /// data directory held subtasks already.
    ///
    /// # Errors
    ///
    /// If the data directory cannot be written, or the store is broken.
    pub fn begin_load(&self) -> Result<bool, OpenError> {
        match &self.backend {
            Backend::DataDir(_) if self.memory.sub_jobs()? > 0 => Ok(false),
            Backend::DataDir(disk) => disk.begin_load().map(|()| true),
            Backend::Memory(_) => Ok(true),
        }
    }

    /// Ends a load for which [`Store::begin_load`] returned true: what was loaded stays.
    ///
    /// # Errors
    ///
    /// If the data directory cannot be written, or the store is broken.
    pub fn end_load(&self) -> Result<(), OpenError> {
        match &self.backend {
            Backend::DataDir(disk) => disk.end_load(),
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Stores batches of subtasks from a file, and blocks until all are durable. Subtasks that were stored before the start are left
    /// unchanged, and counted as such: what is stored may be newer than the file.
    ///
    /// # Errors
    ///
    /// If the store is broken or full, or the data directory refuses changes.
    pub fn load(&self, batches: impl IntoIterator<Item = (ProjectId, Vec<SubJob>)>) -> Result<Outcome, StoreError> {
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
