//! The state of the server at one moment.

use std::time::Duration;

use jiff::Timestamp;

use super::State;
use super::history::Counters;
use crate::domain::Status;
use crate::metrics::Activity;

/// The state of the server at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The moment.
    pub at: Timestamp,
    /// Whether the server should get requests.
    pub state: State,
    /// How many subtasks there are of each type, by its index, in each status. `None` if the store cannot say, or is being loaded.
    pub totals: Option<Vec<[u64; Status::COUNT]>>,
    /// What the server has done since its start.
    pub activity: Activity,
    /// What it does now.
    pub rates: Rates,
    /// The largest difference between counters and records that a verification has found; 0 is right.
    pub drift: u64,
    /// Whether reports can be stored, as far as is known.
    pub takes_reports: bool,
}

impl Reading {
    /// How many subtasks of all types there are in each status.
    pub fn by_status(&self) -> Option<[u64; Status::COUNT]> {
        self.totals.as_deref().map(by_status)
    }
}

/// The sums over all types.
pub(super) fn by_status(totals: &[[u64; Status::COUNT]]) -> [u64; Status::COUNT] {
    totals.iter().fold([0; Status::COUNT], |mut sums, counts| {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        sums
    })
}

/// Events a second, over the last five to ten seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Rates {
    /// Accepted reports.
    pub reports: f64,
    /// Answered counts.
    pub counts: f64,
    /// Requests to the public listener.
    pub requests: f64,
    /// Requests that were answered with an error.
    pub refusals: f64,
}

impl Rates {
    /// The rates between two readings of the counters, to the hundredth.
    pub(super) fn between(before: &Counters, after: &Counters, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(1.0);
        let rate = |before: u64, after: u64| (after.saturating_sub(before) as f64 / seconds * 100.0).round() / 100.0;
        Self {
            reports: rate(before.reports, after.reports),
            counts: rate(before.counts, after.counts),
            requests: rate(before.requests, after.requests),
            refusals: rate(before.refusals, after.refusals),
        }
    }
}
