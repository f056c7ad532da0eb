//! The expected state of one project: its subtasks, changed by the rules of the contract in the simplest way.

use crate::filter::Filter;
use crate::record::{Record, TYPES};
use crate::time::{EndTime, UnixMillis, Uptime, Window};

/// What is stored of a subtask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// Its end time, once it has ended.
    pub(crate) end_time: Option<EndTime>,
}

impl Stored {
    /// Whether the server must have dropped it.
    pub(crate) fn is_expired(&self, at: UnixMillis, up: Uptime) -> bool {
        self.end_time.is_some_and(|end_time| end_time.is_expired(at, up))
    }

    /// Whether the server must still hold it.
    pub(crate) fn is_retained(&self, at: UnixMillis) -> bool {
        self.end_time.is_none_or(|end_time| at < end_time.retained_until())
    }
}

/// The expected answer to a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
    pub(crate) stale: u64,
    /// Records of a subtask that may have expired before: each may be created instead.
    pub(crate) uncertain: u64,
}

impl Outcome {
    /// Whether the server's answer is one of those expected.
    pub(crate) fn accepts(self, answer: Self) -> bool {
        let sum = |outcome: Self| outcome.created + outcome.updated + outcome.unchanged + outcome.stale;
        if self.uncertain == 0 {
            return self == answer;
        }
        sum(self) == sum(answer) && (self.created..=self.created + self.uncertain).contains(&answer.created)
    }
}

/// The number of subtasks by type and status.
pub(crate) type Counters = [[u64; 7]; TYPES.len()];

/// One project. Each slot holds one subtask at a time.
#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) id: String,
    /// Whether subtasks never expire: each end time is in the far future.
    pub(crate) never_expires: bool,
    slots: Vec<Option<Stored>>,
    /// The newest job with a reported subtask.
    pub(crate) newest_job: u32,
}

impl Project {
    pub(crate) fn new(id: String, never_expires: bool, slots: usize) -> Self {
        Self { id, never_expires, slots: vec![None; slots], newest_job: 1 }
    }

    pub(crate) fn slots(&self) -> &[Option<Stored>] {
        &self.slots
    }

    /// Applies a report that the server has applied at some time in a window.
    pub(crate) fn apply(&mut self, batch: &[Record], at: Window, up: Uptime) -> Outcome {
        let (mut outcome, mut is_touched) = (Outcome::default(), vec![false; self.slots.len()]);
        for record in batch {
            // Nothing expires in the middle of a report.
            let may_expire = !std::mem::replace(&mut is_touched[record.slot as usize], true);
            self.apply_record(*record, at, up, may_expire, &mut outcome);
        }
        outcome
    }

    fn apply_record(&mut self, record: Record, at: Window, up: Uptime, may_expire: bool, outcome: &mut Outcome) {
        let slot = &mut self.slots[record.slot as usize];
        let new = Stored { record, end_time: end_time(record, None, at) };
        let is_expired = |stored: &Stored| {
            stored.record.generation != record.generation || may_expire && stored.is_expired(at.from, up)
        };
        let Some(stored) = slot.filter(|stored| !is_expired(stored)) else {
            outcome.created += 1;
            *slot = Some(new);
            return;
        };
        let is_uncertain = may_expire && !stored.is_retained(at.to + 1);
        outcome.uncertain += u64::from(is_uncertain);
        if record.version < stored.record.version {
            outcome.stale += 1;
            return;
        }
        let end_time = if record == stored.record {
            outcome.unchanged += 1;
            stored.end_time
        } else {
            outcome.updated += 1;
            end_time(record, stored.end_time, at)
        };
        let either =
            |one: EndTime, other: Option<EndTime>| other.filter(|_| is_uncertain).map_or(one, |other| one.union(other));
        *slot = Some(Stored { record, end_time: end_time.map(|end_time| either(end_time, new.end_time)) });
    }

    /// Removes what the server must have dropped, so that its return would be noticed.
    pub(crate) fn remove_expired(&mut self, at: UnixMillis, up: Uptime) {
        for slot in &mut self.slots {
            slot.take_if(|stored| stored.is_expired(at, up));
        }
    }

    /// The least and the greatest count that is right between two moments.
    pub(crate) fn count_bounds(&self, filter: &Filter, between: Window, up: Uptime) -> (u64, u64) {
        let (mut least, mut most) = (0, 0);
        for stored in self.slots.iter().flatten().filter(|stored| filter.matches(&stored.record)) {
            least += u64::from(stored.is_retained(between.to + 1));
            most += u64::from(!stored.is_expired(between.from, up));
        }
        (least, most)
    }

    /// The number of subtasks by type and status; for projects that never expire.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for stored in self.slots.iter().flatten() {
            counters[stored.record.job_type as usize][stored.record.status as usize] += 1;
        }
        counters
    }
}

/// The end time of a subtask reported in a window: the record's own, else the known one, else the time of the report.
fn end_time(record: Record, known: Option<EndTime>, at: Window) -> Option<EndTime> {
    let stated = record.end.map(|end| EndTime::stated(end, at));
    record.has_ended().then(|| stated.or(known).unwrap_or(EndTime::inferred(at)))
}
