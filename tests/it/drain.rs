//! The end as callers see it: which answers close their connection, and that no request is lost on the way.

use std::time::Duration;

use futures_util::future::join_all;
use subjobs::config::Config;

use crate::support::{PROJECT, Running, config};
use crate::wire::{Wire, code, good, head, report_path};

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
