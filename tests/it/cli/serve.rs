//! The command `serve`: its start, its log and its end.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::support::blocking::{BlockingConnection, exchange, get, post};
use crate::support::connection::request;
use crate::support::fixtures::{
    DASHBOARD, EXPIRED, Files, OPS, OTHER_PROJECT, PROJECT, WORKER, access, code, count_path, load_line, record,
    report_path,
};
use crate::support::program::{Program, Signal, event, healthcheck, serve, writer};
use crate::support::wait::until;

fn assert_silent_about_tokens(log: &[String]) {
    for token in [OPS, DASHBOARD, WORKER, EXPIRED, "unknown-token"] {
        assert!(log.iter().all(|line| !line.contains(token)), "{token} is in the log:\n{}", log.join("\n"));
    }
}

#[test]
fn serve_loads_files_and_stops_on_sigterm_and_sigint() {
    let files = Files::new();
    let load = [
        files.put("a.ndjson", &(load_line(PROJECT, "1", "CREATE_SERVER", "RUNNING") + "\n")),
        files.put("b.ndjson", &load_line(PROJECT, "1", "CREATE_SERVER", "FAILED")),
    ];
    for signal in [Signal::Term, Signal::Int] {
        let program = Program::start(&["--access", &files.access(), "--load", &load[0], "--load", &load[1]]);
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(program.internal_status(path), 200, "{path}");
        }
        assert_eq!(program.count(""), 1);
        assert_eq!(program.count("?status=FAILED"), 1, "the later file has the last word");
        let report = record("2", "j", "DELETE_SERVER", "RUNNING");
        assert_eq!(post(program.internal, &report_path(PROJECT), WORKER, &report).status, 200);
        assert_eq!(program.ask(DASHBOARD, "?job_type=DELETE_SERVER").json()["count"], 1);
        assert_eq!(program.ask("unknown-token", "").status, 401);
        let addresses = [program.public, program.internal].map(|address| address.to_string());

        program.signal(signal);
        let (code, log) = program.ended();
        assert_eq!(code, 0, "{signal:?}");
        let events: Vec<_> = log.iter().map(|line| event(line)).collect();
        for (event, (listener, address)) in events.iter().zip(["public", "internal"].iter().zip(&addresses)) {
            assert_eq!(event["message"], "listening");
            assert_eq!((&event["listener"], &event["address"]), (&(*listener).into(), &address.as_str().into()));
        }
        assert_eq!(events[2]["level"], "WARN");
        assert!(events[2]["message"].as_str().unwrap().contains("a restart loses all subtasks"), "{}", log[2]);
        assert_eq!(events.last().unwrap()["message"], "stopped");
        assert_silent_about_tokens(&log);
    }
}

#[test]
fn a_drain_waits_for_the_delay_and_for_running_requests() {
    let files = Files::new();
    let program = Program::start(&[
        "--access",
        &files.access(),
        "--drain-delay",
        "3s",
        "--drain",
        "60s",
        "--request-timeout",
        "60s",
        // Long timeouts, so that only the drain closes connections.
        "--head-timeout",
        "1h",
        "--idle-timeout",
        "1h",
    ]);
    let mut unused = BlockingConnection::open(program.public);
    let mut kept_alive = BlockingConnection::open(program.public);
    kept_alive.send(request("GET", &count_path(PROJECT), OPS, &[]));
    assert_eq!(kept_alive.response().status, 200);
    let mut half_sent = BlockingConnection::open(program.public);
    half_sent.send(b"GET /v1/");
    let mut running = program.running_count();

    program.signal(Signal::Term);
    until("/readyz is 503", || (program.internal_status("/readyz") == 503).then_some(()));
    get(program.internal, "/readyz", "").assert_error(503, code::UNAVAILABLE);
    // During the delay, requests are served on new and on open connections.
    assert_eq!(program.count(""), 0);
    kept_alive.send(request("GET", &count_path(PROJECT), OPS, &[]));
    assert_eq!(kept_alive.response().status, 200);

    // None of these has a running request, so they close without a response.
    for socket in [&mut unused, &mut kept_alive, &mut half_sent] {
        assert_eq!(socket.rest(), "");
    }
    until("the public listener closes", || BlockingConnection::try_open(program.public).err());
    // The internal listener still serves requests.
    assert_eq!((program.internal_status("/healthz"), program.internal_status("/readyz")), (200, 503));
    assert_eq!(program.metric("subjobs_http_in_flight"), Some(1));
    assert_eq!(
        post(program.internal, &report_path(PROJECT), OPS, &record("1", "j", "CREATE_SERVER", "RUNNING")).status,
        200
    );

    running.send(b"{}");
    let answer = running.last_response();
    assert_eq!((answer.status, answer.text()), (200, r#"{"count":1}"#));
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    assert!(!log.iter().any(|line| line.contains("drain timed out")), "{}", log.join("\n"));
}

#[test]
fn a_drain_timeout_logs_the_aborted_requests_and_exits_with_0() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access(), "--drain", "2s"]);
    let (mut count, mut report) = (program.running_count(), program.running_report());
    // Idle connections are not counted as aborted requests.
    let _idle = [BlockingConnection::open(program.public), BlockingConnection::open(program.internal)];

    let start = Instant::now();
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    let took = start.elapsed();
    assert_eq!(code, 0);
    let timed_out =
        log.iter().map(|line| event(line)).find(|event| event["message"].as_str().unwrap().contains("drain timed out"));
    assert_eq!(timed_out.expect("it says so")["aborted"], 2, "{}", log.join("\n"));
    assert_eq!([count.rest(), report.rest()], ["", ""]);
    // Both listeners share one deadline.
    assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(3900), "{took:?}");
}

