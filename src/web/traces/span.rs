//! The span of an answered request, by the semantic conventions of OpenTelemetry for HTTP servers where they have a name.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::RequestTrace;
use crate::domain::ProjectId;
use crate::web::answered::{Answered, CallerSlot};

/// The route of a path that no template matches. It names nothing in a span.
const UNKNOWN_ROUTE: &str = "unknown";

/// The method label of methods that the server does not know.
const OTHER_METHOD: &str = "other";

/// Makes the span of a request that ends at `now`. It has no header, no path and no query, so it has no credential.
pub(super) fn span(
    trace: &RequestTrace,
    id: SpanId,
    scope: &InstrumentationScope,
    answered: &Answered<'_>,
    caller: &CallerSlot,
    now: SystemTime,
) -> SpanData {
    let context = SpanContext::new(trace.id, id, TraceFlags::SAMPLED, false, TraceState::NONE);
    SpanData {
        span_context: context,
        parent_span_id: trace.parent.unwrap_or(SpanId::INVALID),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Server,
        name: name(answered),
        start_time: now.checked_sub(answered.duration).unwrap_or(now),
        end_time: now,
        attributes: attributes(answered, caller),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        // A refusal (4xx) is the caller's error, and none of the server.
        status: if answered.status >= 500 { Status::error("") } else { Status::Unset },
        instrumentation_scope: scope.clone(),
    }
}

/// The method and the path template: as many names as the server has operations.
fn name(answered: &Answered<'_>) -> Cow<'static, str> {
    let method = if answered.method == OTHER_METHOD { "HTTP" } else { answered.method };
    if answered.route == UNKNOWN_ROUTE { method.into() } else { format!("{method} {}", answered.route).into() }
}

fn attributes(answered: &Answered<'_>, caller: &CallerSlot) -> Vec<KeyValue> {
    let Answered { request_id, listener, method, route, status, reason, .. } = *answered;
    let mut attributes = vec![
        KeyValue::new("http.request.method", if method == OTHER_METHOD { "_OTHER" } else { method }),
        KeyValue::new("http.response.status_code", i64::from(status)),
        KeyValue::new("subjobs.listener", listener),
        KeyValue::new("subjobs.request_id", request_id.to_owned()),
    ];
    if route != UNKNOWN_ROUTE {
        attributes.push(KeyValue::new("http.route", route));
    }
    if let Some(principal) = caller.principal() {
        attributes.push(KeyValue::new("enduser.id", principal.to_owned()));
    }
    if let Some(project) = caller.project().map(ProjectId::as_str) {
        attributes.push(KeyValue::new("subjobs.project", project.to_owned()));
    }
    if let Some(reason) = reason {
        attributes.push(KeyValue::new("subjobs.refusal_reason", reason));
        if status >= 500 {
            attributes.push(KeyValue::new("error.type", reason));
        }
    }
    attributes
}
