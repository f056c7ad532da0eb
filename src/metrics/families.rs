//! The metric families of the server, apart from those of routes, of the identity service and of reloads.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::metrics;

metrics! {
    /// Listeners, requests and readiness.
    pub(super) struct ServerMetrics {
        build_info: IntGaugeVec = "subjobs_build_info" ["version"] "1, labelled with the version that runs.",
        ready: IntGauge = "subjobs_ready" [] "1 if /readyz says 200, else 0.",
        errors: IntCounterVec = "subjobs_refusals_total" ["reason"] "Requests answered with an error, by reason.",
        in_flight: IntGauge = "subjobs_http_in_flight" []
            "Requests of the public API in flight, including those that wait.",
        in_flight_limit: IntGauge = "subjobs_http_in_flight_limit" []
            "The most requests of the public API that are processed at once.",
        waiting: IntGaugeVec = "subjobs_http_waiting" ["for"]
            "Requests that wait for their body, for the identity service, or for a change of what is stored.",
        connections: IntGaugeVec = "subjobs_http_connections" ["listener"] "Open connections.",
        connections_limit: IntGaugeVec = "subjobs_http_connections_limit" ["listener"]
            "The most connections that may be open.",
        spans: IntCounterVec = "subjobs_spans_total" ["outcome"]
            "Spans of requests: exported, or dropped since the collector did not take them (refused) or too many waited (queue_full).",
    }
}

metrics! {
    /// Reports and stored subtasks.
    pub(super) struct StoreMetrics {
        reports: IntCounterVec = "subjobs_reports_total" ["outcome"]
            "Reports: accepted, refused (4xx) or failed (5xx).",
        last_accepted_report: IntGauge = "subjobs_last_accepted_report_timestamp_seconds" []
            "When the last report was accepted, in Unix time; 0 before the first.",
        reports_storable: IntGauge = "subjobs_reports_storable" []
            "1 if reports can be stored, 0 if the data directory takes none.",
        sub_jobs: IntGaugeVec = "subjobs_subtasks" ["job_type", "status"] "Subtasks stored, of all projects.",
        counter_mismatch: IntGauge = "subjobs_recount_drift" []
            "The largest difference, in subtasks, that verifications found between counters and records (1 may also mean that \
             only counters of jobs or projects differ); anything but 0 is a bug.",
        verifications: IntCounter = "subjobs_recounts_total" [] "Completed verifications of the counters.",
        expired: IntCounter = "subjobs_expired_total" [] "Subtasks deleted by --retain-finished.",
    }
}
