//! What the access log and the spans have of a request: what was answered, to whom, and whether it is one of their share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::TraceId;

use crate::access::Principal;
use crate::domain::ProjectId;

/// A request and its response, without the time and the caller.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The id in X-Request-Id.
    pub request_id: &'a str,
    /// The listener's name.
    pub listener: &'static str,
    /// The method, or `other`.
    pub method: &'static str,
    /// The path template, or `unknown`.
    pub route: &'static str,
    /// The status of the response.
    pub status: u16,
    /// From the head of the request to the head of the response.
    pub duration: Duration,
    /// Why it was refused, as in the metrics.
    pub reason: Option<&'static str>,
    /// The trace that it belongs to.
    pub trace_id: Option<TraceId>,
}

/// Who made a request, and in which project: filled in when the caller is known.
#[derive(Debug, Clone, Default)]
pub struct CallerSlot(Arc<OnceLock<(Arc<Principal>, Option<ProjectId>)>>);

impl CallerSlot {
    /// Records the caller. A long poll decides again; the first decision stays.
    pub fn set(&self, principal: &Arc<Principal>, project: Option<&ProjectId>) {
        let _ = self.0.set((principal.clone(), project.cloned()));
    }

    /// The name of the principal.
    pub fn principal(&self) -> Option<&str> {
        self.0.get().map(|(principal, _)| principal.name())
    }

    /// The project in the path.
    pub fn project(&self) -> Option<&ProjectId> {
        self.0.get()?.1.as_ref()
    }
}

/// A share of the requests, spread evenly.
#[derive(Debug)]
pub struct Share {
    /// 0 to 1.
    ratio: f64,
    requests: AtomicU64,
}

impl Share {
    /// A share of 0 to 1.
    pub fn new(ratio: f64) -> Self {
        Self { ratio, requests: AtomicU64::new(0) }
    }

    /// Whether the next request is one of the share.
    pub fn has_next(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) as f64;
        ((number + 1.0) * self.ratio).floor() > (number * self.ratio).floor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_is_chosen_evenly() {
        for (sample, expected) in [(1.0, 1000), (0.25, 250), (0.001, 1), (0.0, 0)] {
            let share = Share::new(sample);
            assert_eq!((0..1000).filter(|_| share.has_next()).count(), expected, "{sample}");
        }
        let share = Share::new(0.5);
        let chosen: Vec<_> = (0..4).map(|_| share.has_next()).collect();
        assert_eq!(chosen, [false, true, false, true]);
    }
}
