//! The limits of connections, in all and for each address, and the reserve for health and metrics.

use std::time::Duration;

use subjobs::config::Config;

use crate::support::connection::{Connection, head, valid_count};
use crate::support::fixtures::{OPS, PROJECT, code, config, report_path};
use crate::support::server::Running;

/// The number of connections that are reserved for probes.
const RESERVE: usize = 32;

fn probe(path: &str) -> String {
    head(&format!("GET {path} HTTP/1.1"), &["Host: h"])
}

/// Opens connections, each of which has received a response.
async fn open_connections(server: &Running, count: usize) -> Vec<Connection> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut connection = Connection::open(server.internal).await;
        connection.send(probe("/healthz")).await;
        assert_eq!(connection.response().await.status, 200);
        held.push(connection);
    }
    held
}

#[tokio::test]
async fn a_public_connection_above_the_limit_waits() {
    let server = Running::start(Config { max_connections: 2, ..config() }).await;
    let mut open = [Connection::open(server.public).await, Connection::open(server.public).await];
    for connection in &mut open {
        connection.send(valid_count("", &[])).await;
        connection.response().await.count();
    }
    let mut waiting = Connection::open(server.public).await;
    waiting.send(valid_count("", &[])).await;
    assert!(waiting.is_quiet_for(Duration::from_millis(300)).await);
    let [first, mut second] = open;
    second.send(valid_count("", &[])).await;
    second.response().await.count();
    drop(first);
    waiting.response().await.count();
}

#[tokio::test]
async fn probes_are_answered_when_the_internal_connections_are_in_use() {
    let server = Running::start(Config { max_connections: 3, ..config() }).await;
    // One connection belongs to the HTTP client of the test.
    server.reaches("subjobs_http_connections{listener=\"internal\"}", 1.0).await;
    let mut held = open_connections(&server, 2).await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/healthz"] {
        let mut connection = Connection::open(server.internal).await;
        connection.send(probe(path) + &probe(path)).await;
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{path}");
        assert_eq!(connection.rest().await, "");
    }
    let token = format!("X-Auth-Token: {OPS}");
    let report = ["Host: h", &token, "Content-Type: application/x-ndjson", "Content-Length: 0"];
    let report = head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &report);
    let mut connection = Connection::open(server.internal).await;
    connection.send(&report).await;
    assert_eq!(connection.response().await.assert_error(503, code::UNAVAILABLE), "the service is overloaded");
    assert_eq!(connection.rest().await, "");
    assert_eq!(server.metric("subjobs_refusals_total{reason=\"overloaded\"}").await, Some(1.0));
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"failed\"}").await, Some(1.0));
    // A worker with an open connection can report, and so can one that gets the next free connection.
    held[0].send(&report).await;
    assert_eq!(held[0].response().await.status, 200);
    drop(held);
    server.reaches("subjobs_http_connections{listener=\"internal\"}", 1.0).await;
    let mut connection = Connection::open(server.internal).await;
    connection.send(&report).await;
    assert_eq!(
        (connection.response().await.status, connection.is_quiet_for(Duration::from_millis(50)).await),
        (200, true)
    );
}

#[tokio::test]
async fn idle_connections_do_not_block_probes() {
    let server = Running::start(Config { max_connections: 1, ..config() }).await;
    let mut idle = Vec::new();
    for _ in 0..RESERVE {
        let mut connection = Connection::open(server.internal).await;
        // A partial request is not a probe.
        connection.send("GET /healthz HT").await;
        idle.push(connection);
    }
    server.reaches("subjobs_http_connections{listener=\"internal\"}", 1.0 + RESERVE as f64).await;
    for displaced in 0..2 * RESERVE {
        let mut connection = Connection::open(server.internal).await;
        connection.send(probe("/readyz")).await;
        assert_eq!(connection.response().await.body, b"ready\n");
        // The connection of the probe is closed, and an idle one is accepted instead.
        let next = Connection::open(server.internal).await;
        assert_eq!(idle[displaced].rest().await, "", "the one that has waited longest goes first");
        idle.push(next);
    }
    assert!(idle.last_mut().unwrap().is_quiet_for(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_connection_above_the_limit_of_its_address_is_closed() {
    let server = Running::start(Config { max_connections_per_address: Some(3), ..config() }).await;
    for address in [server.public, server.internal] {
        let request = if address == server.public { valid_count("", &[]) } else { probe("/healthz") };
        let source = "127.0.0.7";
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut connection = Connection::open_from(source, address).await;
            connection.send(&request).await;
            assert_eq!(connection.response().await.status, 200);
            open.push(connection);
        }
        for _ in 0..5 {
            assert_eq!(Connection::open_from(source, address).await.rest().await, "");
        }
        let mut other = Connection::open_from("127.0.0.8", address).await;
        other.send(&request).await;
        assert_eq!(other.response().await.status, 200);
        open.pop();
        let listener = if address == server.public { "public" } else { "internal" };
        let left = if address == server.public { 3.0 } else { 4.0 };
        server.reaches(&format!("subjobs_http_connections{{listener=\"{listener}\"}}"), left).await;
        let mut next = Connection::open_from(source, address).await;
        next.send(&request).await;
        assert_eq!(next.response().await.status, 200);
    }
}
