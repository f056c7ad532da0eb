//! The whole responses of 500, and of the 503 that a start, a drain, a limit and a failing disk cause.

use std::fs;

use subjobs::config::Config;

use crate::support::blocking::{get, post};
use crate::support::connection::{exchange, request, valid_count};
use crate::support::fixtures::{Files, OPS, PROJECT, config, full, record, report_path};
use crate::support::program::{Program, Signal};
use crate::support::server::Running;
use crate::support::snapshot::Transcript;
use crate::support::wait::until;

/// Details are read from the disk when a list shows them. An error there is the server's own: its text is in the log only.
#[tokio::test]
async fn responses_of_500_are_unchanged() {
    let files = Files::new();
    let server = Running::start(Config { data_dir: Some(files.path("data")), ..config() }).await;
    assert_eq!(server.report(OPS, full("1").to_string()).send().await.unwrap().status(), 200);
    let is_segment = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("log-");
    let mut segments = fs::read_dir(files.path("data")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.find(is_segment).unwrap();
    let corrupt: Vec<_> = fs::read(&segment).unwrap().iter().map(|byte| byte ^ 1).collect();
    fs::write(&segment, corrupt).unwrap();

    let mut transcript = Transcript::default();
    let list = format!("/v1/{PROJECT}/app-server-sub-jobs?job_type=");
    transcript.add("a list of corrupt details", &exchange(server.public, request("GET", &list, OPS, &[])).await);
    let job = format!("/v2/{PROJECT}/job/j");
    transcript.add("a job of corrupt details", &exchange(server.public, request("GET", &job, OPS, &[])).await);
    transcript.add("a count needs no details", &exchange(server.public, valid_count("", &[])).await);
    transcript.assert_snapshot("errors_500");
}

#[test]
fn responses_of_503_during_a_start_and_a_drain_are_unchanged() {
    let files = Files::new();
    // No process writes to the pipe, so the load does not end.
    let load = files.fifo("load.ndjson");
    let program = Program::begin(&["--access", &files.access(), "--load", &load, "--drain-delay", "5s"]);
    let mut transcript = Transcript::default();
    let mut add_all = |when: &str| {
        transcript.add(&format!("a count during a {when}"), &program.ask(OPS, ""));
        let report = record("1", "j", "CREATE_SERVER", "RUNNING");
        let report = post(program.internal, &report_path(PROJECT), OPS, &report);
        transcript.add(&format!("a report during a {when}"), &report);
        transcript.add(&format!("readiness during a {when}"), &get(program.internal, "/readyz", ""));
    };
    add_all("start");
    program.signal(Signal::Term);
    program.await_log("draining");
    until("/readyz says that the server drains", || {
        get(program.internal, "/readyz", "").text().contains("shutting down").then_some(())
    });
    add_all("drain");
    transcript.assert_snapshot("errors_503_start_and_drain");
}

#[tokio::test]
async fn responses_of_503_at_the_limit_of_waiters_are_unchanged() {
    let server = Running::start(Config { max_waiters: 0, ..config() }).await;
    let mut transcript = Transcript::default();
    let wait = request("GET", &format!("/subjobs/v1/{PROJECT}/wait?until=eq:1"), OPS, &[]);
    transcript.add("a wait above the limit", &exchange(server.public, wait).await);
    let events = request("GET", &format!("/subjobs/v1/{PROJECT}/events"), OPS, &[]);
    transcript.add("a stream above the limit", &exchange(server.internal, events).await);
    transcript.assert_snapshot("errors_503_waiters");
}

#[tokio::test]
async fn responses_of_503_of_changes_that_cannot_be_stored_are_unchanged() {
    let files = Files::new();
    let config = Config { data_dir: Some(files.path("data")), allow_reset: true, ..config() };
    let server = Running::start(config).await;
    assert_eq!(server.report(OPS, full("1").to_string()).send().await.unwrap().status(), 200);
    // Without its directory the store can open no file.
    fs::rename(files.path("data"), files.path("moved")).unwrap();

    let mut transcript = Transcript::default();
    let send = async |address, method: &str, target: &str, media_type: &str, body: &str| {
        let headers = [format!("Content-Type: {media_type}"), format!("Content-Length: {}", body.len())];
        exchange(address, request(method, target, OPS, &[&headers[0], &headers[1]]) + body).await
    };
    let report = record("2", "j", "CREATE_SERVER", "RUNNING");
    let report = send(server.internal, "POST", &report_path(PROJECT), "application/x-ndjson", &report).await;
    transcript.add("a report", &report);
    let delete = format!("/v1/{PROJECT}/app-server-sub-jobs/actions/batch-delete");
    let delete = send(server.public, "POST", &delete, "application/json", r#"{"items":["1"]}"#).await;
    transcript.add("a delete", &delete);
    let reset = format!("/subjobs/v1/{PROJECT}/reset");
    transcript.add("a reset", &send(server.internal, "POST", &reset, "application/json", "").await);
    transcript.assert_snapshot("errors_503_not_stored");
}
