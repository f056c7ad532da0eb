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

/// What a store in a database has done since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseStats {
    /// Whether the database answers.
    pub is_connected: bool,
    /// Transactions that were committed.
    pub commits: u64,
    /// Subtasks in them.
    pub committed_sub_jobs: u64,
    /// Microseconds that they took, with the wait for a connection.
    pub commit_micros: u64,
    /// Round trips that answered counts.
    pub reads: u64,
    /// Counts that they answered.
    pub read_counts: u64,
    /// Microseconds that they took.
    pub read_micros: u64,
    /// Transactions that were repeated, because another was in the way.
    pub repeats: u64,
    /// Transactions that were refused, because their lane was registered again.
    pub fenced: u64,
    /// Commits of unknown outcome that were found committed.
    pub unknown_committed: u64,
    /// Those that were found absent, and repeated.
    pub unknown_absent: u64,
    /// Those whose outcome stayed unknown.
    pub unknown_given_up: u64,
}

impl Stats {
    /// The values now.
    pub(super) fn read(&self, is_connected: bool) -> DatabaseStats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DatabaseStats {
            is_connected,
            commits: value(&self.commits),
            committed_sub_jobs: value(&self.committed_sub_jobs),
            commit_micros: value(&self.commit_micros),
            reads: value(&self.reads),
            read_counts: value(&self.read_counts),
            read_micros: value(&self.read_micros),
            repeats: value(&self.repeats),
            fenced: value(&self.fenced),
            unknown_committed: value(&self.unknown_committed),
            unknown_absent: value(&self.unknown_absent),
            unknown_given_up: value(&self.unknown_given_up),
        }
    }

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
