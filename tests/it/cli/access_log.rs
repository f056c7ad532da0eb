//! The access log: a line of JSON for each request, on standard output.

use serde_json::{Value, json};

use crate::support::blocking::exchange;
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, count_path};
use crate::support::program::{Program, Signal, event, run, serve, text};

fn start(args: &[&str]) -> Program {
    let files = Files::new();
    let program = Program::begin_with(&mut serve(&[&["--access", &files.access()], args].concat()));
    program.await_log("ready");
    program
}

fn ask(program: &Program, path: &str, token: &str, id: &str) {
    let more = [&format!("X-Request-Id: {id}"), "Connection: close"];
    exchange(program.public, request("GET", path, token, &more));
}

fn lines_at_the_end(program: Program) -> Vec<Value> {
    program.signal(Signal::Term);
    let out = program.out.clone();
    assert_eq!(program.ended().0, 0);
    out.all().iter().map(|line| event(line)).collect()
}

#[test]
fn a_request_has_a_line_with_its_caller_and_project() {
    let program = start(&["--access-log"]);
    let route = "/v1/{project_id}/app-server-sub-jobs/actions/count";
    ask(&program, &count_path(PROJECT), OPS, "counted");
    ask(&program, &count_path("no%20project"), OPS, "invalid");
    ask(&program, &count_path(PROJECT), "secret-guess", "refused");
    ask(&program, "/secret-path", OPS, "unknown");
    exchange(program.internal, request("GET", "/readyz", "", &["X-Request-Id: ready", "Connection: close"]));
    let log = lines_at_the_end(program);
    let line = |id: &str| {
        let line = log.iter().find(|line| line["request_id"] == id).unwrap_or_else(|| panic!("{id}: {log:?}"));
        assert!(line["duration_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0 && seconds < 60.0), "{line}");
        assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
        ["listener", "method", "route", "status", "principal", "project"].map(|field| line[field].clone())
    };
    assert_eq!(json!(line("counted")), json!(["public", "GET", route, 200, "ops", PROJECT]));
    assert_eq!(json!(line("invalid")), json!(["public", "GET", route, 400, "ops", null]));
    assert_eq!(json!(line("refused")), json!(["public", "GET", route, 401, null, null]));
    assert_eq!(json!(line("unknown")), json!(["public", "GET", "unknown", 404, null, null]));
    assert_eq!(json!(line("ready")), json!(["internal", "GET", "/readyz", 200, null, null]));
    assert_eq!(log.len(), 5, "{log:?}");
    let all = format!("{log:?}");
    assert!(!all.contains("secret") && !all.contains(OPS), "{all}");
}

#[test]
fn a_share_of_the_requests_has_lines() {
    let program = start(&["--access-log", "--access-log-sample", "0.2"]);
    (0..20).for_each(|n| ask(&program, &count_path(PROJECT), OPS, &format!("n{n}")));
    assert_eq!(lines_at_the_end(program).len(), 4);
}

#[test]
fn without_the_option_there_is_no_access_log() {
    let program = start(&[]);
    ask(&program, &count_path(PROJECT), OPS, "counted");
    assert_eq!(lines_at_the_end(program), [] as [Value; 0]);
}

#[test]
fn a_share_is_a_number_from_0_to_1() {
    let files = Files::new();
    for share in ["1.1", "-0.1", "half", "NaN", ""] {
        let output = run(&mut serve(&["--access", &files.access(), &format!("--access-log-sample={share}")]), "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{share}: {said}");
        assert!(said.contains("--access-log-sample"), "{share}: {said}");
    }
}
