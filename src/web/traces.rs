//! Traces: a span for each request, or for a share of them, sent to an OTLP collector.
//!
//! A span is made at the end of its request and put into a bounded queue. If the queue is full, the span is dropped and counted,
//! so that a collector that is slow or absent never delays a request.

mod client;
mod exporter;
mod parent;
mod span;

use std::time::SystemTime;

use http::HeaderMap;
use opentelemetry::{InstrumentationScope, SpanId, TraceId};
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;

pub use self::exporter::{Exporter, RunningExporter};
use self::parent::TraceParent;
use super::answered::{Answered, CallerSlot, Share};
use crate::metrics::SpanMetrics;

/// The most spans that wait for the collector.
const MAX_QUEUED: usize = 2048;

/// The traces of a server. Both listeners share them.
#[derive(Debug)]
pub struct Traces {
    /// The share of requests without a parent that have a span.
    share: Share,
    queue: mpsc::Sender<SpanData>,
    metrics: SpanMetrics,
    scope: InstrumentationScope,
}

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy)]
pub struct RequestTrace {
    id: TraceId,
    /// The caller's span.
    parent: Option<SpanId>,
    is_sampled: bool,
}

impl RequestTrace {
    /// The trace that the caller names, if it names one.
    pub fn named_by(headers: &HeaderMap) -> Option<Self> {
        let TraceParent { trace_id, span_id, is_sampled } = TraceParent::of(headers)?;
        Some(Self { id: trace_id, parent: Some(span_id), is_sampled })
    }

    /// The id of the trace.
    pub fn id(&self) -> TraceId {
        self.id
    }
}

impl Traces {
    /// Traces whose spans go to the collector at `endpoint`, and the exporter that sends them. Of the requests whose caller
    /// names no trace, a share of 0 to 1 have a span.
    ///
    /// # Errors
    ///
    /// If a variable of OpenTelemetry cannot be used.
    pub fn new(
        endpoint: &str,
        sample: f64,
        metrics: SpanMetrics,
    ) -> Result<(Self, Exporter), Box<dyn std::error::Error + Send + Sync>> {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let exporter = Exporter::new(endpoint, queued, metrics.clone())?;
        let scope = InstrumentationScope::builder("subjobs").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok((Self { share: Share::new(sample), queue, metrics, scope }, exporter))
    }

    /// The trace of a request: that of its caller, or a new one if the request is one of the share.
    pub fn begin(&self, headers: &HeaderMap) -> Option<RequestTrace> {
        RequestTrace::named_by(headers).or_else(|| {
            let id = self.share.has_next().then(random::<16>)??;
            Some(RequestTrace { id: TraceId::from_bytes(id), parent: None, is_sampled: true })
        })
    }

    /// Queues the span of a request, if its trace is sampled. Never blocks.
    pub fn record(&self, trace: &RequestTrace, answered: &Answered<'_>, caller: &CallerSlot) {
        if !trace.is_sampled {
            return;
        }
        let Some(id) = random().map(SpanId::from_bytes) else { return };
        let span = span::span(trace, id, &self.scope, answered, caller, SystemTime::now());
        if self.queue.try_send(span).is_err() {
            self.metrics.count_queue_full();
        }
    }
}

/// Random bytes for an id, if the system has some. Zeros, which no id may be, are as likely as a collision.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
