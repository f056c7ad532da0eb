//! The metrics of the spans that are sent to a collector.

use prometheus::{IntCounter, IntCounterVec};

/// The spans by what became of them.
#[derive(Debug, Clone)]
pub struct SpanMetrics {
    exported: IntCounter,
    refused: IntCounter,
    queue_full: IntCounter,
}

impl SpanMetrics {
    /// Adds the counter of each outcome, at 0.
    pub(super) fn new(spans: &IntCounterVec) -> Self {
        let [exported, refused, queue_full] =
            ["exported", "refused", "queue_full"].map(|outcome| spans.with_label_values(&[outcome]));
        Self { exported, refused, queue_full }
    }

    /// Counts spans that the collector has taken.
    pub fn count_exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    /// Counts spans that were dropped because the collector did not take them.
    pub fn count_refused(&self, spans: usize) {
        self.refused.inc_by(spans as u64);
    }

    /// Counts a span that was dropped because too many waited.
    pub fn count_queue_full(&self) {
        self.queue_full.inc();
    }
}
