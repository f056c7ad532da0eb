//! The options of traces, and the variables of OpenTelemetry.

use serde_json::Value;

use crate::support::blocking::exchange;
use crate::support::collector::Collector;
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, count_path};
use crate::support::gateways::free_address;
use crate::support::program::{Program, Signal, event, run, serve, text};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn ask(program: &Program, id: &str, traceparent: Option<&str>) {
    let mut more = vec![format!("X-Request-Id: {id}"), "Connection: close".to_owned()];
    more.extend(traceparent.map(|flags| format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-{flags}")));
    let more: Vec<_> = more.iter().map(String::as_str).collect();
    assert_eq!(exchange(program.public, request("GET", &count_path(PROJECT), OPS, &more)).status, 200);
}

/// The program, its access log and its log, after its end.
fn end(program: Program) -> (Vec<Value>, Vec<String>) {
    program.signal(Signal::Term);
    let out = program.out.clone();
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    (out.all().iter().map(|line| event(line)).collect(), log)
}

#[test]
fn the_program_sends_spans_with_the_headers_and_attributes_of_the_environment() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (collector, files) = (runtime.block_on(Collector::start()), Files::new());
    let mut command = serve(&["--access", &files.access(), "--access-log", "--traces-sample", "0"]);
    command.env("SUBJOBS_TRACES_ENDPOINT", collector.url());
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-collector");
    command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging");
    command.env("OTEL_SERVICE_NAME", "subjobs-of-a-test");
    let program = Program::begin_with(&mut command);
    program.await_log("ready");
    ask(&program, "sampled", Some("01"));
    ask(&program, "unsampled", Some("00"));
    ask(&program, "root", None);
    let (lines, _) = end(program);
    assert_eq!(collector.headers()[0]["authorization"], "Bearer of-the-collector");
    let span = collector.span("sampled");
    assert_eq!(span.of_server("service.name").as_deref(), Some("subjobs-of-a-test"));
    assert_eq!(span.of_server("deployment.environment.name").as_deref(), Some("staging"));
    assert_eq!(collector.spans().len(), 1);
    let trace_id = |id: &str| lines.iter().find(|line| line["request_id"] == id).unwrap()["trace_id"].clone();
    assert_eq!(["sampled", "unsampled"].map(trace_id), [Value::from(TRACE), Value::from(TRACE)]);
    assert_eq!(trace_id("root"), Value::Null);
}

#[test]
fn the_access_log_has_the_trace_of_the_caller_also_without_a_collector() {
    let files = Files::new();
    let program = Program::begin_with(&mut serve(&["--access", &files.access(), "--access-log"]));
    program.await_log("ready");
    ask(&program, "sampled", Some("01"));
    ask(&program, "invalid", Some("x"));
    let (lines, _) = end(program);
    assert_eq!(lines[0]["trace_id"], TRACE);
    assert!(!lines[1].as_object().unwrap().contains_key("trace_id"), "{}", lines[1]);
}

#[test]
fn an_absent_collector_is_logged_once() {
    let files = Files::new();
    let closed = free_address();
    let url = format!("http://{closed}/v1/traces");
    let program = Program::begin_with(&mut serve(&["--access", &files.access(), "--traces-endpoint", &url]));
    program.await_log("ready");
    let message = "spans dropped: the collector did not take them";
    ask(&program, "one", None);
    let warned = program.await_log(message);
    assert_eq!(warned["level"], "WARN");
    assert!(warned["error"].as_str().is_some_and(|error| error.contains("refused")), "{warned}");
    ask(&program, "two", None);
    let (_, log) = end(program);
    assert_eq!(log.iter().filter(|line| line.contains(message)).count(), 1, "{}", log.join("\n"));
}

#[test]
fn an_unusable_url_of_a_collector_is_refused_without_its_secrets() {
    let files = Files::new();
    for url in [
        "http://u:secret@127.0.0.1/v1/traces",
        "http://127.0.0.1:4318",
        "127.0.0.1:4318/v1/traces",
        "http://h/x?secret",
    ] {
        let output = run(&mut serve(&["--access", &files.access(), "--traces-endpoint", url]), "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{url}: {said}");
        assert!(
            said.contains("--traces-endpoint (SUBJOBS_TRACES_ENDPOINT): must") && !said.contains("secret"),
            "{said}"
        );
    }
}
