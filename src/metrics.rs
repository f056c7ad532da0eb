//! What the server measures of itself, in a Prometheus registry.
//!
//! Labels come from fixed sets only, never from a request: neither a project nor a token is ever in one.

mod log_lines;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use self::log_lines::DroppedLines;
use crate::domain::{JobTypes, Status};
use crate::store::{Store, StoreError};

/// The upper bounds of the duration histogram, in seconds: from a count in memory to the longest report.
const BUCKETS: [f64; 14] =
    [0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0, 60.0];

/// The methods that a label tells apart; every other one is `other`.
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];

/// The statuses that this server answers with.
const STATUSES: [u16; 10] = [200, 400, 401, 403, 404, 405, 413, 415, 500, 503];

/// The label of a method, which outlives the request.
#[derive(Debug, Clone, Copy)]
pub struct MethodLabel(usize);

impl From<&Method> for MethodLabel {
    fn from(method: &Method) -> Self {
        Self(METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1))
    }
}

impl MethodLabel {
    /// The method's name, or `other`.
    pub fn as_str(self) -> &'static str {
        METHODS[self.0]
    }
}

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
        let calls = IntCounterVec::new(
            Opts::new("subjobs_identity_calls_total", "Calls to the identity service: accepted, refused or failed."),
            &["outcome"],
        )?;
        let durations = Histogram::with_opts(
            HistogramOpts::new("subjobs_identity_call_duration_seconds", "Calls to the identity service.")
                .buckets(BUCKETS.to_vec()),
        )?;
        let cache = IntCounterVec::new(
            Opts::new(
                "subjobs_identity_cache_total",
                "Look-ups of tokens: hit, refused (a hit among the refused) or miss.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(cache.clone()))?;
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

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    refusals: IntCounterVec,
    reports: IntCounterVec,
    sub_jobs: IntGaugeVec,
    in_flight: IntGauge,
    waiting: IntGaugeVec,
    connections: IntGaugeVec,
    drift: IntGauge,
    recounts: IntCounter,
    expired: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            registry: Registry::new(),
            requests: counters(
                "subjobs_http_requests_total",
                "Requests answered.",
                &["listener", "route", "method", "status"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "subjobs_http_request_duration_seconds",
                    "From a request's head to its response's head.",
                )
                .buckets(BUCKETS.to_vec()),
                &["listener", "route"],
            )?,
            refusals: counters("subjobs_refusals_total", "Requests answered with an error, by reason.", &["reason"])?,
            reports: counters(
                "subjobs_reports_total",
                "Workers' reports: accepted, refused (4xx) or failed (5xx).",
                &["outcome"],
            )?,
            sub_jobs: gauges("subjobs_subtasks", "Subtasks stored, of all projects.", &["job_type", "status"])?,
            in_flight: IntGauge::new(
                "subjobs_http_in_flight",
                "Requests of the public API under way, those that wait included.",
            )?,
            waiting: gauges(
                "subjobs_http_waiting",
                "Requests of the public API that wait for their body or for the identity service.",
                &["for"],
            )?,
            connections: gauges("subjobs_http_connections", "Open connections.", &["listener"])?,
            drift: IntGauge::new(
                "subjobs_recount_drift",
                "By how many subtasks recounts have found the counts off, at most (1 may also mean only the shares of jobs or projects); anything but 0 is a fault.",
            )?,
            recounts: IntCounter::new("subjobs_recounts_total", "Recounts of all subtasks from the records.")?,
            expired: IntCounter::new("subjobs_expired_total", "Subtasks dropped because they had ended long ago.")?,
        };
        let build = gauges("subjobs_build_info", "1, labelled with the version that runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // Present from the start, so that a rate over them is right from the first event on.
        for outcome in ["accepted", "refused", "failed"] {
            metrics.reports.with_label_values(&[outcome]);
        }
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.refusals.clone()))?;
        registry.register(Box::new(metrics.reports.clone()))?;
        registry.register(Box::new(metrics.sub_jobs.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.drift.clone()))?;
        registry.register(Box::new(metrics.recounts.clone()))?;
        registry.register(Box::new(metrics.expired.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(DroppedLines::new()?))?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// The gauge of a listener's open connections.
    pub fn connections(&self, listener: Listener) -> IntGauge {
        self.connections.with_label_values(&[listener.as_str()])
    }

    /// The metrics of the identity service, to be asked for once.
    pub fn identity(&self) -> Result<IdentityMetrics, prometheus::Error> {
        IdentityMetrics::new(&self.registry)
    }

    /// Shows a reason for refusals before the first one.
    pub fn expect_refusals(&self, reasons: &[&str]) {
        for reason in reasons {
            self.refusals.with_label_values(&[*reason]);
        }
    }

    /// Counts an error answer.
    pub fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Notes what a recount has found.
    pub fn recounted(&self, drift: u64) {
        self.recounts.inc();
        self.drift.set(i64::try_from(drift).unwrap_or(i64::MAX));
    }

    /// Counts subtasks that have been dropped.
    pub fn expired(&self, sub_jobs: u64) {
        self.expired.inc_by(sub_jobs);
    }

    /// Counts a report by the status it was answered with.
    pub fn reported(&self, status: StatusCode) {
        let outcome = match status.as_u16() {
            ..400 => "accepted",
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

    /// All of it in the Prometheus text format, with what others count as it is now: the store's totals, and the requests
    /// of the public API being worked on.
    pub fn render(&self, store: &Store, job_types: &JobTypes, in_flight: InFlight) -> Result<Vec<u8>, RenderError> {
        let InFlight { all, awaiting_body, awaiting_identity } = in_flight;
        self.in_flight.set(all.into());
        for (what, waiting) in [("body", awaiting_body), ("identity", awaiting_identity)] {
            self.waiting.with_label_values(&[what]).set(waiting.into());
        }
        for job_type in job_types.iter() {
            for status in Status::ALL {
                let total = store.total(job_type, status)?;
                let gauge = self.sub_jobs.with_label_values(&[job_types.name(job_type), status.as_str()]);
                gauge.set(i64::try_from(total).unwrap_or(i64::MAX));
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
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

/// The counters of one route, found once and then only added to: a look-up by label costs more than the count itself.
#[derive(Debug)]
pub struct RouteMetrics {
    metrics: Arc<Metrics>,
    listener: Listener,
    route: &'static str,
    duration: Histogram,
    requests: [[OnceLock<IntCounter>; STATUSES.len()]; METHODS.len()],
}

impl RouteMetrics {
    /// The path's pattern, or `unknown`.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// Counts one answered request.
    pub fn observe(&self, method: MethodLabel, status: StatusCode, duration: Duration) {
        self.duration.observe(duration.as_secs_f64());
        let MethodLabel(method) = method;
        let new = || {
            let labels = [self.listener.as_str(), self.route, METHODS[method], status.as_str()];
            self.metrics.requests.with_label_values(&labels)
        };
        match STATUSES.iter().position(|known| *known == status.as_u16()) {
            Some(known) => self.requests[method][known].get_or_init(new).inc(),
            None => new().inc(),
        }
    }
}
