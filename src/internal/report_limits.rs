//! How much of reports may be held and worked on, and by whom.

use std::sync::Arc;
use std::time::Duration;

use super::fair_queue::FairQueue;
use super::replay_cache::ReplayCache;
use super::store_quotas::StoreQuotas;
use crate::web::budget::{ByteBudget, Limits};

const MIB: usize = 1024 * 1024;

/// The bytes of reports that are held. Those of one principal are half of them at most, and so are those that anybody may have
/// sent who knows the ids of access keys.
const BYTES: Limits =
    Limits { total: 256 * MIB, principal: 128 * MIB, unverified: 64 * MIB, all_unverified: 128 * MIB };

/// What reports share.
#[derive(Debug)]
pub struct ReportLimits {
    pub(super) bytes: Arc<ByteBudget>,
    /// One for each report that a thread may work on: more threads than cores would only get in each other's way.
    pub(super) turns: Arc<FairQueue>,
    pub(super) store_quotas: Arc<StoreQuotas>,
    pub(super) replay_cache: Arc<ReplayCache>,
}

impl ReportLimits {
    /// For reports that take at most `report_timeout`.
    pub fn new(report_timeout: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            bytes: ByteBudget::new(BYTES),
            turns: FairQueue::new(cores),
            store_quotas: Arc::default(),
            replay_cache: ReplayCache::new(report_timeout),
        }
    }
}
