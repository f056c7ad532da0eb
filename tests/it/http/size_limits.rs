//! The limits of heads, targets, headers and connections.

use crate::support::connection::{Connection, exchange, valid_count};
use crate::support::fixtures::config;
use crate::support::server::Running;

/// A valid request whose head has exactly this number of bytes.
fn head_of(size: usize, in_target: bool) -> String {
    let missing = size - valid_count("?x=", &["X-Fill: "]).len();
    let fill = "x".repeat(missing);
    let request = match in_target {
        true => valid_count(&format!("?x={fill}"), &["X-Fill: "]),
        false => valid_count("?x=", &[&format!("X-Fill: {fill}")]),
    };
    assert_eq!(request.len(), size);
    request
}

#[tokio::test]
async fn heads_of_64_kib_are_accepted() {
    let server = Running::start(config()).await;
    for size in [1000, 8 * 1024, 32 * 1024, 64 * 1024 - 1, 64 * 1024] {
        for in_target in [false, true] {
            let mut connection = Connection::open(server.public).await;
            for piece in head_of(size, in_target).as_bytes().chunks(10_000) {
                connection.send(piece).await;
                tokio::task::yield_now().await;
            }
            connection.response().await.count();
            connection.send(head_of(size, in_target)).await;
            connection.response().await.count();
        }
    }
}

/// The response arrives although the client continues to send: it is not lost in a reset.
#[tokio::test]
async fn heads_above_256_kib_are_refused() {
    let server = Running::start(config()).await;
    for size in [256 * 1024 + 1, 300 * 1024, 1000 * 1024] {
        for address in [server.public, server.internal] {
            let mut connection = Connection::open(address).await;
            connection.send(head_of(size, false)).await;
            let answer = connection.response().await;
            answer.assert_refused_by_the_http_layer(431);
            assert_eq!(connection.rest().await, "");
        }
    }
    // The same holds for a head without an end.
    let mut connection = Connection::open(server.public).await;
    connection.send("X".repeat(300 * 1024)).await;
    assert_eq!(connection.response().await.body, b"");
    assert_eq!(connection.rest().await, "");
}

#[tokio::test]
async fn targets_have_their_own_limit() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    connection.send(head_of(80 * 1024, true)).await;
    connection.response().await.assert_refused_by_the_http_layer(414);
    assert_eq!(connection.rest().await, "");
}

#[tokio::test]
async fn more_than_100_headers_are_refused() {
    let server = Running::start(config()).await;
    let with = |headers: usize| {
        let fill: Vec<_> = (2..headers).map(|n| format!("X-{n}: y")).collect();
        valid_count("", &fill.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(with(100).lines().count(), 102);
    exchange(server.public, with(100)).await.count();
    for headers in [101, 102, 5000] {
        let mut connection = Connection::open(server.public).await;
        connection.send(with(headers)).await;
        connection.response().await.assert_refused_by_the_http_layer(431);
        assert_eq!(connection.rest().await, "");
    }
}

#[tokio::test]
async fn many_connections_are_served_concurrently() {
    let server = Running::start(config()).await;
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(Connection::open(server.public).await);
    }
    for connection in &mut connections {
        connection.send(&valid_count("", &["Content-Length: 1"])).await;
    }
    server.reaches("subjobs_http_in_flight", 200.0).await;
    for connection in connections.iter_mut().rev() {
        connection.send("x").await;
        connection.response().await.count();
    }
}
