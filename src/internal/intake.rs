//! How much of reports may be held and worked on, and by whom.

use std::sync::Arc;
use std::time::Duration;

use super::replays::Replays;
use super::shares::Shares;
use super::turns::Turns;
use crate::web::budget::{ByteBudget, Limits};

const MIB: usize = 1024 * 1024;

/// The bytes of reports that are held. Those of one principal are half of them at most, and so are those that anybody may have
/// sent who knows the ids of access keys.
const BYTES: Limits = Limits { total: 256 * MIB, principal: 128 * MIB, claimed: 64 * MIB, all_claimed: 128 * MIB };

/// What reports share.
#[derive(Debug)]
pub struct Intake {
    pub(super) bytes: Arc<ByteBudget>,
    /// One for each report that a thread may work on: more threads than cores would only get in each other's way.
    pub(super) turns: Arc<Turns>,
    pub(super) shares: Arc<Shares>,
    pub(super) replays: Arc<Replays>,
}

impl Intake {
    /// For reports that take at most `report_timeout`.
    pub fn new(report_timeout: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            bytes: ByteBudget::new(BYTES),
            turns: Turns::new(cores),
            shares: Arc::default(),
            replays: Replays::new(report_timeout),
        }
    }
}
