//! The metrics of a store in a database. The store counts; the values are copied when the metrics are rendered.

use prometheus::{CounterVec, IntCounter, IntCounterVec, IntGauge};

use super::register::metrics;
use crate::store::DatabaseStats;

metrics! {
    /// Connections, round trips and commits.
    pub(super) struct DatabaseMetrics {
        connected: IntGauge = "subjobs_store_connected" [] "1 if the database answers, else 0.",
        round_trips: IntCounterVec = "subjobs_store_round_trips_total" ["lane"]
            "Groups: round trips that answered counts (read), and committed transactions (write).",
        round_trip_seconds: CounterVec = "subjobs_store_round_trip_seconds_total" ["lane"] "The time that these groups took.",
        counts: IntCounter = "subjobs_store_counts_total" [] "Counts that were answered by read groups.",
        committed: IntCounter = "subjobs_store_committed_subtasks_total" [] "Subtasks in write groups.",
        retries: IntCounter = "subjobs_store_retries_total" []
            "Transactions that were repeated, because another was in the way.",
        unknown: IntCounterVec = "subjobs_store_unknown_total" ["resolved"]
            "Commits during which the connection was lost, by what was found: committed, absent, or given up.",
        fenced: IntCounter = "subjobs_store_fenced_total" []
            "Transactions that were refused, because their lane was registered again.",
    }
}

impl DatabaseMetrics {
    /// Sets all values. One caller at a time, because a counter can only be increased.
    pub(super) fn set(&self, stats: &DatabaseStats) {
        self.connected.set(stats.is_connected.into());
        for (lane, groups, micros) in
            [("read", stats.reads, stats.read_micros), ("write", stats.commits, stats.commit_micros)]
        {
            raise(&self.round_trips.with_label_values(&[lane]), groups);
            let seconds = self.round_trip_seconds.with_label_values(&[lane]);
            seconds.inc_by((micros as f64 / 1e6 - seconds.get()).max(0.0));
        }
        raise(&self.counts, stats.read_counts);
        raise(&self.committed, stats.committed_sub_jobs);
        raise(&self.retries, stats.repeats);
        for (resolved, commits) in [
            ("committed", stats.unknown_committed),
            ("absent", stats.unknown_absent),
            ("given_up", stats.unknown_given_up),
        ] {
            raise(&self.unknown.with_label_values(&[resolved]), commits);
        }
        raise(&self.fenced, stats.fenced);
    }
}

/// Increases a counter to a value.
fn raise(counter: &IntCounter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}
