//! The access log: one line of JSON for each request, or for a share of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use crate::access::Principal;
use crate::domain::{ProjectId, Timestamp};
use crate::output::log::write_access_line;

/// The access log of a listener.
#[derive(Debug)]
pub struct AccessLog {
    /// The share of requests that are logged, 0 to 1.
    sample: f64,
    requests: AtomicU64,
}

/// Who made a request, and in which project: filled in when the caller is known.
#[derive(Debug, Clone, Default)]
pub struct CallerSlot(Arc<OnceLock<(Arc<Principal>, Option<ProjectId>)>>);

impl CallerSlot {
    /// Records the caller. A long poll decides again; the first decision stays.
    pub fn set(&self, principal: &Arc<Principal>, project: Option<&ProjectId>) {
        let _ = self.0.set((principal.clone(), project.cloned()));
    }
}

/// What a line has of a request and its response, beside the time and the caller.
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
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    listener: &'static str,
    method: &'static str,
    route: &'static str,
    status: u16,
    duration_seconds: f64,
    principal: Option<&'a str>,
    project: Option<&'a str>,
}

impl AccessLog {
    /// A log of that share of the requests, 0 to 1. Of a response of 500 or above there is always a line.
    pub fn new(sample: f64) -> Self {
        Self { sample, requests: AtomicU64::new(0) }
    }

    /// Writes the line of a request, if it is one of the share. Never blocks.
    pub fn record(&self, answered: &Answered<'_>, caller: &CallerSlot) {
        if self.is_sampled() || answered.status >= 500 {
            write_access_line(line(answered, caller, Timestamp::now()).as_bytes());
        }
    }

    /// Whether the next request is one of the share, which is spread evenly.
    fn is_sampled(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) as f64;
        ((number + 1.0) * self.sample).floor() > (number * self.sample).floor()
    }
}

fn line(answered: &Answered<'_>, caller: &CallerSlot, now: Timestamp) -> String {
    let Answered { request_id, listener, method, route, status, duration } = *answered;
    let caller = caller.0.get();
    let line = Line {
        time: now.to_string(),
        request_id,
        listener,
        method,
        route,
        status,
        duration_seconds: duration.as_secs_f64(),
        principal: caller.map(|(principal, _)| principal.name()),
        project: caller.and_then(|(_, project)| project.as_ref()).map(ProjectId::as_str),
    };
    // Texts and numbers are always valid JSON.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_is_logged_evenly() {
        for (sample, expected) in [(1.0, 1000), (0.25, 250), (0.001, 1), (0.0, 0)] {
            let log = AccessLog::new(sample);
            assert_eq!((0..1000).filter(|_| log.is_sampled()).count(), expected, "{sample}");
        }
        let log = AccessLog::new(0.5);
        let logged: Vec<_> = (0..4).map(|_| log.is_sampled()).collect();
        assert_eq!(logged, [false, true, false, true]);
    }

    #[test]
    fn a_line_is_one_object_of_json() {
        let answered = Answered {
            request_id: "a\"b",
            listener: "public",
            method: "GET",
            route: "/v1/{project_id}/x",
            status: 401,
            duration: Duration::from_micros(1500),
        };
        let line = line(&answered, &CallerSlot::default(), Timestamp::now());
        let (text, rest) = line.split_once('\n').unwrap();
        let object: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!((rest, &object["request_id"], &object["principal"]), ("", &"a\"b".into(), &serde_json::Value::Null));
        assert_eq!((&object["status"], &object["duration_seconds"]), (&401.into(), &0.0015.into()));
    }
}
