//! Counting again from the records, a slice at a time while reports go on, to show that no counter has drifted.
//!
//! A verifier goes through the records, then the jobs' counters, then the projects'. What changes behind it is added to what it
//! has found; what changes ahead of it will be found. The numbers by type and status are compared as they are. That each job and
//! project has its own numbers too is compared by a fingerprint, which takes no memory: the sum, over all subtasks, of a
//! number made of job and key and one made of project and key, must be the sum over all counters of the same numbers times
//! their counts. A counter that is wrong changes it, but for one chance in 2^64.

use super::counter_table::{CounterChanges, JobNumber, ProjectNumber};
use super::counters::{CounterKey, DenseCounters, JobCounters, ProjectCounters};
use super::records::Cursor;

/// What a verifier goes through, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Phase {
    #[default]
    Records,
    Jobs,
    Projects,
}

/// A verification under way; at its beginning, which is also where it stands between two, nothing has been found.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    phase: Phase,
    /// The record that comes next in the first phase.
    cursor: Cursor,
    /// The number that comes next in the others.
    position: u32,
    /// By key, as the records have it.
    by_key: Vec<i64>,
    of_records: u64,
    of_counters: u64,
}

impl Verifier {
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub(super) fn set_cursor(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    pub(super) fn position(&self) -> u32 {
        self.position
    }

    pub(super) fn move_to(&mut self, position: u32) {
        self.position = position;
    }

    /// Goes on to the next phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        (self.phase, self.position) = (phase, 0);
    }

    /// Begins anew, since places have been given anew.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// A record has come, or gone, as `times` is 1 or -1.
    pub(super) fn changed_record(
        &mut self,
        project: ProjectNumber,
        place: u32,
        job: JobNumber,
        key: CounterKey,
        times: i64,
    ) {
        if self.phase > Phase::Records || (Cursor { project: project.0, place }) < self.cursor {
            self.add_record(project, job, key, times);
        }
    }

    /// A record has been met.
    pub(super) fn visit_record(&mut self, project: ProjectNumber, job: JobNumber, key: CounterKey) {
        self.add_record(project, job, key, 1);
    }

    fn add_record(&mut self, project: ProjectNumber, job: JobNumber, key: CounterKey, times: i64) {
        let at = key.index();
        if self.by_key.len() <= at {
            self.by_key.resize(at + 1, 0);
        }
        self.by_key[at] += times;
        let print = of_job(job, key).wrapping_add(of_project(project, key));
        self.of_records = self.of_records.wrapping_add(print.wrapping_mul(times as u64));
    }

    /// Counters have been changed.
    pub(super) fn changed_counters(&mut self, changes: &CounterChanges) {
        if self.phase == Phase::Records {
            return;
        }
        for delta in changes.of_jobs() {
            if self.phase > Phase::Jobs || delta.job.0 < self.position {
                self.add_counter(of_job(delta.job, delta.key), delta.change.into());
            }
        }
        let project = changes.project();
        if self.phase == Phase::Projects && project.0 < self.position {
            for &(key, change) in changes.of_project() {
                self.add_counter(of_project(project, key), change.into());
            }
        }
    }

    /// A job's counters have been met.
    pub(super) fn visit_job(&mut self, job: JobNumber, counters: &JobCounters) {
        for (key, count) in counters.iter() {
            self.add_counter(of_job(job, key), count.into());
        }
    }

    /// A project's counters have been met.
    pub(super) fn visit_project(&mut self, project: ProjectNumber, counters: &ProjectCounters) {
        for (key, count) in counters.iter() {
            self.add_counter(of_project(project, key), count.into());
        }
    }

    fn add_counter(&mut self, print: u64, times: i64) {
        self.of_counters = self.of_counters.wrapping_add(print.wrapping_mul(times as u64));
    }

    /// Ends it. How many subtasks the totals are off, or 1 if only jobs or projects are; 0 is right.
    pub(super) fn finish(&mut self, totals: &DenseCounters) -> u64 {
        let done = std::mem::take(self);
        let mut found = done.by_key;
        found.resize(totals.len().max(found.len()), 0);
        for (key, count) in totals.iter() {
            found[key.index()] -= i64::from(count);
        }
        let mismatch = found.iter().map(|difference| difference.unsigned_abs()).sum();
        if mismatch == 0 && done.of_records != done.of_counters { 1 } else { mismatch }
    }
}

fn of_job(job: JobNumber, key: CounterKey) -> u64 {
    mixed((job.0 as u64) << 32 | (key.index() as u64) << 1)
}

fn of_project(project: ProjectNumber, key: CounterKey) -> u64 {
    mixed((project.0 as u64) << 32 | (key.index() as u64) << 1 | 1)
}

/// The finalizer of SplitMix64: neighbours become numbers that have nothing to do with each other.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
