//! The options of traces.

use clap::Args;

use super::{UrlText, ratio};

/// Traces.
#[derive(Debug, Args)]
pub struct TracesFlags {
    /// Send a span for each request to this URL of an OTLP collector over HTTP, as http://127.0.0.1:4318/v1/traces: route,
    /// status, reason of a refusal, principal, project. Callers name their trace in traceparent
    #[arg(long, env = "SUBJOBS_TRACES_ENDPOINT", value_name = "URL")]
    pub traces_endpoint: Option<UrlText>,

    /// The share, 0 to 1, of requests without traceparent that have a span; others have one if their caller's trace is sampled
    #[arg(long, env = "SUBJOBS_TRACES_SAMPLE", value_name = "RATIO", default_value_t = 1.0, value_parser = ratio)]
    pub traces_sample: f64,
}
