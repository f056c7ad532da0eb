//! The metrics of the server, in a Prometheus registry.
//!
//! Label values come from fixed sets and never from a request, so no project or token is in one.

mod activity;
mod database;
mod families;
mod identity;
mod log_lines;
mod register;
mod reload;
mod requests;
mod route;
mod spans;
mod tls;

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder as _, IntGauge, Registry, TextEncoder};

pub use self::activity::Activity;
use self::database::DatabaseMetrics;
use self::families::{ServerMetrics, StoreMetrics};
pub use self::identity::IdentityMetrics;
use self::log_lines::DroppedLines;
pub use self::reload::ReloadMetrics;
use self::requests::RequestFamilies;
pub use self::route::{MethodLabel, RouteMetrics};
pub use self::spans::SpanMetrics;
use self::tls::TlsFamilies;
pub use self::tls::{HandshakeResult, TlsMetrics};
use crate::domain::{JobTypes, Status};
use crate::store::Store;

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

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: RequestFamilies,
    server: ServerMetrics,
    store: StoreMetrics,
    reload: ReloadMetrics,
    tls: TlsFamilies,
    /// Registered when a store in a database is rendered. Locked while the values are set.
    database: Mutex<Option<DatabaseMetrics>>,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    ///
    /// If two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(DroppedLines::new()?))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let requests = RequestFamilies::new()?;
        registry.register(Box::new(requests.clone()))?;
        let (server, store) = (ServerMetrics::register(&registry)?, StoreMetrics::register(&registry)?);
        server.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // At 0 from the start, so that a rate is right from the first event on.
        for outcome in ["accepted", "refused", "failed"] {
            store.reports.with_label_values(&[outcome]);
        }
        let (reload, tls) = (ReloadMetrics::register(&registry)?, TlsFamilies::register(&registry)?);
        Ok(Self { reload, tls, requests, server, store, registry, database: Mutex::default() })
    }

    /// The gauge of a listener's open connections.
    pub fn connections(&self, listener: Listener) -> IntGauge {
        self.server.connections.with_label_values(&[listener.as_str()])
    }

    /// Sets how many connections a listener accepts.
    pub fn set_connections_limit(&self, listener: Listener, max: usize) {
        self.server
            .connections_limit
            .with_label_values(&[listener.as_str()])
            .set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// Sets how many requests of the public API may be processed at once.
    pub fn set_in_flight_limit(&self, max: u32) {
        self.server.in_flight_limit.set(max.into());
    }

    /// Registers the metrics of the identity service. Called once.
    ///
    /// # Errors
    ///
    /// If it is called twice.
    pub fn identity(&self) -> Result<IdentityMetrics, prometheus::Error> {
        IdentityMetrics::new(&self.registry)
    }

    /// The metrics of reloading the access file.
    pub fn reload(&self) -> ReloadMetrics {
        self.reload.clone()
    }

    /// The metrics of spans. Without this call no series is in the text.
    pub fn spans(&self) -> SpanMetrics {
        SpanMetrics::new(&self.server.spans)
    }

    /// The metrics of a listener's TLS.
    pub fn tls(&self, listener: Listener) -> TlsMetrics {
        TlsMetrics::new(&self.tls, listener)
    }

    /// Adds the counter of each error reason, at 0.
    pub fn init_error_reasons(&self, reasons: &[&str]) {
        for reason in reasons {
            self.server.errors.with_label_values(&[*reason]);
        }
    }

    /// Counts an error response by its reason.
    pub fn count_error(&self, reason: &str) {
        self.server.errors.with_label_values(&[reason]).inc();
    }

    /// Records a completed verification of the counters, and by how many subtasks they are off.
    pub fn record_verification(&self, counter_mismatch: u64) {
        self.store.verifications.inc();
        self.store.counter_mismatch.set(i64::try_from(counter_mismatch).unwrap_or(i64::MAX));
    }

    /// Counts expired subtasks that have been deleted.
    pub fn count_expired(&self, sub_jobs: u64) {
        self.store.expired.inc_by(sub_jobs);
    }

    /// Counts a report by the status of its response.
    pub fn count_report(&self, status: StatusCode) {
        let outcome = match status.as_u16() {
            ..400 => {
                self.store.last_accepted_report.set(unix_time());
                "accepted"
            }
            400..500 => "refused",
            500.. => "failed",
        };
        self.store.reports.with_label_values(&[outcome]).inc();
    }

    /// The metrics of one route of one listener.
    pub fn route(&self, listener: Listener, route: &'static str) -> RouteMetrics {
        self.requests.route(listener, route)
    }

    /// All metrics in the Prometheus text format. Gauges are set to the current state first. If the store is poisoned, the
    /// gauges of stored subtasks are left out.
    ///
    /// # Errors
    ///
    /// If the registry cannot be encoded.
    pub fn render(
        &self,
        store: &Store,
        job_types: &JobTypes,
        is_ready: bool,
        in_flight: InFlight,
    ) -> Result<Vec<u8>, prometheus::Error> {
        let InFlight { all, awaiting_body, awaiting_identity, awaiting_change } = in_flight;
        self.server.ready.set(is_ready.into());
        self.store.reports_storable.set(store.takes_reports().into());
        self.server.in_flight.set(all.into());
        for (what, waiting) in [("body", awaiting_body), ("identity", awaiting_identity), ("change", awaiting_change)] {
            self.server.waiting.with_label_values(&[what]).set(waiting.into());
        }
        self.set_sub_jobs(store, job_types);
        self.set_database(store)?;
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Sets the metrics of a store in a database.
    fn set_database(&self, store: &Store) -> Result<(), prometheus::Error> {
        let Some(stats) = store.database_stats() else { return Ok(()) };
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = match database.take() {
            Some(metrics) => metrics,
            None => DatabaseMetrics::register(&self.registry)?,
        };
        database.insert(metrics).set(&stats);
        Ok(())
    }

    /// Sets the gauges of stored subtasks, or removes them if the store is poisoned.
    fn set_sub_jobs(&self, store: &Store, job_types: &JobTypes) {
        let Ok(totals) = store.totals() else { return self.store.sub_jobs.reset() };
        for (job_type, counts) in job_types.iter().zip(totals.counts) {
            for (status, count) in Status::ALL.into_iter().zip(counts) {
                let gauge = self.store.sub_jobs.with_label_values(&[job_types.label(job_type), status.as_str()]);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

/// The Unix time in seconds; 0 if the clock is before 1970.
fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The number of public requests in flight.
#[derive(Debug, Clone, Copy, Default)]
pub struct InFlight {
    /// All of them.
    pub all: u32,
    /// Those that wait for their bodies.
    pub awaiting_body: u32,
    /// Those that wait for the identity service.
    pub awaiting_identity: u32,
    /// Those that wait for a change of what is stored, which are not in `all`.
    pub awaiting_change: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poisoned_store_removes_its_gauges_and_no_others() {
        let (metrics, job_types) = (Metrics::new().unwrap(), JobTypes::default());
        let render = |store: &Store| {
            String::from_utf8(metrics.render(store, &job_types, false, InFlight::default()).unwrap()).unwrap()
        };
        let before = render(&Store::in_memory(job_types.len()));
        assert!(before.contains("\nsubjobs_subtasks{"), "{before}");
        let after = render(&Store::poisoned());
        assert!(!after.contains("subjobs_subtasks"), "{after}");
        let names = |text: &str| {
            let names = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
            names.filter(|name| *name != "subjobs_subtasks").map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(&after), names(&before));
        assert!(after.contains("\nsubjobs_reports_storable 0\n"), "{after}");
    }
}
