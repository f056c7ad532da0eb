//! The access log: one line of JSON for each request, or for a share of them.

use serde::Serialize;

use super::answered::{Answered, CallerSlot, Share};
use crate::domain::{ProjectId, Timestamp};
use crate::output::log::write_access_line;

/// The access log of a listener.
#[derive(Debug)]
pub struct AccessLog {
    /// The share of requests that are logged.
    share: Share,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

impl AccessLog {
    /// A log of that share of the requests, 0 to 1. Of a response of 500 or above there is always a line.
    pub fn new(sample: f64) -> Self {
        Self { share: Share::new(sample) }
    }

    /// Writes the line of a request, if it is one of the share. Never blocks.
    pub fn record(&self, answered: &Answered<'_>, caller: &CallerSlot) {
        if self.share.has_next() || answered.status >= 500 {
            write_access_line(line(answered, caller, Timestamp::now()).as_bytes());
        }
    }
}

fn line(answered: &Answered<'_>, caller: &CallerSlot, now: Timestamp) -> String {
    let Answered { request_id, listener, method, route, status, duration, trace_id, .. } = *answered;
    let line = Line {
        time: now.to_string(),
        request_id,
        listener,
        method,
        route,
        status,
        duration_seconds: duration.as_secs_f64(),
        principal: caller.principal(),
        project: caller.project().map(ProjectId::as_str),
        trace_id: trace_id.map(|id| id.to_string()),
    };
    // Texts and numbers are always valid JSON.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_is_one_object_of_json() {
        let answered = Answered {
            request_id: "a\"b",
            listener: "public",
            method: "GET",
            route: "/v1/{project_id}/x",
            status: 401,
            duration: Duration::from_micros(1500),
            reason: None,
            trace_id: None,
        };
        let line = line(&answered, &CallerSlot::default(), Timestamp::now());
        let (text, rest) = line.split_once('\n').unwrap();
        let object: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!((rest, &object["request_id"], &object["principal"]), ("", &"a\"b".into(), &serde_json::Value::Null));
        assert_eq!((&object["status"], &object["duration_seconds"]), (&401.into(), &0.0015.into()));
    }
}