#[test]
fn a_drain_of_zero_seconds_aborts_running_requests_only() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access(), "--drain", "0s"]);
    let mut idle: Vec<_> = (0..300).map(|_| BlockingConnection::open(program.public)).collect();
    for socket in &mut idle {
        socket.send(request("GET", &count_path(PROJECT), OPS, &[]));
        assert_eq!(socket.response().status, 200);
    }
    let _running = program.running_count();
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    let timed_out =
        log.iter().map(|line| event(line)).find(|event| event["message"].as_str().unwrap().contains("drain timed out"));
    assert_eq!(timed_out.expect("it says so")["aborted"], 1, "{}", log.join("\n"));
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let files = Files::new();
    for (first, second) in [(Signal::Term, Signal::Term), (Signal::Int, Signal::Int), (Signal::Term, Signal::Int)] {
        let program = Program::start(&["--access", &files.access(), "--drain", "1h", "--drain-delay", "1h"]);
        let _running = program.running_count();
        program.signal(first);
        program.await_log("draining");
        program.signal(second);
        let (code, log) = program.ended();
        assert_eq!(code, 1, "{first:?}, {second:?}");
        assert!(log.last().unwrap().contains("second stop signal"), "{}", log.join("\n"));
    }
}

#[test]
fn requests_get_503_until_all_files_are_loaded() {
    let files = Files::new();
    let load = files.fifo("load.ndjson");
    let program = Program::begin(&["--access", &files.access(), "--load", &load]);
    let mut load = writer(load);
    // The first batches are stored before the pipe is closed.
    let many: String =
        (0..20_000).map(|id| load_line(PROJECT, &id.to_string(), "CREATE_SERVER", "RUNNING") + "\n").collect();
    load.write_all(many.as_bytes()).unwrap();

    assert_eq!(program.internal_status("/healthz"), 200);
    get(program.internal, "/readyz", "").assert_error(503, code::UNAVAILABLE);
    program.ask(OPS, "").assert_error(503, code::UNAVAILABLE);
    let report = post(program.internal, &report_path(PROJECT), OPS, &record("1", "j", "CREATE_SERVER", "RUNNING"));
    report.assert_error(503, code::UNAVAILABLE);
    // A request for an unknown path needs no subtask.
    get(program.public, "/v1", OPS).assert_error(404, code::NOT_FOUND);
    assert_eq!(healthcheck(&program.internal.to_string()), 1);

    drop(load);
    program.await_log("ready");
    assert_eq!(healthcheck(&program.internal.to_string()), 0);
    assert_eq!(program.count(""), 20_000);
}

#[test]
fn a_bad_line_ends_the_start_and_is_named() {
    let files = Files::new();
    let path = files.fifo("load.ndjson");
    let program = Program::begin(&["--access", &files.access(), "--load", &path]);
    let mut load = writer(&path);
    let good = load_line(PROJECT, "1", "CREATE_SERVER", "RUNNING");
    write!(load, "{good}\n{good}\n").unwrap();
    program.ask(OPS, "").assert_error(503, code::UNAVAILABLE);
    writeln!(load, "{}", load_line(PROJECT, "2", "CREATE_SERVER", "DONE")).unwrap();
    drop(load);
    let (code, log) = program.ended();
    assert_eq!(code, 2);
    let said = log.last().unwrap();
    assert!(said.contains(&format!("{path}:3: status must be one of WAITING")), "{said}");
    assert!(!log.iter().any(|line| line.contains("\"ready\"")), "{}", log.join("\n"));
}

