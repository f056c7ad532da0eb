//! The metric families of answered requests, made of the counts of all routes at each scrape.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily};
use prometheus::{Error, HistogramOpts, HistogramVec, IntCounterVec, Opts};

use super::Listener;
use super::register::BUCKETS;
use super::route::{Durations, RouteMetrics};

/// The metrics of all routes, one for each listener and path template.
#[derive(Debug, Clone)]
pub(super) struct RequestFamilies {
    routes: Arc<Mutex<Vec<RouteMetrics>>>,
    /// The requests with rare statuses.
    rare: IntCounterVec,
    /// Has no series: it gives the family its name, help and type.
    durations: HistogramVec,
}

impl RequestFamilies {
    pub(super) fn new() -> Result<Self, Error> {
        let (name, help) = ("subjobs_http_request_duration_seconds", "From a request's head to its response's head.");
        let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        Ok(Self {
            routes: Arc::default(),
            rare: requests()?,
            durations: HistogramVec::new(opts, &["listener", "route"])?,
        })
    }

    /// The metrics of a route of a listener.
    pub(super) fn route(&self, listener: Listener, route: &'static str) -> RouteMetrics {
        let mut routes = self.lock();
        let known = routes.iter().find(|known| known.route() == route && known.listener() == listener.as_str());
        known.cloned().unwrap_or_else(|| {
            let new = RouteMetrics::new(listener, route, self.rare.clone());
            routes.push(new.clone());
            new
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RouteMetrics>> {
        // A panic elsewhere leaves the list whole.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of requests, at 0.
fn requests() -> Result<IntCounterVec, Error> {
    IntCounterVec::new(
        Opts::new("subjobs_http_requests_total", "Requests answered."),
        &["listener", "route", "method", "status"],
    )
}

impl Collector for RequestFamilies {
    fn desc(&self) -> Vec<&Desc> {
        [self.rare.desc(), self.durations.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // New counters for each scrape, so that concurrent scrapes are both right.
        let Ok(requests) = requests() else { return Vec::new() };
        let routes = self.lock();
        routes.iter().for_each(|route| route.add_requests(&requests));
        let (mut requests, mut durations) = (requests.collect(), self.durations.collect());
        for (family, rare) in requests.iter_mut().zip(self.rare.collect()) {
            family.mut_metric().extend(rare.get_metric().iter().cloned());
        }
        for family in &mut durations {
            family.set_metric(routes.iter().map(histogram).collect());
        }
        requests.append(&mut durations);
        requests
    }
}

/// The histogram of a route's durations.
fn histogram(route: &RouteMetrics) -> Metric {
    let Durations { buckets, seconds } = route.durations();
    let mut histogram = Histogram::default();
    let mut cumulative = 0;
    let bounded = buckets.iter().zip(BUCKETS).map(|(count, bound)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(cumulative);
        bucket.set_upper_bound(bound);
        bucket
    });
    histogram.set_bucket(bounded.collect());
    histogram.set_sample_count(buckets.iter().sum());
    histogram.set_sample_sum(seconds);
    let labels = [("listener", route.listener()), ("route", route.route())].map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    });
    let mut metric = Metric::from_label(labels.into());
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use http::{Method, StatusCode};
    use prometheus::{Encoder as _, Registry, TextEncoder};

    use super::*;

    #[test]
    fn a_scrape_has_what_all_threads_have_counted() {
        let (registry, families) = (Registry::new(), RequestFamilies::new().unwrap());
        registry.register(Box::new(families.clone())).unwrap();
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let route = families.route(Listener::Public, "/r");
                    for (status, duration) in [(200, 25_000), (200, 25_001), (304, 0), (418, 61_000_000_000)] {
                        let (method, duration) = ((&Method::GET).into(), Duration::from_nanos(duration));
                        route.observe(method, StatusCode::from_u16(status).unwrap(), duration);
                    }
                });
            }
        });
        families.route(Listener::Internal, "/r");
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for expected in [
            r#"requests_total{listener="public",method="GET",route="/r",status="200"} 40"#,
            r#"requests_total{listener="public",method="GET",route="/r",status="304"} 20"#,
            r#"requests_total{listener="public",method="GET",route="/r",status="418"} 20"#,
            r#"request_duration_seconds_bucket{listener="public",route="/r",le="0.000025"} 40"#,
            r#"request_duration_seconds_bucket{listener="public",route="/r",le="0.00005"} 60"#,
            r#"request_duration_seconds_bucket{listener="public",route="/r",le="60"} 60"#,
            r#"request_duration_seconds_bucket{listener="public",route="/r",le="+Inf"} 80"#,
            r#"request_duration_seconds_count{listener="public",route="/r"} 80"#,
            r#"request_duration_seconds_count{listener="internal",route="/r"} 0"#,
        ] {
            assert!(text.lines().any(|line| line == format!("subjobs_http_{expected}")), "{expected}\n{text}");
        }
        let sum = r#"subjobs_http_request_duration_seconds_sum{listener="public",route="/r"} "#;
        let sum: f64 = text.lines().find_map(|line| line.strip_prefix(sum)).unwrap().parse().unwrap();
        // The order in which the cores' sums are added changes the last digits.
        assert!((sum - 1_220.001_000_02).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_sum_of_durations_may_exceed_what_nanoseconds_can_count() {
        let route = RequestFamilies::new().unwrap().route(Listener::Public, "/r");
        for _ in 0..3 {
            route.observe((&Method::GET).into(), StatusCode::OK, Duration::from_secs(1 << 34));
        }
        assert_eq!(route.durations().seconds, 3.0 * f64::from(1 << 30) * 16.0);
    }
}
