//! What a store in a database counts of its own work, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Transactions that were committed.
    pub(super) commits: AtomicU64,
    /// Subtasks in them.
    pub(super) committed_sub_jobs: AtomicU64,
    /// Microseconds that committed transactions took.
    pub(super) commit_micros: AtomicU64,
    /// Round trips that answered counts.
    pub(super) reads: AtomicU64,
    /// Counts that they answered.
    pub(super) read_counts: AtomicU64,
    /// Microseconds that they took.
    pub(super) read_micros: AtomicU64,
    /// Transactions that were repeated.
    pub(super) repeats: AtomicU64,
    /// Registrations that another process had taken over.
    pub(super) fenced: AtomicU64,
    /// Commits of unknown outcome that were found committed.
    pub(super) unknown_committed: AtomicU64,
    /// Those that were found absent, and repeated.
    pub(super) unknown_absent: AtomicU64,
    /// Those that were given up.
    pub(super) unknown_given_up: AtomicU64,
}

impl Stats {
    pub(super) fn note_commit(&self, sub_jobs: usize, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.committed_sub_jobs.fetch_add(sub_jobs as u64, Ordering::Relaxed);
        self.commit_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn note_read(&self, counts: usize, took: Duration) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_counts.fetch_add(counts as u64, Ordering::Relaxed);
        self.read_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
