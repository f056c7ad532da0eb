//! What the tasks of a store in a database share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::health::Health;
use super::stats::Stats;
use super::target::Target;
use super::types::TypeNumbers;
use crate::store::watch::Watches;

/// What the tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) types: TypeNumbers,
    pub(super) health: Arc<Health>,
    pub(super) watches: Arc<Watches>,
    pub(super) stats: Arc<Stats>,
    /// Notified when a lane has connected, and when a reader has.
    pub(super) has_lane: Notify,
    pub(super) has_reader: Notify,
    /// The blocks of `seq` that load files of this process have used: one for each commit of a load.
    pub(super) loaded_blocks: Mutex<HashSet<i64>>,
    /// How long a report is tried.
    pub(super) patience: Duration,
}

impl Shared {
    pub(super) fn loaded_blocks(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.loaded_blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
