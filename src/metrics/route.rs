//! The metrics of a route, and the method label of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::IntCounterVec;

use super::Listener;
use super::register::BUCKETS;
use crate::shards::Shards;

/// The values of the method label. Every other method is `other`.
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];

/// The statuses that are counted without a look-up.
const STATUSES: [u16; 11] = [200, 304, 400, 401, 403, 404, 405, 413, 415, 500, 503];

/// The method label of a request.
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

/// The metrics of one route.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    listener: Listener,
    route: &'static str,
    shards: Arc<Shards<Counts>>,
    /// The requests with other statuses, of all routes.
    rare: IntCounterVec,
}

/// The requests of a route that some thread has counted.
#[derive(Debug, Default)]
struct Counts {
    requests: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    /// The requests whose duration is at most each bound and above the one before; then those above all bounds.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    /// The bits of the sum of the durations in seconds. A sum of whole nanoseconds would overflow: long polls add thousands of seconds
    /// each second.
    seconds: AtomicU64,
}

/// The durations of the requests of a route.
#[derive(Debug, Default)]
pub(super) struct Durations {
    /// As in [`Counts`].
    pub(super) buckets: [u64; BUCKETS.len() + 1],
    pub(super) seconds: f64,
}

impl RouteMetrics {
    pub(super) fn new(listener: Listener, route: &'static str, rare: IntCounterVec) -> Self {
        Self { listener, route, shards: Arc::new(Shards::from_fn(|_| Counts::default())), rare }
    }

    /// The path template, or `unknown`.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// The name of the listener.
    pub fn listener(&self) -> &'static str {
        self.listener.as_str()
    }

    /// Records one answered request.
    pub fn observe(&self, method: MethodLabel, status: StatusCode, duration: Duration) {
        let (counts, seconds) = (self.shards.own(), duration.as_secs_f64());
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        counts.buckets[bucket].fetch_add(1, Relaxed);
        counts.seconds.update(Relaxed, Relaxed, |sum| (f64::from_bits(sum) + seconds).to_bits());
        match STATUSES.iter().position(|known| *known == status.as_u16()) {
            Some(known) => {
                counts.requests[method.0][known].fetch_add(1, Relaxed);
            }
            None => self.rare.with_label_values(&self.labels(method.as_str(), status.as_str())).inc(),
        }
    }

    /// Adds the requests with the statuses of [`STATUSES`] to counters with the labels `listener`, `route`, `method` and `status`.
    pub(super) fn add_requests(&self, counters: &IntCounterVec) {
        for (at, method) in METHODS.iter().enumerate() {
            for (known, status) in STATUSES.iter().enumerate() {
                let requests: u64 = self.shards.iter().map(|counts| counts.requests[at][known].load(Relaxed)).sum();
                if requests > 0 {
                    counters.with_label_values(&self.labels(method, &status.to_string())).inc_by(requests);
                }
            }
        }
    }

    pub(super) fn durations(&self) -> Durations {
        let mut durations = Durations::default();
        for counts in self.shards.iter() {
            for (sum, bucket) in durations.buckets.iter_mut().zip(&counts.buckets) {
                *sum += bucket.load(Relaxed);
            }
            durations.seconds += f64::from_bits(counts.seconds.load(Relaxed));
        }
        durations
    }

    fn labels<'a>(&self, method: &'a str, status: &'a str) -> [&'a str; 4] {
        [self.listener.as_str(), self.route, method, status]
    }
}
