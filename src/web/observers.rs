//! Who is told of requests in addition to the metrics: the access log and the traces. Both are off unless the operator asks for them.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::TraceId;

use super::access_log::AccessLog;
use super::answered::{Answered, CallerSlot};
use super::traces::{RequestTrace, Traces};

/// The observers of a listener's requests.
#[derive(Debug, Default)]
pub struct Observers {
    /// The access log.
    pub access_log: Option<AccessLog>,
    /// The traces, which both listeners share.
    pub traces: Option<Arc<Traces>>,
}

/// What is remembered of a request until its end, for those who are told.
#[derive(Debug)]
pub struct Observed {
    /// Filled in when the caller is known.
    pub caller: CallerSlot,
    trace: Option<RequestTrace>,
}

impl Observed {
    /// The trace that the request belongs to.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref().map(RequestTrace::id)
    }
}

impl Observers {
    /// Begins to observe a request, if there is anyone to tell.
    pub fn begin(&self, headers: &HeaderMap) -> Option<Box<Observed>> {
        let trace = match (&self.traces, &self.access_log) {
            (None, None) => return None,
            (None, Some(_)) => RequestTrace::named_by(headers),
            (Some(traces), _) => traces.begin(headers),
        };
        let is_observed = trace.is_some() || self.access_log.is_some();
        is_observed.then(|| Box::new(Observed { caller: CallerSlot::default(), trace }))
    }

    /// Tells the observers how a request was answered.
    pub fn tell(&self, observed: &Observed, answered: &Answered<'_>) {
        if let Some(log) = &self.access_log {
            log.record(answered, &observed.caller);
        }
        if let (Some(traces), Some(trace)) = (&self.traces, &observed.trace) {
            traces.record(trace, answered, &observed.caller);
        }
    }
}
