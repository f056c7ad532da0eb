//! How fast large groups are written: gently, while counts are slow.
//!
//! A statement that writes a thousand rows takes some ten milliseconds of a core of the database. If it has few cores, counts wait for
//! one meanwhile. So after a slow count large groups are written in slices, which let counts run between two of them, and one at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The number of subtasks or rows from which a group is large.
pub(super) const LARGE_GROUP: usize = 512;

/// The most rows of one statement, so that none of a large report comes near the time limit of a session.
pub(super) const SLICE: usize = 16 * 1024;

/// The most rows of a transaction that adds subtasks beside others: lists wait for it.
const MAX_SHARED: usize = 4096;

/// The rows of a slice that lets counts run: the database takes some 0.1 ms for them.
const GENTLE_SLICE: usize = 8;

/// In how many such slices rows are written at most, as locks are held until the last one.
const MAX_GENTLE_SLICES: usize = 256;

/// A group read that takes longer is slow, unless it has many keys. At rest one of a hundred takes half as long.
const SLOW_READ: Duration = Duration::from_millis(1);

/// The most keys of a group read that tells how slow the database is: more keys take longer at rest too.
const FEW_KEYS: usize = 128;

/// How long large groups are written gently after a slow read.
const GENTLE_TIME: Duration = Duration::from_secs(1);

/// For how long a transaction writes slices, after which the rest is sent at once: other sessions wait for its locks for 2 s.
const MAX_GENTLE_WRITE: Duration = Duration::from_millis(500);

/// If no group read is faster, the database is too far away for slices: each would wait for the network longer than it works.
const NEAR: Duration = Duration::from_micros(300);

/// What group reads tell about the load of the database. Times are in microseconds.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    /// The time of the fastest group read of the present connections.
    fastest_read: AtomicU64,
    /// Until when large groups are written gently, counted from `start`.
    gentle_until: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { start: Instant::now(), fastest_read: AtomicU64::new(u64::MAX), gentle_until: AtomicU64::new(0) }
    }
}

impl Pace {
    /// Notes a new connection for counts, which may be to another host.
    pub(super) fn note_connected(&self) {
        self.fastest_read.store(u64::MAX, Ordering::Relaxed);
    }

    /// Notes how long a group read of so many keys took.
    pub(super) fn note_read(&self, keys: usize, took: Duration) {
        self.fastest_read.fetch_min(micros(took), Ordering::Relaxed);
        if took >= SLOW_READ && keys <= FEW_KEYS {
            let until = self.start.elapsed() + GENTLE_TIME;
            self.gentle_until.fetch_max(micros(until), Ordering::Relaxed);
        }
    }

    /// Whether large groups are written gently now.
    pub(super) fn is_gentle(&self) -> bool {
        let is_near = self.fastest_read.load(Ordering::Relaxed) < micros(NEAR);
        is_near && micros(self.start.elapsed()) < self.gentle_until.load(Ordering::Relaxed)
    }

    /// How many rows a statement of a transaction has at most that locks or writes so many.
    pub(super) fn slice(&self, rows: usize) -> usize {
        match rows >= LARGE_GROUP && self.is_gentle() {
            true => rows.div_ceil(MAX_GENTLE_SLICES).clamp(GENTLE_SLICE, SLICE),
            false => SLICE,
        }
    }
}

/// Whether a transaction that writes so many rows, and at most `slice` of them in one statement, adds subtasks alone.
pub(super) fn is_alone(rows: usize, slice: usize) -> bool {
    rows > slice.min(MAX_SHARED)
}

/// Until when a transaction that begins to write so many rows now writes them in slices; `None` if until the end, because they are too
/// many for one statement.
pub(super) fn slices_until(rows: usize) -> Option<Instant> {
    (rows <= SLICE).then(|| Instant::now() + MAX_GENTLE_WRITE)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
