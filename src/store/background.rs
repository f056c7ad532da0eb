//! What the server does with a store apart from requests of callers: retention, snapshots, the recount, loading, totals.

use std::time::Duration;

use super::embedded::Backend;
use super::{Dropped, Kind, OpenError, Outcome, Store, StoreError, StoreKind, Totals};
use crate::domain::{Clock, ProjectId, SubJob, Timestamp};

impl Store {
    /// Removes subtasks that ended longer than `age` before `now`, among about `most` records after the position `from`. Blocks until
    /// it is durable.
    ///
    /// # Errors
    ///
    /// If the store is broken or full, or changes cannot be stored.
    pub fn expire(&self, age: Duration, now: Timestamp, from: u64, most: u32) -> Result<Dropped, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.expire(age, now, from, most),
            Kind::Postgres(store) => store.expire(age, now, from, most),
        }
    }

    /// Writes a snapshot, which makes the next start faster; does nothing without a data directory. Reports go on meanwhile. Returns
    /// whether it has been written.
    pub fn snapshot(&self) -> bool {
        match &self.0 {
            Kind::Embedded(store) => store.snapshot(),
            Kind::Postgres(store) => store.snapshot(),
        }
    }

    /// The same store, whose subtasks end by a clock other than the system's if no end time is reported. A store in a database uses
    /// the system's.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        match self.0 {
            Kind::Embedded(store) => Self(Kind::Embedded(store.with_clock(clock))),
            Kind::Postgres(store) => Self(Kind::Postgres(store)),
        }
    }

    /// Deletes all subtasks of all projects, whatever their status: those of a project in one step. Returns how many have been deleted.
    /// Blocks until it is durable. A store in a database is shared, and refuses.
    ///
    /// # Errors
    ///
    /// If the store is broken, changes cannot be stored, or it is in a database.
    pub fn reset_all(&self) -> Result<u64, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.reset_all(),
            Kind::Postgres(_) => Err(StoreError::Refused),
        }
    }

    /// Continues the verification of the counters by `most` records or counters. When it is complete, returns by how many subtasks
    /// the counters are off, or were in an earlier verification: [`Store::check`] fails from then on until a restart. Blocks if the store
    /// is in a database.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database does not answer.
    pub fn recount(&self, most: usize) -> Result<Option<u64>, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.recount(most),
            Kind::Postgres(store) => store.recount(most),
        }
    }

    /// The largest mismatch that a verification has found, in subtasks; 0 is right.
    pub fn drift(&self) -> u64 {
        match &self.0 {
            Kind::Embedded(store) => store.drift(),
            Kind::Postgres(store) => store.drift(),
        }
    }

    /// How many subtasks of all projects there are of each type in each status. For a store in a database this is what
    /// [`Store::refresh_totals`] has read last.
    ///
    /// # Errors
    ///
    /// If the store is broken, or its database did not answer.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => Ok(Totals { counts: store.memory.totals()?, age: Duration::ZERO }),
            Kind::Postgres(store) => store.read_totals(),
        }
    }

    /// Where the subtasks are.
    pub fn kind(&self) -> StoreKind {
        match &self.0 {
            Kind::Embedded(store) => match store.backend {
                Backend::Memory(_) => StoreKind::Memory,
                Backend::DataDir(_) => StoreKind::DataDir,
            },
            Kind::Postgres(_) => StoreKind::Postgres,
        }
    }

    /// Begins to load files. True if everything loaded is discarded should the process end before [`Store::end_load`]; false if the
    /// store may hold subtasks already.
    ///
    /// # Errors
    ///
    /// If the data directory cannot be written, the database does not answer, or the store is broken.
    pub fn begin_load(&self) -> Result<bool, OpenError> {
        match &self.0 {
            Kind::Embedded(store) => store.begin_load(),
            Kind::Postgres(store) => store.begin_load(),
        }
    }

    /// Ends a load for which [`Store::begin_load`] returned true: what was loaded stays.
    ///
    /// # Errors
    ///
    /// If the data directory cannot be written, or the store is broken.
    pub fn end_load(&self) -> Result<(), OpenError> {
        match &self.0 {
            Kind::Embedded(store) => store.end_load(),
            Kind::Postgres(store) => store.end_load(),
        }
    }

    /// Stores batches of subtasks from a file, and blocks until all are durable. Subtasks that were stored before the load began are left
    /// unchanged, and counted as such: what is stored may be newer than the file.
    ///
    /// # Errors
    ///
    /// If the store is broken or full, or changes cannot be stored.
    pub fn load(&self, batches: impl IntoIterator<Item = (ProjectId, Vec<SubJob>)>) -> Result<Outcome, StoreError> {
        match &self.0 {
            Kind::Embedded(store) => store.load(batches),
            Kind::Postgres(store) => store.load(batches),
        }
    }
}
