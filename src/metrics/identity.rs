//! The metrics of the identity service.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, Registry};

use super::register::Registrar;

/// What is measured of the identity service and of what is remembered of its answers.
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
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let new = Registrar(registry);
        let calls = new.counters(
            "subjobs_identity_calls_total",
            "Calls to the identity service: accepted, refused or failed.",
            &["outcome"],
        )?;
        let durations = new.histogram("subjobs_identity_call_duration_seconds", "Calls to the identity service.")?;
        let cache = new.counters(
            "subjobs_identity_cache_total",
            "Look-ups of tokens: hit, refused (a hit among the refused) or miss.",
            &["result"],
        )?;
        for outcome in ["accepted", "refused", "failed"] {
            calls.with_label_values(&[outcome]);
        }
        Ok(Self {
            calls,
            durations,
            hits: cache.with_label_values(&["hit"]),
            misses: cache.with_label_values(&["miss"]),
            refused_hits: cache.with_label_values(&["refused"]),
        })
    }

    /// Counts a call by its outcome.
    pub fn called(&self, outcome: &str, duration: Duration) {
        self.calls.with_label_values(&[outcome]).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// A token was remembered as good.
    pub fn hit(&self) {
        self.hits.inc();
    }

    /// A token was remembered as refused.
    pub fn refused_hit(&self) {
        self.refused_hits.inc();
    }

    /// A token was not remembered.
    pub fn miss(&self) {
        self.misses.inc();
    }
}
