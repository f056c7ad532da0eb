//! What the server measures of itself, in a Prometheus registry.
//!
//! Labels come from fixed sets only, never from a request: neither a project nor a token is ever in one.

mod identity;
mod log_lines;
mod register;
mod reload;
mod route;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder as _, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

pub use self::identity::IdentityMetrics;
use self::log_lines::DroppedLines;
use self::register::Registrar;
pub use self::reload::ReloadMetrics;
pub use self::route::{MethodLabel, RouteMetrics};
use crate::domain::{JobTypes, Status};
use crate::store::{Store, StoreError};

/// Which of the two listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Listener {
    /// What the gateway forwards to.
    Public,
    /// Health, metrics and workers' reports.
    Internal,
}

impl Listener {
    /// The name in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
        }
    }
}

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    errors: IntCounterVec,
    reports: IntCounterVec,
    last_accepted_report: IntGauge,
    reports_storable: IntGauge,
    sub_jobs: IntGaugeVec,
    ready: IntGauge,
    in_flight: IntGauge,
    in_flight_limit: IntGauge,
    waiting: IntGaugeVec,
    connections: IntGaugeVec,
    connections_limit: IntGaugeVec,
    reload: ReloadMetrics,
    counter_mismatch: IntGauge,
    verifications: IntCounter,
    count_expired: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let new = Registrar(&registry);
        let build = new.gauges("subjobs_build_info", "1, labelled with the version that runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let reports =
            new.counters("subjobs_reports_total", "Reports: accepted, refused (4xx) or failed (5xx).", &["outcome"])?;
        // Present from the start, so that a rate over them is right from the first event on.
        for outcome in ["accepted", "refused", "failed"] {
            reports.with_label_values(&[outcome]);
        }
        registry.register(Box::new(DroppedLines::new()?))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            requests: new.counters(
                "subjobs_http_requests_total",
                "Requests answered.",
                &["listener", "route", "method", "status"],
            )?,
            durations: new.histograms(
                "subjobs_http_request_duration_seconds",
                "From a request's head to its response's head.",
                &["listener", "route"],
            )?,
            errors: new.counters(
                "subjobs_refusals_total",
                "Requests answered with an error, by reason.",
                &["reason"],
            )?,
            reports,
            last_accepted_report: new.gauge(
                "subjobs_last_accepted_report_timestamp_seconds",
                "When the last report was accepted, in Unix time; 0 before the first.",
            )?,
            reports_storable: new.gauge(
                "subjobs_reports_storable",
                "1 if reports can be stored, 0 if the data directory takes none.",
            )?,
            sub_jobs: new.gauges("subjobs_subtasks", "Subtasks stored, of all projects.", &["job_type", "status"])?,
            ready: new.gauge("subjobs_ready", "1 if /readyz says 200, else 0.")?,
            in_flight: new.gauge(
                "subjobs_http_in_flight",
                "Requests of the public API under way, those that wait included.",
            )?,
            in_flight_limit: new.gauge(
                "subjobs_http_in_flight_limit",
                "The most requests of the public API that are worked on at once.",
            )?,
            waiting: new.gauges(
                "subjobs_http_waiting",
                "Requests of the public API that wait for their body or for the identity service.",
                &["for"],
            )?,
            connections: new.gauges("subjobs_http_connections", "Open connections.", &["listener"])?,
            connections_limit: new.gauges(
                "subjobs_http_connections_limit",
                "The most connections that may be open.",
                &["listener"],
            )?,
            reload: ReloadMetrics::new(&registry)?,
            counter_mismatch: new.gauge(
                "subjobs_recount_drift",
                "By how many subtasks recounts have found the counts off, at most (1 may also mean only the shares of jobs or projects); anything but 0 is a fault.",
            )?,
            verifications: new.counter("subjobs_recounts_total", "Recounts of all subtasks from the records.")?,
            count_expired: new.counter("subjobs_expired_total", "Subtasks dropped because they had ended long ago.")?,
            registry,
        })
    }

    /// The gauge of a listener's open connections.
    pub fn connections(&self, listener: Listener) -> IntGauge {
        self.connections.with_label_values(&[listener.as_str()])
    }

    /// Notes how many connections a listener takes.
    pub fn set_connections_limit(&self, listener: Listener, max: usize) {
        self.connections_limit.with_label_values(&[listener.as_str()]).set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// Notes how many requests of the public API are worked on at once.
    pub fn set_in_flight_limit(&self, max: u32) {
        self.in_flight_limit.set(max.into());
    }

    /// The metrics of the identity service, to be asked for once.
    pub fn identity(&self) -> Result<IdentityMetrics, prometheus::Error> {
        IdentityMetrics::new(&self.registry)
    }

    /// The metrics of reading the access file again.
    pub fn reload(&self) -> ReloadMetrics {
        self.reload.clone()
    }

    /// Shows a reason for refusals before the first one.
    pub fn init_error_reasons(&self, reasons: &[&str]) {
        for reason in reasons {
            self.errors.with_label_values(&[*reason]);
        }
    }

    /// Counts an error answer.
    pub fn count_error(&self, reason: &str) {
        self.errors.with_label_values(&[reason]).inc();
    }

    /// Notes what a recount has found.
    pub fn record_verification(&self, counter_mismatch: u64) {
        self.verifications.inc();
        self.counter_mismatch.set(i64::try_from(counter_mismatch).unwrap_or(i64::MAX));
    }

    /// Counts subtasks that have been dropped.
    pub fn count_expired(&self, sub_jobs: u64) {
        self.count_expired.inc_by(sub_jobs);
    }

    /// Counts a report by the status it was answered with.
    pub fn count_report(&self, status: StatusCode) {
        let outcome = match status.as_u16() {
            ..400 => {
                self.last_accepted_report.set(unix_time());
                "accepted"
            }
            400..500 => "refused",
            500.. => "failed",
        };
        self.reports.with_label_values(&[outcome]).inc();
    }

    /// The counters of one route of one listener.
    pub fn route(self: &Arc<Self>, listener: Listener, route: &'static str) -> RouteMetrics {
        RouteMetrics {
            duration: self.durations.with_label_values(&[listener.as_str(), route]),
            requests: Default::default(),
            metrics: self.clone(),
            listener,
            route,
        }
    }

    /// All of it in the Prometheus text format, with what others count as it is now: the store's totals, whether it takes
    /// reports and whether the server is ready, and the requests of the public API being worked on.
    pub fn render(
        &self,
        store: &Store,
        job_types: &JobTypes,
        is_ready: bool,
        in_flight: InFlight,
    ) -> Result<Vec<u8>, RenderError> {
        let InFlight { all, awaiting_body, awaiting_identity } = in_flight;
        self.ready.set(is_ready.into());
        self.reports_storable.set(store.takes_reports().into());
        self.in_flight.set(all.into());
        for (what, waiting) in [("body", awaiting_body), ("identity", awaiting_identity)] {
            self.waiting.with_label_values(&[what]).set(waiting.into());
        }
        for job_type in job_types.iter() {
            for status in Status::ALL {
                let total = store.total(job_type, status)?;
                let gauge = self.sub_jobs.with_label_values(&[job_types.label(job_type), status.as_str()]);
                gauge.set(i64::try_from(total).unwrap_or(i64::MAX));
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Seconds since 1970; 0 by a clock that is before.
fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The requests of the public API under way.
#[derive(Debug, Clone, Copy, Default)]
pub struct InFlight {
    /// All of them.
    pub all: u32,
    /// Those that wait for their own bodies.
    pub awaiting_body: u32,
    /// Those that wait for the identity service.
    pub awaiting_identity: u32,
}

/// Why there are no metrics to show.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry cannot be written down.
    #[error(transparent)]
    Encoding(#[from] prometheus::Error),
}
