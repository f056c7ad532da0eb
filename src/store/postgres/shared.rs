//! What the tasks of a store in a database share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::health::Health;
use super::pace::Pace;
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
    pub(super) pace: Arc<Pace>,
    /// Notified when a lane has connected, and when a reader has.
    pub(super) has_lane: Notify,
    pub(super) has_reader: Notify,
    /// How long a report is tried.
    pub(super) patience: Duration,
}
