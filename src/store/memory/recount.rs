//! Counting again from the records, a slice at a time while reports go on, to show that no tally has drifted.
//!
//! A recount goes through the records, then the jobs' tallies, then the projects'. What changes behind it is added to what
//! it has found; what changes ahead of it will be found. The numbers by type and status are compared as they are. That
//! each job and project has its own numbers too is compared by a fingerprint, which takes no memory: the sum, over all
//! subtasks, of a number made of job and cell and one made of project and cell, must be the sum over all tallies of the same
//! numbers times their counts. A tally that is wrong changes it, but for one chance in 2^64.

use super::records::{JobNumber, Record};
use super::tallies::{Changes, ProjectNumber};
use super::tally::{Cell, Dense, Sparse};

/// What a recount goes through, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Phase {
    #[default]
    Records,
    Jobs,
    Projects,
}

/// A recount under way; at its beginning, which is also where it stands between two, nothing has been found.
#[derive(Debug, Default)]
pub(super) struct Recount {
    phase: Phase,
    /// The number that comes next in this phase.
    at: u32,
    /// By cell, as the records have it.
    by_cell: Vec<i64>,
    of_records: u64,
    of_tallies: u64,
}

impl Recount {
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn at(&self) -> u32 {
        self.at
    }

    pub(super) fn move_to(&mut self, at: u32) {
        self.at = at;
    }

    /// Goes on to the next phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        (self.phase, self.at) = (phase, 0);
    }

    /// Whether what has that number in that phase has been gone through.
    fn is_past(&self, phase: Phase, number: u32) -> bool {
        (phase, number) < (self.phase, self.at)
    }

    /// A record has come, or gone, as `times` is 1 or -1.
    pub(super) fn record(&mut self, number: u32, project: ProjectNumber, record: &Record, times: i64) {
        if self.is_past(Phase::Records, number) {
            self.add_record(project, record, times);
        }
    }

    /// A record has been met.
    pub(super) fn found(&mut self, project: ProjectNumber, record: &Record) {
        self.add_record(project, record, 1);
    }

    fn add_record(&mut self, project: ProjectNumber, record: &Record, times: i64) {
        let cell = record.cell.index();
        if self.by_cell.len() <= cell {
            self.by_cell.resize(cell + 1, 0);
        }
        self.by_cell[cell] += times;
        let print = of_job(record.job, record.cell).wrapping_add(of_project(project, record.cell));
        self.of_records = self.of_records.wrapping_add(print.wrapping_mul(times as u64));
    }

    /// Tallies have been changed.
    pub(super) fn changed(&mut self, changes: &Changes) {
        if self.phase == Phase::Records {
            return;
        }
        for delta in changes.of_jobs() {
            if self.is_past(Phase::Jobs, delta.job.0) {
                self.add_tally(of_job(delta.job, delta.cell), delta.change.into());
            }
        }
        let project = changes.project();
        if self.is_past(Phase::Projects, project.0) {
            for &(cell, change) in changes.of_project() {
                self.add_tally(of_project(project, cell), change.into());
            }
        }
    }

    /// A job's tally has been met.
    pub(super) fn found_job(&mut self, job: JobNumber, tally: &Sparse) {
        for (cell, count) in tally.cells() {
            self.add_tally(of_job(job, cell), count.into());
        }
    }

    /// A project's tally has been met.
    pub(super) fn found_project(&mut self, project: ProjectNumber, tally: &Dense) {
        for (cell, count) in tally.cells() {
            self.add_tally(of_project(project, cell), count.into());
        }
    }

    fn add_tally(&mut self, print: u64, times: i64) {
        self.of_tallies = self.of_tallies.wrapping_add(print.wrapping_mul(times as u64));
    }

    /// Ends the recount. How many subtasks the totals are off, or 1 if only jobs or projects are; 0 is right.
    pub(super) fn finish(&mut self, totals: &Dense) -> u64 {
        let done = std::mem::take(self);
        let mut found = done.by_cell;
        found.resize(totals.len().max(found.len()), 0);
        for (cell, count) in totals.cells() {
            found[cell.index()] -= i64::from(count);
        }
        let drift = found.iter().map(|difference| difference.unsigned_abs()).sum();
        if drift == 0 && done.of_records != done.of_tallies { 1 } else { drift }
    }
}

fn of_job(job: JobNumber, cell: Cell) -> u64 {
    mixed((job.0 as u64) << 32 | (cell.index() as u64) << 1)
}

fn of_project(project: ProjectNumber, cell: Cell) -> u64 {
    mixed((project.0 as u64) << 32 | (cell.index() as u64) << 1 | 1)
}

/// The finalizer of SplitMix64: neighbours become numbers that have nothing to do with each other.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
