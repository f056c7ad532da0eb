//! Verifies the counters against the records, a slice at a time while reports go on.
//!
//! A verifier visits the records, then the counters of the jobs, then those of the projects. It adds changes behind its position to its
//! sums; it will visit those ahead of it. The totals by type and status are compared one by one. The counters of jobs and projects are
//! compared by a fingerprint, which needs no memory: the sum over all subtasks of hash(job, key) + hash(project, key) must equal the
//! sum over all counters of hash × count. A wrong counter goes unseen with a probability of 2^-64.

use super::counters::{CounterKey, Counters, DenseCounters};
use super::deltas::{CounterChanges, JobNumber, ProjectNumber};
use super::records::Cursor;

/// What a verifier visits, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Phase {
    #[default]
    Records,
    Jobs,
    Projects,
}

/// A verification under way, or the beginning of the next one.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    phase: Phase,
    /// The next record, in the first phase.
    cursor: Cursor,
    /// The next job or project, in the other phases.
    position: u32,
    /// The number of records by key.
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

    /// Begins the next phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        (self.phase, self.position) = (phase, 0);
    }

    /// Begins from the start, since a project has been renumbered.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// A record has been added (1) or removed (-1).
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

    /// Adds a record.
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
        for delta in &changes.of_jobs {
            if self.phase > Phase::Jobs || delta.job.0 < self.position {
                self.add_counter(of_job(delta.job, delta.key), delta.change.into());
            }
        }
        let project = changes.project;
        if self.phase == Phase::Projects && project.0 < self.position {
            for &(key, change) in &changes.of_project {
                self.add_counter(of_project(project, key), change.into());
            }
        }
    }

    /// Adds the counters of a job.
    pub(super) fn visit_job(&mut self, job: JobNumber, counters: &Counters) {
        for (key, count) in counters.iter() {
            self.add_counter(of_job(job, key), count.into());
        }
    }

    /// Adds the counters of a project.
    pub(super) fn visit_project(&mut self, project: ProjectNumber, counters: &Counters) {
        for (key, count) in counters.iter() {
            self.add_counter(of_project(project, key), count.into());
        }
    }

    fn add_counter(&mut self, print: u64, times: i64) {
        self.of_counters = self.of_counters.wrapping_add(print.wrapping_mul(times as u64));
    }

    /// Ends the verification. Returns by how many subtasks the totals are off, or 1 if only jobs or projects are; 0 is right.
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

/// The finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
