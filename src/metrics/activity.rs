//! The counters of the server in a few numbers, for the overview. They are those of `/metrics`.

use prometheus::core::Collector;
use prometheus::proto::{LabelPair, Metric};

use super::{Listener, Metrics};

/// The end of the path of each operation that counts.
const COUNT_PATH: &str = "/actions/count";

/// What the server has done since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// Accepted reports.
    pub reports: u64,
    /// Counts that were answered, by 200 or 304.
    pub counts: u64,
    /// Requests to the public listener, whatever their response was.
    pub requests: u64,
    /// Requests to either listener that were answered with an error, by reason, in alphabetical order.
    pub refusals: Vec<(String, u64)>,
    /// When the last report was accepted, in Unix time; 0 before the first.
    pub last_report: i64,
    /// Completed verifications of the counters.
    pub verifications: u64,
}

impl Activity {
    /// The sum of the refusals.
    pub fn refused(&self) -> u64 {
        self.refusals.iter().map(|(_, count)| count).sum()
    }
}

impl Metrics {
    /// What the server has done since its start.
    pub fn activity(&self) -> Activity {
        let mut activity = Activity {
            reports: self.store.reports.with_label_values(&["accepted"]).get(),
            last_report: self.store.last_accepted_report.get(),
            verifications: self.store.verifications.get(),
            ..Activity::default()
        };
        // The histograms of durations, which are collected too, add 0.
        for metric in series(&self.requests) {
            let (value, label) = (value(&metric), |name| label(&metric, name));
            if label("listener") != Listener::Public.as_str() {
                continue;
            }
            activity.requests += value;
            if label("route").ends_with(COUNT_PATH) && ["200", "304"].contains(&label("status")) {
                activity.counts += value;
            }
        }
        activity.refusals = series(&self.server.errors)
            .iter()
            .map(|metric| (label(metric, "reason").to_owned(), value(metric)))
            .collect();
        activity.refusals.sort_unstable();
        activity
    }
}

/// Every series of a metric.
fn series(family: &impl Collector) -> Vec<Metric> {
    family.collect().iter().flat_map(|family| family.get_metric().to_vec()).collect()
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|label| label.name() == name).map_or("", LabelPair::value)
}

fn value(metric: &Metric) -> u64 {
    // A counter of whole numbers.
    metric.get_counter().get_value() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn counts_are_the_answered_requests_of_public_count_routes() {
        let metrics = Metrics::new().unwrap();
        metrics.init_error_reasons(&["path", "input"]);
        let count = "/v1/{project_id}/app-server-sub-jobs/actions/count";
        for (listener, route, status) in [
            (Listener::Public, count, 200),
            (Listener::Public, count, 304),
            (Listener::Public, count, 401),
            (Listener::Public, "/v3/projects", 200),
            (Listener::Internal, "/actions/count", 200),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            metrics.route(listener, route).observe((&Method::GET).into(), status, Duration::ZERO);
        }
        metrics.count_error("path");
        metrics.count_report(StatusCode::OK);
        metrics.count_report(StatusCode::BAD_REQUEST);
        let activity = metrics.activity();
        assert_eq!((activity.counts, activity.requests, activity.reports), (2, 4, 1));
        assert_eq!(activity.refusals, [("input".to_owned(), 0), ("path".to_owned(), 1)]);
        assert_eq!(activity.refused(), 1);
        assert!(activity.last_report > 0);
    }
}
