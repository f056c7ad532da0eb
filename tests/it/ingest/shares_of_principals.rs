//! Limits of one principal: the bytes of its reports in memory, and the threads that parse them.

use std::time::{Duration, Instant};

use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::task::JoinSet;

use crate::ingest::reports::accepted;
use crate::support::connection::{Connection, head};
use crate::support::fixtures::{
    Key, OPS, PROJECT, WORKER, WORKER_KEY, access_with_keys, code, config, outcome, record, report_path,
};
use crate::support::response::Response;
use crate::support::server::Running;
use crate::support::signer::Call;

const MIB: usize = 1024 * 1024;

/// Sends a report without the last byte of its body.
async fn all_but_the_last_byte(server: &Running, token: &str, body: &[u8]) -> Connection {
    let (token, length) = (format!("X-Auth-Token: {token}"), format!("Content-Length: {}", body.len()));
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", &length];
    let mut connection = Connection::open(server.internal).await;
    connection.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)).await;
    connection.send(&body[..body.len() - 1]).await;
    connection
}

/// A principal can buffer half of 256 MiB. A body that stalls is refused, and its bytes are released.
#[tokio::test]
async fn a_principal_buffers_at_most_half_of_the_budget_while_bytes_arrive() {
    let server = Running::start(config()).await;
    let start = Instant::now();
    let blank = vec![b'\n'; 16 * MIB];
    let mut waiting = JoinSet::new();
    for size in [16 * MIB; 8].into_iter().chain([64 * 1024]) {
        let mut connection = all_but_the_last_byte(&server, OPS, &blank[..size]).await;
        waiting.spawn(async move { connection.response().await });
    }
    let refused: Response = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(refused.assert_error(503, code::UNAVAILABLE), "too many bytes of reports are being held");
    assert_eq!(server.metric("subjobs_refusals_total{reason=\"reports_held\"}").await, Some(1.0));
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"failed\"}").await, Some(1.0));
    // An empty report needs no memory, another principal has its own half, and counts are not limited.
    assert_eq!(accepted(server.report(OPS, "")).await, outcome(0, 0, 0, 0));
    assert_eq!(accepted(server.report(WORKER, blank.clone())).await, outcome(0, 0, 0, 0));
    assert_eq!(server.count("").await, 0);
    while let Some(stalled) = waiting.join_next().await {
        assert_eq!(stalled.unwrap().assert_error(503, code::UNAVAILABLE), "the request timed out");
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(30), "{took:?}");
    assert_eq!(accepted(server.report(OPS, blank)).await, outcome(0, 0, 0, 0));
}

/// A client can use the id of a foreign access key until its body has arrived and the signature is verified.
#[tokio::test]
async fn unverified_bodies_do_not_use_the_budget_of_tokens() {
    let access = AccessSource::Text(access_with_keys());
    let server = Running::start(Config { access, ..config() }).await;
    let body = "\n".repeat(16 * MIB);
    let claims = Call::report("application/x-ndjson", &body).sign(Key { secret: "not known", ..WORKER_KEY });
    let mut claimed = JoinSet::new();
    for _ in 0..5 {
        let (claims, to) = (claims.clone(), server.internal);
        claimed.spawn(async move { claims.send_part(to, 16 * MIB - 1).await.status() });
    }
    assert_eq!(claimed.join_next().await.unwrap().unwrap(), 503);
    assert_eq!(server.metric("subjobs_refusals_total{reason=\"reports_held\"}").await, Some(1.0));
    assert_eq!(accepted(server.report(WORKER, body)).await, outcome(0, 0, 0, 0));
}

/// A small report waits for one slice of a large report only.
#[tokio::test(flavor = "multi_thread")]
async fn small_reports_do_not_wait_for_large_ones_of_another_principal() {
    let server = Running::start(config()).await;
    let lines = |n: usize| {
        let lines = (0..50_000).map(|at| record(&format!("{n}-{at}"), "j", "CREATE_SERVER", "RUNNING") + "\n");
        lines.collect::<String>().into_bytes()
    };
    // More reports than threads that parse them.
    let count = std::thread::available_parallelism().unwrap().get() + 2;
    let mut large = Vec::new();
    for n in 0..count {
        large.push(all_but_the_last_byte(&server, OPS, &lines(n)).await);
    }
    let mut waiting = JoinSet::new();
    for mut connection in large {
        connection.send("\n").await;
        waiting.spawn(async move { connection.response().await.json() });
    }
    for n in 0..10 {
        let small = record(&format!("small-{n}"), "j", "CREATE_SERVER", "RUNNING");
        assert_eq!(accepted(server.report(WORKER, small)).await, outcome(1, 0, 0, 0));
    }
    assert!(waiting.try_join_next().is_none(), "a large report was read whole before a small one");
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap(), outcome(50_000, 0, 0, 0));
    }
    assert_eq!(server.count("").await, 50_000 * count as u64 + 10);
}
