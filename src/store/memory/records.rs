//! Every subtask's record, which only reports touch: 40 bytes, and what no count depends on beside it.

use hashbrown::HashMap;

use super::index::Index;
use super::segments::Segments;
use super::tallies::{Delta, ProjectNumber};
use super::tally::Cell;
use super::{Outcome, StoreError};
use crate::domain::{Details, SubJob, SubJobId, Version};

/// A job's place among the jobs of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobNumber(pub(super) u32);

#[derive(Debug)]
struct Record {
    id: SubJobId,
    version: Version,
    job: JobNumber,
    cell: Cell,
}

/// The records of all subtasks, found by (project, id).
#[derive(Debug, Default)]
pub(super) struct Records {
    records: Segments<Record>,
    index: Index,
    /// The project of each job, so that a record need not repeat it.
    owners: Segments<ProjectNumber>,
    /// Of the records that have any.
    details: HashMap<u32, Box<Details>>,
}

impl Records {
    /// Fails if there are not enough numbers left for that many new records.
    pub(super) fn room_for(&self, more: usize) -> Result<(), StoreError> {
        if self.records.len() + more > u32::MAX as usize { Err(StoreError::Full) } else { Ok(()) }
    }

    /// How many jobs have been entered.
    pub(super) fn jobs(&self) -> usize {
        self.owners.len()
    }

    /// Enters the owners of the jobs that come next.
    pub(super) fn enter_jobs(&mut self, owners: impl Iterator<Item = ProjectNumber>) {
        for owner in owners {
            self.owners.push(owner);
        }
    }

    /// The project of a job that has been entered.
    pub(super) fn owner(&self, job: JobNumber) -> ProjectNumber {
        self.owners[job.0]
    }

    /// Takes one record of a job that has been entered, and notes what that changes in the tallies.
    pub(super) fn upsert(&mut self, job: JobNumber, sub_job: SubJob, changes: &mut Vec<Delta>) -> Outcome {
        let project = self.owner(job);
        let SubJob { id, job_id: _, job_type, status, version, details } = sub_job;
        let new = Record { id, version, job, cell: Cell::new(job_type, status) };
        let enters = Delta { job, cell: new.cell, change: 1 };

        let (records, owners) = (&mut self.records, &self.owners);
        let found = self.index.find((project, &new.id), |number| {
            records[number].id == new.id && owners[records[number].job.0] == project
        });
        let Some(number) = found else {
            let number = records.len() as u32;
            records.push(new);
            let key_of = |number| (owners[records[number].job.0], &records[number].id);
            self.index.insert(key_of(number), number, key_of);
            self.details.extend(details.map(|details| (number, details)));
            changes.push(enters);
            return Outcome { created: 1, ..Outcome::default() };
        };

        let stored = &mut records[number];
        if new.version < stored.version {
            return Outcome { stale: 1, ..Outcome::default() };
        }
        let same = (new.version, new.job, new.cell) == (stored.version, stored.job, stored.cell);
        if same && self.details.get(&number) == details.as_ref() {
            return Outcome { unchanged: 1, ..Outcome::default() };
        }
        if (stored.job, stored.cell) != (new.job, new.cell) {
            changes.push(Delta { job: stored.job, cell: stored.cell, change: -1 });
            changes.push(enters);
        }
        *stored = new;
        match details {
            Some(details) => self.details.insert(number, details),
            None => self.details.remove(&number),
        };
        Outcome { updated: 1, ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_forty_bytes() {
        assert_eq!(size_of::<Record>(), 40);
    }
}
