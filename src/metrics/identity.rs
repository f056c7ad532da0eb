//! The metrics of the identity service.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, Registry};

use super::register::metrics;

metrics! {
    struct Families {
        calls: IntCounterVec = "subjobs_identity_calls_total" ["outcome"]
            "Calls to the identity service: accepted, refused or failed.",
        durations: Histogram = "subjobs_identity_call_duration_seconds" [] "Calls to the identity service.",
        cache: IntCounterVec = "subjobs_identity_cache_total" ["result"]
            "Look-ups of tokens: hit, refused (a hit among the refused) or miss.",
    }
}

/// The calls to the identity service, and the look-ups in the cache of its answers.
#[derive(Debug, Clone)]
pub struct IdentityMetrics {
    calls: IntCounterVec,
    durations: Histogram,
    hits: IntCounter,
    misses: IntCounter,
    refused_hits: IntCounter,
}

impl IdentityMetrics {
    /// Registers the metrics of the identity service.
    ///
    /// # Errors
    ///
    /// If `registry` has them already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let Families { calls, durations, cache } = Families::register(registry)?;
        for outcome in ["accepted", "refused", "failed"] {
            calls.with_label_values(&[outcome]);
        }
        let [hits, misses, refused_hits] = ["hit", "miss", "refused"].map(|result| cache.with_label_values(&[result]));
        Ok(Self { calls, durations, hits, misses, refused_hits })
    }

    /// Counts a call by its outcome.
    pub fn called(&self, outcome: &str, duration: Duration) {
        self.calls.with_label_values(&[outcome]).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// Counts a look-up that found an accepted token in the cache.
    pub fn hit(&self) {
        self.hits.inc();
    }

    /// Counts a look-up that found a refused token in the cache.
    pub fn refused_hit(&self) {
        self.refused_hits.inc();
    }

    /// Counts a look-up that found no token in the cache.
    pub fn miss(&self) {
        self.misses.inc();
    }
}
