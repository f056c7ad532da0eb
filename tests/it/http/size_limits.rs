//! How much there may be of everything: heads, headers, connections, requests, memory.

use crate::support::server::{Running, config};
use crate::support::wire::{Wire, ask, good};

/// A good request whose head has exactly so many bytes.
fn head_of(size: usize, in_target: bool) -> String {
    let missing = size - good("?x=", &["X-Fill: "]).len();
    let fill = "x".repeat(missing);
    let request = match in_target {
        true => good(&format!("?x={fill}"), &["X-Fill: "]),
        false => good("?x=", &[&format!("X-Fill: {fill}")]),
    };
    assert_eq!(request.len(), size);
    request
}

#[tokio::test]
async fn heads_of_64_kib_are_always_read() {
    let server = Running::start(config()).await;
    for size in [1000, 8 * 1024, 32 * 1024, 64 * 1024 - 1, 64 * 1024] {
        for in_target in [false, true] {
            let mut wire = Wire::open(server.public).await;
            for piece in head_of(size, in_target).as_bytes().chunks(10_000) {
                wire.send(piece).await;
                tokio::task::yield_now().await;
            }
            wire.answer().await.count();
            wire.send(head_of(size, in_target)).await;
            wire.answer().await.count();
        }
    }
}

/// The refusal arrives, though the sender goes on: no reset overtakes it.
#[tokio::test]
async fn heads_past_256_kib_are_never_read() {
    let server = Running::start(config()).await;
    for size in [256 * 1024 + 1, 300 * 1024, 1000 * 1024] {
        for address in [server.public, server.internal] {
            let mut wire = Wire::open(address).await;
            wire.send(head_of(size, false)).await;
            let answer = wire.answer().await;
            answer.assert_refused_by_the_http_layer(431);
            assert_eq!(wire.rest().await, "");
        }
    }
    // Nor is more of one that never ends.
    let mut wire = Wire::open(server.public).await;
    wire.send("X".repeat(300 * 1024)).await;
    assert_eq!(wire.answer().await.body, b"");
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn targets_have_their_own_limit() {
    let server = Running::start(config()).await;
    let mut wire = Wire::open(server.public).await;
    wire.send(head_of(80 * 1024, true)).await;
    wire.answer().await.assert_refused_by_the_http_layer(414);
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn a_hundred_headers_are_read_and_no_more() {
    let server = Running::start(config()).await;
    let with = |headers: usize| {
        let fill: Vec<_> = (2..headers).map(|n| format!("X-{n}: y")).collect();
        good("", &fill.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(with(100).lines().count(), 102);
    ask(server.public, with(100)).await.count();
    for headers in [101, 102, 5000] {
        let mut wire = Wire::open(server.public).await;
        wire.send(with(headers)).await;
        wire.answer().await.assert_refused_by_the_http_layer(431);
        assert_eq!(wire.rest().await, "");
    }
}

#[tokio::test]
async fn many_connections_are_served_side_by_side() {
    let server = Running::start(config()).await;
    let mut wires = Vec::new();
    for _ in 0..200 {
        wires.push(Wire::open(server.public).await);
    }
    for wire in &mut wires {
        wire.send(&good("", &["Content-Length: 1"])).await;
    }
    server.reaches("subjobs_http_in_flight", 200.0).await;
    for wire in wires.iter_mut().rev() {
        wire.send("x").await;
        wire.answer().await.count();
    }
}