#[test]
fn a_drain_during_the_load_serves_no_subtasks() {
    let files = Files::new();
    let path = files.fifo("load.ndjson");
    let program = Program::begin(&["--access", &files.access(), "--load", &path, "--drain-delay", "2s"]);
    let mut load = writer(&path);
    let many: String =
        (0..20_000).map(|id| load_line(PROJECT, &id.to_string(), "CREATE_SERVER", "RUNNING") + "\n").collect();
    load.write_all(many.as_bytes()).unwrap();
    program.signal(Signal::Term);
    program.await_log("draining");
    until("/readyz says that it drains", || {
        let ready = get(program.internal, "/readyz", "");
        ready.assert_error(503, code::UNAVAILABLE);
        ready.text().contains("shutting down").then_some(())
    });
    program.ask(OPS, "").assert_error(503, code::UNAVAILABLE);
    let report = post(program.internal, &report_path(PROJECT), OPS, &record("1", "j", "CREATE_SERVER", "RUNNING"));
    report.assert_error(503, code::UNAVAILABLE);
    assert_eq!(program.ended().0, 0);
}

#[test]
fn a_signal_ends_the_load() {
    let files = Files::new();
    // A pipe without any data, and one whose writer does not close it.
    for is_begun in [false, true] {
        let path = files.fifo(&format!("load-{is_begun}"));
        let program = Program::begin(&["--access", &files.access(), "--load", &path, "--drain", "1h"]);
        let load = is_begun.then(|| {
            let mut load = writer(&path);
            writeln!(load, "{}", load_line(PROJECT, "1", "CREATE_SERVER", "RUNNING")).unwrap();
            load
        });
        let start = Instant::now();
        program.signal(Signal::Term);
        let (code, log) = program.ended();
        assert_eq!(code, 0, "{}", log.join("\n"));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        drop(load);
    }
}

#[test]
fn sighup_reloads_the_access_file() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access()]);
    let mut kept_alive = BlockingConnection::open(program.public);
    let mut ask = |token: &str| {
        kept_alive.send(request("GET", &count_path(PROJECT), token, &[]));
        kept_alive.response().status
    };
    assert_eq!((ask(DASHBOARD), ask("unknown-token")), (200, 401));

    files.put("access.toml", &access().replace("name = \"dashboard\"", "name = \"dashboard\"\nsecret = \"hush\""));
    program.signal(Signal::Hup);
    let error = program.await_log("access file not reloaded: still using the previous file");
    assert_eq!(error["level"], "ERROR");
    let reason = error["error"].as_str().unwrap();
    assert!(reason.contains("access.toml: line 12: unknown field `secret`"), "{reason}");
    assert_eq!((ask(DASHBOARD), ask(OPS)), (200, 200));

    // The new file lacks one principal and one project.
    let without_dashboard = access().replace("\"dashboard\"", "\"panel\"");
    let hash = subjobs::access::Token::new(DASHBOARD.as_bytes()).unwrap().digest().to_string();
    let new_hash = subjobs::access::Token::new(b"new-token").unwrap().digest().to_string();
    files.put(
        "access.toml",
        &without_dashboard.replace(&hash, &new_hash).replace(&format!(", \"{OTHER_PROJECT}\"]"), "]"),
    );
    program.signal(Signal::Hup);
    program.await_log("access file reloaded");
    assert_eq!((ask(DASHBOARD), ask("new-token"), ask(OPS)), (401, 200, 200));
    get(program.public, &count_path(OTHER_PROJECT), OPS).assert_error(404, code::NOT_FOUND);

    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    assert_silent_about_tokens(&log);
}

#[test]
fn the_log_has_its_format_and_no_token() {
    let files = Files::new();
    for (filter, format) in [("trace", "json"), ("trace", "text"), ("trace,hyper=trace,toml=trace", "json")] {
        let mut command = serve(&["--access", &files.access(), "--log-format", format]);
        let program = Program::begin_with(command.env("RUST_LOG", filter));
        until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
        for token in [OPS, DASHBOARD, EXPIRED, "unknown-token"] {
            program.ask(token, "?status=NOPE");
            program.ask(token, "");
            post(program.internal, &report_path(PROJECT), token, "nonsense");
            get(program.public, "/", token);
        }
        let twice = request("GET", &count_path(PROJECT), OPS, &["X-Auth-Token: unknown-token", "Connection: close"]);
        exchange(program.public, twice);
        // The HTTP layer itself refuses this request.
        let broken = request("GET", &count_path(PROJECT), OPS, &["Content-Length: x", "Connection: close"]);
        exchange(program.public, broken);
        program.signal(Signal::Hup);
        program.signal(Signal::Term);
        let (code, log) = program.ended();
        assert_eq!(code, 0);
        assert!(log.iter().any(|line| line.contains("answered")), "the filter is not in force:\n{}", log.join("\n"));
        assert_silent_about_tokens(&log);
        for line in &log {
            let is_json = serde_json::from_str::<serde_json::Value>(line)
                .is_ok_and(|event| ["timestamp", "level", "message"].iter().all(|field| event[field].is_string()));
            assert_eq!(is_json, format == "json", "{line}");
        }
    }
}
