//! The metrics of a route, and the method label of a request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter};

use super::{Listener, Metrics};

/// The values of the method label. Every other method is `other`.
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];

/// The statuses whose counters are looked up once.
const STATUSES: [u16; 10] = [200, 400, 401, 403, 404, 405, 413, 415, 500, 503];

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

/// The metrics of one route. They are looked up by labels once, since a look-up costs more than a count.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) metrics: Arc<Metrics>,
    pub(super) listener: Listener,
    pub(super) route: &'static str,
    pub(super) duration: Histogram,
    pub(super) requests: [[OnceLock<IntCounter>; STATUSES.len()]; METHODS.len()],
}

impl RouteMetrics {
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
        self.duration.observe(duration.as_secs_f64());
        let MethodLabel(method) = method;
        let new = || {
            let labels = [self.listener.as_str(), self.route, METHODS[method], status.as_str()];
            self.metrics.server.requests.with_label_values(&labels)
        };
        match STATUSES.iter().position(|known| *known == status.as_u16()) {
            Some(known) => self.requests[method][known].get_or_init(new).inc(),
            None => new().inc(),
        }
    }
}
