//! The drain: which responses close their connection, and that no request is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use subjobs::config::Config;

use crate::support::blocking::{BlockingConnection, post};
use crate::support::connection::{Connection, head, request, valid_count};
use crate::support::fixtures::{Files, OPS, PROJECT, code, config, record, report_path};
use crate::support::program::{Program, Signal};
use crate::support::server::Running;
use crate::support::wait::until;

const LONG: Duration = Duration::from_secs(3600);

/// Stops a server and waits until it drains.
async fn stop(server: &mut Running) {
    server.stop();
    while server.get_internal("/readyz").await.status() != 503 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn public_responses_after_the_signal_close_their_connection() {
    let mut server = Running::start(Config { drain_delay: LONG, ..config() }).await;
    let requests = [
        (valid_count("", &[]), 200),
        (valid_count("?status=x", &[]), 400),
        (valid_count("", &["Content-Length: 2"]) + "{}", 200),
        (valid_count("", &[]).replace("GET", "HEAD"), 200),
        (head("GET / HTTP/1.1", &["Host: h"]), 404),
        (valid_count("", &["Connection: keep-alive"]).replace("HTTP/1.1", "HTTP/1.0"), 200),
    ];
    let mut kept = Vec::new();
    for (request, status) in requests {
        let mut connection = Connection::open(server.public).await;
        connection.send(valid_count("", &[])).await;
        let answer = connection.response().await;
        assert_eq!(answer.header("connection"), None);
        kept.push((connection, request, status));
    }
    let mut running = Connection::open(server.public).await;
    running.send(valid_count("", &["Content-Length: 2"]) + "{").await;
    server.reaches("subjobs_http_in_flight", 1.0).await;
    let mut internal = Connection::open(server.internal).await;

    stop(&mut server).await;
    for (mut connection, request, status) in kept {
        // Later requests of the pipeline get no response on this connection.
        connection.send(request.clone() + &valid_count("", &[])).await;
        let answer =
            if request.contains("HEAD") { connection.response_to_head().await } else { connection.response().await };
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{request}");
        assert_eq!(connection.rest().await, "", "{request}");
    }
    running.send("}").await;
    let answer = running.response().await;
    assert_eq!((answer.count(), answer.header("connection")), (0, Some("close")));
    assert_eq!(running.rest().await, "");
    let mut new = Connection::open(server.public).await;
    new.send(valid_count("", &[])).await;
    assert_eq!(new.response().await.header("connection"), Some("close"));
    // Responses of the internal listener keep their connections open.
    for _ in 0..2 {
        internal.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(internal.response().await.header("connection"), None);
    }
}

#[tokio::test]
async fn requests_that_arrived_before_the_end_are_answered() {
    let mut server = Running::start(Config { drain: Duration::from_secs(20), ..config() }).await;
    let kept = (0..200).map(async |_| {
        let mut connection = Connection::open(server.public).await;
        connection.send(valid_count("", &[])).await;
        connection.response().await.count();
        connection
    });
    let mut kept = join_all(kept).await;
    for connection in &kept {
        connection.send_now(valid_count("", &[]));
    }
    server.stop();
    for connection in &mut kept {
        let answer = connection.response().await;
        answer.count();
        assert_eq!(connection.rest().await, "");
    }
    assert_eq!(server.ended().await, 0);
}

/// A close with unread bytes resets the connection, and the peer may lose the response before it.
#[tokio::test]
async fn connections_without_a_request_end_without_a_reset() {
    let mut server = Running::start(config()).await;
    let mut connections = Vec::new();
    for sent in ["", "\r\n", "GET /v1/", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        for address in [server.public, server.internal] {
            let mut connection = Connection::open(address).await;
            connection.send(sent).await;
            connections.push(connection);
        }
    }
    let mut report = Connection::open(server.internal).await;
    report.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &["Host: h"])).await;
    report.response().await.assert_error(401, code::CREDENTIAL);
    connections.push(report);
    server.stop();
    for connection in &mut connections {
        connection.send("x".repeat(1000)).await;
        assert_eq!(connection.rest().await, "");
    }
    assert_eq!(server.ended().await, 0);
}

/// Probes and scrapes get responses as long as a request runs.
#[test]
fn the_internal_listener_ends_last() {
    let files = Files::new();
    let args = ["--access", &files.access(), "--drain", "60s", "--report-timeout", "60s"];
    let program = Program::start(&[&args[..], &["--data-dir", &files.arg("data")]].concat());
    let mut report = program.running_report();
    let mut kept = BlockingConnection::open(program.internal);
    program.signal(Signal::Term);
    until("the public listener ends", || BlockingConnection::try_open(program.public).err());
    until("no new report is taken", || {
        let new = post(program.internal, &report_path(PROJECT), OPS, &record("1", "j", "CREATE_SERVER", "RUNNING"));
        (new.status == 503).then(|| assert!(new.text().contains("shutting down"), "{new:?}"))
    });
    for _ in 0..3 {
        let statuses = ["/healthz", "/readyz", "/metrics"].map(|path| program.internal_status(path));
        assert_eq!(statuses, [200, 503, 200]);
    }
    kept.send(request("GET", "/healthz", "", &[]));
    assert_eq!(kept.response().status, 200);
    assert!(program.metric("subjobs_refusals_total{reason=\"draining\"}") > Some(0));
    report.send(b"\n\n");
    assert_eq!(report.response().status, 200);
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
    let _idle = [BlockingConnection::open(program.public), BlockingConnection::open(program.internal)];
    let start = Instant::now();
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
