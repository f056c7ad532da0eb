use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use opentelemetry::Value;
use opentelemetry::trace::{SpanKind, Status};

use super::*;
use crate::metrics::Metrics;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

/// Traces without an exporter, and their queue.
fn traces(sample: f64) -> (Traces, mpsc::Receiver<SpanData>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let (queue, queued) = mpsc::channel(2);
    let scope = InstrumentationScope::builder("subjobs").build();
    (Traces { share: Share::new(sample), queue, metrics: metrics.spans(), scope }, queued, metrics)
}

fn with_parent(flags: &str) -> HeaderMap {
    let header = HeaderValue::from_str(&format!("{PARENT}-{flags}")).unwrap();
    HeaderMap::from_iter([(HeaderName::from_static("traceparent"), header)])
}

fn answered(method: &'static str, route: &'static str, status: u16, reason: Option<&'static str>) -> Answered<'static> {
    let duration = Duration::from_millis(3);
    Answered { request_id: "r", listener: "public", method, route, status, duration, reason, trace_id: None }
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.clone())
}

#[test]
fn the_parent_decides_and_without_one_the_share() {
    for sample in [0.0, 1.0] {
        let (traces, mut queued, _) = traces(sample);
        let mut is_exported = |headers: &HeaderMap| {
            if let Some(trace) = traces.begin(headers) {
                traces.record(&trace, &answered("GET", "/x", 200, None), &CallerSlot::default());
            }
            queued.try_recv().is_ok()
        };
        assert!(is_exported(&with_parent("01")));
        assert!(!is_exported(&with_parent("00")));
        assert_eq!(is_exported(&HeaderMap::new()), sample == 1.0);
        assert_eq!(is_exported(&with_parent("0")), sample == 1.0, "an invalid header is ignored");
    }
}

#[test]
fn new_ids_differ() {
    let (traces, mut queued, _) = traces(1.0);
    let mut spans = Vec::new();
    for headers in [HeaderMap::new(), HeaderMap::new(), with_parent("01")] {
        let trace = traces.begin(&headers).unwrap();
        traces.record(&trace, &answered("GET", "/x", 200, None), &CallerSlot::default());
        spans.push(queued.try_recv().unwrap());
    }
    let ids: Vec<_> = spans.iter().map(|span| (span.span_context.trace_id(), span.span_context.span_id())).collect();
    assert!(ids[0].0 != ids[1].0 && ids[0].1 != ids[1].1 && ids[1].1 != ids[2].1, "{ids:?}");
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert!(!spans[0].parent_span_is_remote && spans[2].parent_span_is_remote);
    assert_eq!((ids[2].0.to_string(), spans[2].parent_span_id.to_string()), {
        let fields: Vec<_> = PARENT.split('-').map(str::to_owned).collect();
        (fields[1].clone(), fields[2].clone())
    });
}

#[test]
fn a_span_follows_the_conventions() {
    let (traces, mut queued, _) = traces(1.0);
    let mut span = |answered: &Answered<'_>| {
        let trace = traces.begin(&HeaderMap::new()).unwrap();
        traces.record(&trace, answered, &CallerSlot::default());
        queued.try_recv().unwrap()
    };
    let counted = span(&answered("GET", "/v1/{project_id}/x", 200, None));
    assert_eq!(
        (&*counted.name, &counted.span_kind, &counted.status),
        ("GET /v1/{project_id}/x", &SpanKind::Server, &Status::Unset)
    );
    assert_eq!(counted.end_time.duration_since(counted.start_time).unwrap(), Duration::from_millis(3));
    assert_eq!(attribute(&counted, "error.type"), None);
    let refused = span(&answered("POST", "/x", 403, Some("permission")));
    assert_eq!((&refused.status, attribute(&refused, "error.type")), (&Status::Unset, None));
    assert_eq!(attribute(&refused, "subjobs.refusal_reason"), Some("permission".into()));
    let failed = span(&answered("GET", "/x", 503, Some("overloaded")));
    assert!(matches!(failed.status, Status::Error { .. }));
    assert_eq!(attribute(&failed, "error.type"), Some("overloaded".into()));
    let unknown = span(&answered("other", "unknown", 404, Some("path")));
    assert_eq!((&*unknown.name, attribute(&unknown, "http.route")), ("HTTP", None));
    assert_eq!(attribute(&unknown, "http.request.method"), Some("_OTHER".into()));
}

#[test]
fn spans_that_the_queue_cannot_hold_are_dropped_and_counted() {
    let (traces, mut queued, metrics) = traces(1.0);
    for _ in 0..5 {
        let trace = traces.begin(&HeaderMap::new()).unwrap();
        traces.record(&trace, &answered("GET", "/x", 200, None), &CallerSlot::default());
    }
    assert_eq!(std::iter::from_fn(|| queued.try_recv().ok()).count(), 2);
    let store = crate::store::Store::in_memory(1);
    let text = metrics.render(&store, &crate::domain::JobTypes::default(), true, Default::default());
    assert!(String::from_utf8(text.unwrap()).unwrap().contains("subjobs_spans_total{outcome=\"queue_full\"} 3\n"));
}
