//! The end as callers see it: which answers close their connection, and that no request is lost on the way.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use subjobs::config::Config;

use crate::support::http::{self, connect, one_answer, post};
use crate::support::program::{Files, Program, Signal, until};
use crate::support::server::{OPS, PROJECT, Running, config, record};
use crate::support::wire::{Wire, code, good, head, report_path};

const LONG: Duration = Duration::from_secs(3600);

/// Stops a server and waits until it says so.
async fn stop(server: &mut Running) {
    server.stop();
    while server.get_internal("/readyz").await.status() != 503 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_public_answer_after_the_signal_closes_its_connection() {
    let mut server = Running::start(Config { drain_delay: LONG, ..config() }).await;
    let requests = [
        (good("", &[]), 200),
        (good("?status=x", &[]), 400),
        (good("", &["Content-Length: 2"]) + "{}", 200),
        (good("", &[]).replace("GET", "HEAD"), 200),
        (head("GET / HTTP/1.1", &["Host: h"]), 404),
        (good("", &["Connection: keep-alive"]).replace("HTTP/1.1", "HTTP/1.0"), 200),
    ];
    let mut kept = Vec::new();
    for (request, status) in requests {
        let mut wire = Wire::open(server.public).await;
        wire.send(good("", &[])).await;
        let answer = wire.answer().await;
        assert_eq!(answer.header("connection"), None);
        kept.push((wire, request, status));
    }
    let mut running = Wire::open(server.public).await;
    running.send(good("", &["Content-Length: 2"]) + "{").await;
    server.reaches("subjobs_http_in_flight", 1.0).await;
    let mut internal = Wire::open(server.internal).await;

    stop(&mut server).await;
    for (mut wire, request, status) in kept {
        // What follows in the pipeline is for another connection.
        wire.send(request.clone() + &good("", &[])).await;
        let answer = if request.contains("HEAD") { wire.answer_to_head().await } else { wire.answer().await };
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{request}");
        assert_eq!(wire.rest().await, "", "{request}");
    }
    running.send("}").await;
    let answer = running.answer().await;
    assert_eq!((answer.count(), answer.header("connection")), (0, Some("close")));
    assert_eq!(running.rest().await, "");
    let mut new = Wire::open(server.public).await;
    new.send(good("", &[])).await;
    assert_eq!(new.answer().await.header("connection"), Some("close"));
    // Probes and workers stay where they are.
    for _ in 0..2 {
        internal.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(internal.answer().await.header("connection"), None);
    }
}

#[tokio::test]
async fn requests_that_arrived_before_the_listener_ended_are_answered() {
    let mut server = Running::start(Config { drain: Duration::from_secs(20), ..config() }).await;
    let kept = (0..200).map(async |_| {
        let mut wire = Wire::open(server.public).await;
        wire.send(good("", &[])).await;
        wire.answer().await.count();
        wire
    });
    let mut kept = join_all(kept).await;
    for wire in &kept {
        wire.send_now(good("", &[]));
    }
    server.stop();
    for wire in &mut kept {
        let answer = wire.answer().await;
        answer.count();
        assert_eq!(wire.rest().await, "");
    }
    assert_eq!(server.ended().await, 0);
}

/// Bytes that nobody has read turn the end of a connection into a reset, which takes the answer before them along.
#[tokio::test]
async fn connections_without_a_request_end_in_order() {
    let mut server = Running::start(config()).await;
    let mut wires = Vec::new();
    for sent in ["", "\r\n", "GET /v1/", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        for address in [server.public, server.internal] {
            let mut wire = Wire::open(address).await;
            wire.send(sent).await;
            wires.push(wire);
        }
    }
    let mut report = Wire::open(server.internal).await;
    report.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &["Host: h"])).await;
    report.answer().await.error(401, code::CREDENTIAL);
    wires.push(report);
    server.stop();
    for wire in &mut wires {
        wire.send("x".repeat(1000)).await;
        assert_eq!(wire.rest().await, "");
    }
    assert_eq!(server.ended().await, 0);
}

/// Probes and scrapes see that it ends, not that it is gone, for as long as anything runs.
#[test]
fn the_internal_listener_answers_to_the_very_end() {
    let files = Files::new();
    let args = ["--access", &files.access(), "--drain", "60s", "--report-timeout", "60s"];
    let program = Program::start(&[&args[..], &["--data-dir", &files.arg("data")]].concat());
    let mut report = program.running_report();
    let mut kept = connect(program.internal);
    program.signal(Signal::Term);
    until("the public listener ends", || TcpStream::connect(program.public).err());
    until("no new report is taken", || {
        let new = post(program.internal, &report_path(PROJECT), OPS, &record("1", "j", "CREATE_SERVER", "RUNNING"));
        (new.status == 503).then(|| assert!(new.body.contains("shutting down"), "{new:?}"))
    });
    for _ in 0..3 {
        let statuses = ["/healthz", "/readyz", "/metrics"].map(|path| program.internal_status(path));
        assert_eq!(statuses, [200, 503, 200]);
    }
    kept.write_all(http::head("GET", "/healthz", "", "").as_bytes()).unwrap();
    assert_eq!(one_answer(&mut kept).status, 200);
    assert!(program.metric("subjobs_refusals_total{reason=\"draining\"}") > Some(0));
    report.write_all(b"\n\n").unwrap();
    assert_eq!(one_answer(&mut report).status, 200);
    let start = Instant::now();
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(!log.iter().any(|line| line.contains("drain timed out")), "{}", log.join("\n"));
}

#[test]
fn a_server_without_requests_ends_at_once() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access(), "--data-dir", &files.arg("data"), "--drain", "60s"]);
    let _idle = [connect(program.public), connect(program.internal)];
    let start = Instant::now();
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
