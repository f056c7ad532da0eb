//! Limits on the reports that are processed at once, together and for each principal.

use std::sync::Arc;
use std::time::Duration;

use super::fair_queue::FairQueue;
use super::replay_cache::ReplayCache;
use super::store_quotas::StoreQuotas;
use crate::web::budget::{ByteBudget, Limits};

const MIB: usize = 1024 * 1024;

/// The bytes of reports that are held. One principal has at most half of them, and so have all senders whose signatures are not
/// verified yet: such a sender only needs to know the id of an access key.
const BYTES: Limits =
    Limits { total: 256 * MIB, principal: 128 * MIB, unverified: 64 * MIB, all_unverified: 128 * MIB };

/// The limits that all reports share.
#[derive(Debug)]
pub struct ReportLimits {
    pub(super) bytes: Arc<ByteBudget>,
    /// As many turns as there are cores: more threads would compete for them.
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
