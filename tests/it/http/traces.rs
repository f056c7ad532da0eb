//! Traces: the spans that a collector receives.

use http::StatusCode;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use reqwest::RequestBuilder;
use serde_json::json;
use subjobs::Ephemeral;
use subjobs::config::{Config, TraceSettings};
use tokio::net::TcpListener;
use tokio::time::{Duration, Instant};

use crate::support::collector::{Collector, Received};
use crate::support::connection::{exchange, request};
use crate::support::fixtures::{OPS, PROJECT, WORKER, config, count_path, record};
use crate::support::gateways::free_address;
use crate::support::http2::Http2;
use crate::support::server::Running;
use crate::support::tls::Certificates;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const COUNT: &str = "/v1/{project_id}/app-server-sub-jobs/actions/count";
const REPORT: &str = "/v1/{project_id}/app-server-sub-jobs/actions/report";

/// The settings of traces to a URL, of this share of the requests without a parent.
fn traces(url: &str, sample: f64) -> Option<TraceSettings> {
    Some(TraceSettings { endpoint: url.parse().unwrap(), sample })
}

async fn server(collector: &Collector, sample: f64) -> Running {
    Running::start(Config { traces: traces(&collector.url(), sample), ..config() }).await
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn send(request: RequestBuilder, id: &str) -> StatusCode {
    request.header("X-Request-Id", id).send().await.unwrap().status()
}

/// Stops a server, which sends what waits.
async fn end(mut server: Running) {
    server.stop();
    server.ended().await;
}

/// What most tests look at: name, status code, principal, project, reason of a refusal, and whether it is an error.
fn summary(received: &Received) -> (String, u16, [Option<String>; 3], bool) {
    let attributes = ["enduser.id", "subjobs.project", "subjobs.refusal_reason"].map(|key| received.attribute(key));
    let status = received.attribute("http.response.status_code").unwrap().parse().unwrap();
    let is_error = received.span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error);
    (received.span.name.clone(), status, attributes, is_error)
}

/// The same, as it is expected.
fn expected(name: &str, status: u16, attributes: [Option<&str>; 3]) -> (String, u16, [Option<String>; 3], bool) {
    (name.to_owned(), status, attributes.map(|text| text.map(str::to_owned)), status >= 500)
}

