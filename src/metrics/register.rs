//! Declaring metrics: each is stated once, with its field, type, name, labels and help.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// The upper bounds of the duration histograms, in seconds: from a count in memory to the longest report.
pub(super) const BUCKETS: [f64; 14] =
    [0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0, 60.0];

/// Declares a struct of metrics, and its function `register`, which creates them and adds them to a registry.
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $group:ident {
            $($field:ident: $kind:ty = $name:literal [$($label:literal),*] $help:literal,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        $visibility struct $group {
            $(pub(super) $field: $kind,)*
        }

        impl $group {
            /// Creates the metrics and adds them to `registry`.
            ///
            /// # Errors
            ///
            /// If `registry` has one of the names already.
            pub(super) fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
                Ok(Self {
                    $($field: <$kind as $crate::metrics::register::Metric>::register(registry, $name, &[$($label),*], $help)?,)*
                })
            }
        }
    };
}
pub(super) use metrics;

/// A type of metric.
pub(super) trait Metric: Collector + Clone + 'static {
    fn create(name: &str, labels: &[&str], help: &str) -> Result<Self, Error>;

    fn register(registry: &Registry, name: &str, labels: &[&str], help: &str) -> Result<Self, Error> {
        let metric = Self::create(name, labels, help)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

impl Metric for IntCounter {
    fn create(name: &str, _: &[&str], help: &str) -> Result<Self, Error> {
        Self::new(name, help)
    }
}

impl Metric for IntCounterVec {
    fn create(name: &str, labels: &[&str], help: &str) -> Result<Self, Error> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Metric for CounterVec {
    fn create(name: &str, labels: &[&str], help: &str) -> Result<Self, Error> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Metric for IntGauge {
    fn create(name: &str, _: &[&str], help: &str) -> Result<Self, Error> {
        Self::new(name, help)
    }
}

impl Metric for IntGaugeVec {
    fn create(name: &str, labels: &[&str], help: &str) -> Result<Self, Error> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Metric for Histogram {
    fn create(name: &str, _: &[&str], help: &str) -> Result<Self, Error> {
        Self::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))
    }
}
