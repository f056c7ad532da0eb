//! What the server should hold: one project's subtasks, changed by the rules of the contract in the plainest way.

use crate::filter::Filter;
use crate::record::{Record, TYPES};
use crate::time::{Ended, Moment, Uptime, Window};

/// What is stored of a subtask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// When it ended, if it has.
    pub(crate) ended: Option<Ended>,
}

impl Stored {
    /// Whether it is gone, for all that can be known.
    pub(crate) fn is_gone(&self, at: Moment, up: Uptime) -> bool {
        self.ended.is_some_and(|ended| ended.is_gone(at, up))
    }

    /// Whether it is there, for all that can be known.
    pub(crate) fn is_there(&self, at: Moment) -> bool {
        self.ended.is_none_or(|ended| at < ended.stays_until())
    }
}

/// What a report should be answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
    pub(crate) stale: u64,
    /// Of how many records of a subtask it is not known whether it was still there, so that they may have been created.
    pub(crate) open: u64,
}

impl Outcome {
    /// Whether an answer is a right one.
    pub(crate) fn allows(self, answer: Self) -> bool {
        let sum = |outcome: Self| outcome.created + outcome.updated + outcome.unchanged + outcome.stale;
        if self.open == 0 {
            return self == answer;
        }
        sum(self) == sum(answer) && (self.created..=self.created + self.open).contains(&answer.created)
    }
}

/// How many subtasks there are of each type and status.
pub(crate) type Cells = [[u64; 7]; TYPES.len()];

/// One project. Each of its slots has one subtask at a time.
#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) id: String,
    /// Whether subtasks never go: what has ended has ended in the far future.
    pub(crate) is_steady: bool,
    slots: Vec<Option<Stored>>,
    /// The job that has been reported last for the first time.
    pub(crate) newest_job: u32,
}

impl Project {
    pub(crate) fn new(id: String, is_steady: bool, slots: usize) -> Self {
        Self { id, is_steady, slots: vec![None; slots], newest_job: 1 }
    }

    pub(crate) fn slots(&self) -> &[Option<Stored>] {
        &self.slots
    }

    /// Takes a report that has been applied at some time in a window.
    pub(crate) fn take(&mut self, batch: &[Record], at: Window, up: Uptime) -> Outcome {
        let (mut outcome, mut is_touched) = (Outcome::default(), vec![false; self.slots.len()]);
        for record in batch {
            // Nothing goes in the middle of a report.
            let goes = !std::mem::replace(&mut is_touched[record.slot as usize], true);
            self.take_one(*record, at, up, goes, &mut outcome);
        }
        outcome
    }

    fn take_one(&mut self, record: Record, at: Window, up: Uptime, goes: bool, outcome: &mut Outcome) {
        let slot = &mut self.slots[record.slot as usize];
        let new = Stored { record, ended: ended(record, None, at) };
        let is_gone =
            |stored: &Stored| stored.record.generation != record.generation || goes && stored.is_gone(at.from, up);
        let Some(stored) = slot.filter(|stored| !is_gone(stored)) else {
            outcome.created += 1;
            *slot = Some(new);
            return;
        };
        let is_open = goes && !stored.is_there(at.to + 1);
        outcome.open += u64::from(is_open);
        if record.version < stored.record.version {
            outcome.stale += 1;
            return;
        }
        let ended = if record == stored.record {
            outcome.unchanged += 1;
            stored.ended
        } else {
            outcome.updated += 1;
            ended(record, stored.ended, at)
        };
        let either = |one: Ended, other: Option<Ended>| other.filter(|_| is_open).map_or(one, |other| one.or(other));
        *slot = Some(Stored { record, ended: ended.map(|ended| either(ended, new.ended)) });
    }

    /// Forgets what must be gone, so that it would be noticed if it came back.
    pub(crate) fn sweep(&mut self, at: Moment, up: Uptime) {
        for slot in &mut self.slots {
            slot.take_if(|stored| stored.is_gone(at, up));
        }
    }

    /// The least and the most that may be counted between two moments.
    pub(crate) fn bounds(&self, filter: &Filter, between: Window, up: Uptime) -> (u64, u64) {
        let (mut least, mut most) = (0, 0);
        for stored in self.slots.iter().flatten().filter(|stored| filter.matches(&stored.record)) {
            least += u64::from(stored.is_there(between.to + 1));
            most += u64::from(!stored.is_gone(between.from, up));
        }
        (least, most)
    }

    /// How many there are of each type and status, if none can be gone.
    pub(crate) fn cells(&self) -> Cells {
        let mut cells = Cells::default();
        for stored in self.slots.iter().flatten() {
            cells[stored.record.job_type as usize][stored.record.status as usize] += 1;
        }
        cells
    }
}

/// When a subtask has ended that is reported in a window: as the worker says, else as is known already, else then.
fn ended(record: Record, known: Option<Ended>, at: Window) -> Option<Ended> {
    let given = record.end.map(|end| Ended::given(end, at));
    record.has_ended().then(|| given.or(known).unwrap_or(Ended::when(at)))
}
