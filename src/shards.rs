//! What each request changes: a copy for each core, as a number that two cores change moves between their caches each time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// The most copies: each costs memory, and time where they are added up. Where there are more cores, some share a copy.
const MAX_SHARDS: usize = 16;

/// Copies of `T`, one for each of at most 16 cores. A thread always changes the same one.
#[derive(Debug)]
pub struct Shards<T>(Box<[Shard<T>]>);

/// On cache lines of its own. Processors fetch them in pairs of 64 bytes.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<T>(T);

impl<T> Shards<T> {
    /// Copies that `make` makes, each of its number.
    pub fn from_fn(make: impl FnMut(usize) -> T) -> Self {
        // Asked once, because the answer is read from files of the system.
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from).min(MAX_SHARDS));
        Self((0..cores).map(make).map(Shard).collect())
    }

    /// The copy of the current thread, which some other threads may have too.
    pub fn own(&self) -> &T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let Shard(own) = &self.0[NUMBER.with(|number| *number) % self.0.len()];
        own
    }

    /// All copies.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Shard(copy)| copy)
    }
}