#[tokio::test]
async fn a_request_has_a_span_in_the_trace_of_its_caller() {
    let collector = Collector::start().await;
    let server = server(&collector, 1.0).await;
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let count = server.ask(OPS, "?status=RUNNING&marker=in-the-query").header("traceparent", traceparent("01"));
    assert_eq!(send(count, "counted").await, 200);
    let count = server.ask(OPS, "?status=RUNNING").header("traceparent", traceparent("01"));
    assert_eq!(send(count.header("tracestate", "marker=in-the-state"), "valid").await, 200);
    end(server).await;
    let valid = collector.span("valid");
    assert_eq!(summary(&valid), expected(&format!("GET {COUNT}"), 200, [Some("ops"), Some(PROJECT), None]));
    assert_eq!((valid.trace_id().as_str(), valid.parent_id().as_str()), (TRACE, PARENT));
    assert_eq!(valid.span.kind(), SpanKind::Server);
    assert!(valid.span.span_id.len() == 8 && valid.span.span_id != collector.span("counted").span.span_id);
    assert!(
        valid.span.start_time_unix_nano >= before && valid.span.end_time_unix_nano >= valid.span.start_time_unix_nano
    );
    for (key, value) in [("http.request.method", "GET"), ("http.route", COUNT), ("subjobs.listener", "public")] {
        assert_eq!(valid.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(valid.of_server("service.name").as_deref(), Some("subjobs"));
    assert_eq!(valid.of_server("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(collector.headers()[0]["content-type"], "application/x-protobuf");
    // Nothing of a header, a path or a query is sent.
    let bytes = collector.bytes();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("ops") && text.contains(COUNT), "{text}");
    for hidden in [OPS, "in-the-query", "in-the-state", "RUNNING"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}

#[tokio::test]
async fn a_refusal_has_a_span_with_its_reason() {
    let collector = Collector::start().await;
    let config = Config { request_timeout: Duration::from_millis(200), ..config() };
    let config = Config { ephemeral: Some(Ephemeral::with_access_file()), ..config };
    let server = Running::start(Config { traces: traces(&collector.url(), 1.0), ..config }).await;
    let path = |path: &str| server.client.get(format!("http://{}{path}", server.public)).header("X-Auth-Token", OPS);
    assert_eq!(send(server.ask("secret-guess", ""), "credential").await, 401);
    assert_eq!(send(server.ask(WORKER, ""), "permission").await, 403);
    assert_eq!(send(server.ask(OPS, "?status=x"), "input").await, 400);
    assert_eq!(send(path("/secret-path/secret-more"), "path").await, 404);
    assert_eq!(send(path(&count_path("no-such-project")), "project").await, 404);
    // Its body never comes.
    let more = ["X-Request-Id: timed_out", "Content-Length: 2", "Connection: close"];
    assert_eq!(exchange(server.public, request("GET", &count_path(PROJECT), OPS, &more)).await.status, 503);
    let rules = json!({ "rules": [{ "operation": "CountSubJobs", "status": 500, "times": 1 }] });
    let faults = server.client.put(format!("http://{}/faults", server.internal)).json(&rules);
    assert_eq!(send(faults, "faults").await, 200);
    assert_eq!(send(server.ask(OPS, ""), "fault").await, 500);
    end(server).await;
    let count = format!("GET {COUNT}");
    for (id, name, status, principal, project) in [
        ("credential", count.as_str(), 401, None, None),
        ("permission", &count, 403, Some("worker"), Some(PROJECT)),
        ("input", &count, 400, Some("ops"), Some(PROJECT)),
        ("path", "GET", 404, None, None),
        ("project", &count, 404, Some("ops"), Some("no-such-project")),
        ("timed_out", &count, 503, Some("ops"), Some(PROJECT)),
        ("fault", &count, 500, None, None),
    ] {
        let span = collector.span(id);
        assert_eq!(summary(&span), expected(name, status, [principal, project, Some(id)]), "{id}");
        assert_eq!(span.attribute("error.type").as_deref(), (status >= 500).then_some(id), "{id}");
    }
    let bytes = collector.bytes();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("secret") && !text.contains(OPS) && !text.contains(WORKER), "{text}");
}

#[tokio::test]
async fn the_caller_decides_and_without_traceparent_the_share() {
    let collector = Collector::start().await;
    let mut servers = Vec::new();
    for sample in [0.0, 1.0] {
        let server = server(&collector, sample).await;
        for (name, header) in [
            ("sampled", Some(traceparent("01"))),
            ("unsampled", Some(traceparent("00"))),
            ("invalid", Some(traceparent("0"))),
            ("root", None),
        ] {
            let request = server.ask(OPS, "");
            let request = header.into_iter().fold(request, |request, header| request.header("traceparent", header));
            assert_eq!(send(request, &format!("{name}-{sample}")).await, 200);
        }
        servers.push(server);
    }
    for server in servers {
        end(server).await;
    }
    let spans = collector.spans();
    let ids = spans.iter().filter_map(|span| Some((span.attribute("subjobs.request_id")?, span)));
    let mut ids: Vec<_> = ids.filter(|(id, _)| id.contains('-')).collect();
    ids.sort_by(|one, other| one.0.cmp(&other.0));
    let names: Vec<_> = ids.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["invalid-1", "root-1", "sampled-0", "sampled-1"]);
    for (_, root) in &ids[..2] {
        assert_eq!((root.parent_id().as_str(), root.trace_id().len()), ("", 32));
        assert!(root.trace_id() != TRACE && root.trace_id() != "0".repeat(32));
    }
    assert_ne!(ids[0].1.trace_id(), ids[1].1.trace_id());
}

#[tokio::test]
async fn http_2_and_the_internal_listener_have_spans_too() {
    let (collector, certificates) = (Collector::start().await, Certificates::new());
    let config = Config { tls: Some(certificates.issue("server")), ..config() };
    let server = Running::start(Config { traces: traces(&collector.url(), 1.0), ..config }).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let mut count = http2.get(&count_path(PROJECT), OPS);
    for (name, value) in [("traceparent", traceparent("01").as_str()), ("x-request-id", "over-http-2")] {
        count.headers_mut().insert(http::HeaderName::from_static(name), value.parse().unwrap());
    }
    assert_eq!(http2.ask(count).await.unwrap().status, 200);
    let report = server.report(WORKER, record("a", "j", "CREATE_SERVER", "RUNNING"));
    assert_eq!(send(report.header("traceparent", traceparent("01")), "reported").await, 200);
    drop(http2);
    end(server).await;
    for (id, name, principal, listener) in [
        ("over-http-2", format!("GET {COUNT}"), "ops", "public"),
        ("reported", format!("POST {REPORT}"), "worker", "internal"),
    ] {
        let span = collector.span(id);
        assert_eq!(summary(&span), expected(&name, 200, [Some(principal), Some(PROJECT), None]), "{id}");
        assert_eq!((span.trace_id().as_str(), span.parent_id().as_str()), (TRACE, PARENT), "{id}");
        assert_eq!(span.attribute("subjobs.listener").as_deref(), Some(listener), "{id}");
    }
}

#[tokio::test]
async fn spans_are_sent_while_the_server_runs() {
    let collector = Collector::start().await;
    let server = server(&collector, 0.0).await;
    assert_eq!(send(server.ask(OPS, "").header("traceparent", traceparent("01")), "one").await, 200);
    server.reaches("subjobs_spans_total{outcome=\"exported\"}", 1.0).await;
    assert_eq!(collector.span("one").trace_id(), TRACE);
    assert_eq!(server.metric("subjobs_spans_total{outcome=\"refused\"}").await, Some(0.0));
}

#[tokio::test]
async fn a_collector_that_is_absent_or_refuses_costs_spans_only() {
    let closed = free_address();
    let refusing = Collector::answering(StatusCode::BAD_REQUEST).await;
    for url in [format!("http://{closed}/v1/traces"), refusing.url()] {
        let server = Running::start(Config { traces: traces(&url, 0.0), ..config() }).await;
        for number in 0..3 {
            let request = server.ask(OPS, "").header("traceparent", traceparent("01"));
            assert_eq!(send(request, &number.to_string()).await, 200);
        }
        server.reaches("subjobs_spans_total{outcome=\"refused\"}", 3.0).await;
        assert_eq!(server.metric("subjobs_spans_total{outcome=\"exported\"}").await, Some(0.0));
        end(server).await;
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_delays_neither_requests_nor_the_end() {
    // Connections wait in the accept queue.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", silent.local_addr().unwrap());
    let mut server = Running::start(Config { traces: traces(&url, 1.0), ..config() }).await;
    let asked = Instant::now();
    // More than a batch and the queue.
    for _ in 0..3000 {
        assert_eq!(server.ask(OPS, "").send().await.unwrap().status(), 200);
    }
    let took = asked.elapsed();
    let dropped = server.metric("subjobs_spans_total{outcome=\"queue_full\"}").await.unwrap();
    let refused = server.metric("subjobs_spans_total{outcome=\"refused\"}").await.unwrap();
    assert!(dropped + refused > 0.0, "after {took:?}");
    let begun = Instant::now();
    server.stop();
    server.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "the bound is two seconds: {:?}", begun.elapsed());
}

#[tokio::test]
async fn without_a_collector_there_is_no_metric_of_spans() {
    let server = Running::start(config()).await;
    assert_eq!(send(server.ask(OPS, "").header("traceparent", traceparent("01")), "one").await, 200);
    assert!(!server.get_internal("/metrics").await.text().await.unwrap().contains("subjobs_spans"));
}
