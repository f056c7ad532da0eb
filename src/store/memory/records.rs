//! Every subtask's record, which only the writer touches: 40 bytes, and four beside it for when it ended.

use std::ops::Range;

use super::index::Index;
use super::recount::Recount;
use super::segments::Segments;
use super::tallies::ProjectNumber;
use super::tally::Cell;
use crate::domain::{SubJobId, Version};
use crate::store::StoreError;
use crate::store::ended::Ended;

/// A job's place among the jobs of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobNumber(pub(super) u32);

/// What is known of a subtask in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: SubJobId,
    pub(super) version: Version,
    pub(super) job: JobNumber,
    pub(super) cell: Cell,
    /// Whether there is more of it, which stands elsewhere.
    pub(super) has_details: bool,
}

/// The records of all subtasks, found by (project, id) and known by a number for as long as they are stored.
#[derive(Debug, Default)]
pub(super) struct Records {
    slots: Segments<Option<Record>>,
    ended: Segments<Ended>,
    /// The numbers of the slots without a record, to be used again.
    vacant: Segments<u32>,
    index: Index,
    /// The project of each job, so that a record need not repeat it.
    owners: Segments<ProjectNumber>,
    pub(super) recount: Recount,
}

/// How to take back one step of a transaction; steps are taken back in reverse order.
#[derive(Debug)]
pub(super) enum Undo {
    /// A new slot has been made.
    Appended,
    /// A vacant slot has been filled.
    Filled(u32),
    Replaced(u32, Record, Ended),
    Removed(Record, Ended),
}

impl Records {
    /// Fails if there are not enough numbers left for that many new records.
    pub(super) fn room_for(&self, more: usize) -> Result<(), StoreError> {
        if self.slots.len() + more > u32::MAX as usize { Err(StoreError::Full) } else { Ok(()) }
    }

    /// One more than the highest number that a record has ever had.
    pub(super) fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How many records there are.
    pub(super) fn len(&self) -> u64 {
        (self.slots.len() - self.vacant.len()) as u64
    }

    /// Enters the project of a job, whose number is one that was entered before or the next.
    pub(super) fn enter_job(&mut self, job: JobNumber, project: ProjectNumber) {
        if job.0 as usize == self.owners.len() {
            self.owners.push(project);
        } else {
            self.owners[job.0] = project;
        }
    }

    /// The project of a job that has been entered.
    pub(super) fn owner(&self, job: JobNumber) -> ProjectNumber {
        self.owners[job.0]
    }

    /// The number of the subtask's record, if there is one.
    pub(super) fn find(&self, project: ProjectNumber, id: &SubJobId) -> Option<u32> {
        let (slots, owners) = (&self.slots, &self.owners);
        self.index.find((project, id), |number| {
            slots[number].as_ref().is_some_and(|record| record.id == *id && owners[record.job.0] == project)
        })
    }

    /// The record of that number, and when it ended.
    pub(super) fn get(&self, number: u32) -> Option<(&Record, Ended)> {
        self.slots[number].as_ref().map(|record| (record, self.ended[number]))
    }

    /// Enters a record that is not there yet; its number, and how to take it back.
    pub(super) fn create(&mut self, record: Record, ended: Ended) -> (u32, Undo) {
        let number = self.vacant.last().copied().unwrap_or(self.end());
        self.recount.record(number, self.owners[record.job.0], &record, 1);
        let undo = if self.vacant.pop().is_some() {
            (self.slots[number], self.ended[number]) = (Some(record), ended);
            Undo::Filled(number)
        } else {
            self.slots.push(Some(record));
            self.ended.push(ended);
            Undo::Appended
        };
        self.enter(number);
        (number, undo)
    }

    fn enter(&mut self, number: u32) {
        let (slots, owners) = (&self.slots, &self.owners);
        let key_of = |number: u32| {
            let record = slots[number].as_ref().expect("a number is in the index for as long as it has a record");
            (owners[record.job.0], &record.id)
        };
        self.index.insert(key_of(number), number, key_of);
    }

    fn leave(&mut self, number: u32) {
        if let Some(record) = &self.slots[number] {
            self.index.remove((self.owners[record.job.0], &record.id), |other| other == number);
        }
    }

    /// Puts another record of the same subtask in place of the one that is there.
    pub(super) fn replace(&mut self, number: u32, record: Record, ended: Ended) -> Option<Undo> {
        let project = self.owner(record.job);
        self.recount.record(number, project, &record, 1);
        let old = self.slots[number].replace(record)?;
        self.recount.record(number, project, &old, -1);
        Some(Undo::Replaced(number, old, std::mem::replace(&mut self.ended[number], ended)))
    }

    /// Takes a record out; its number may be given to another one.
    pub(super) fn remove(&mut self, number: u32) -> Option<Undo> {
        self.leave(number);
        let old = self.slots[number].take()?;
        self.recount.record(number, self.owner(old.job), &old, -1);
        self.vacant.push(number);
        Some(Undo::Removed(old, std::mem::take(&mut self.ended[number])))
    }

    /// Takes back the latest step that has not been taken back yet.
    pub(super) fn undo(&mut self, step: Undo) {
        match step {
            Undo::Appended => {
                let last = self.end() - 1;
                self.remove(last);
                self.vacant.pop();
                self.slots.pop();
                self.ended.pop();
            }
            Undo::Filled(number) => drop(self.remove(number)),
            Undo::Replaced(number, old, ended) => drop(self.replace(number, old, ended)),
            Undo::Removed(old, ended) => drop(self.create(old, ended)),
        }
    }

    /// Those of the numbers whose records ended before that moment.
    pub(super) fn ended_before(&self, moment: Ended, numbers: Range<u32>) -> impl Iterator<Item = u32> {
        let slice = self.ended.iter_from(numbers.start).take(numbers.len());
        slice.filter(move |(_, ended)| ended.is_before(moment)).map(|(number, _)| number)
    }

    /// Recounts the records from where the recount stands, `most` of them; whether that was the last.
    pub(super) fn recount(&mut self, most: usize) -> bool {
        let Self { slots, owners, recount, .. } = self;
        let (from, end) = (recount.at(), slots.len() as u32);
        let to = end.min(from.saturating_add(most as u32));
        for (_, slot) in slots.iter_from(from).take((to - from) as usize) {
            if let Some(record) = slot {
                recount.found(owners[record.job.0], record);
            }
        }
        recount.move_to(to);
        to == end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_forty_bytes() {
        assert_eq!(size_of::<Option<Record>>(), 40);
        assert_eq!(size_of::<Ended>(), 4);
    }
}
