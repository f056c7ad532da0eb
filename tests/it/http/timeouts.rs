//! The two timeouts of a connection, `--head-timeout` and `--idle-timeout`, and the timeout of a request.
//!
//! A test measures that no connection closes before its timeout, and that it closes well before the other timeout.

use std::time::{Duration, Instant};

use subjobs::config::Config;

use crate::support::connection::{Connection, head, request, valid_count};
use crate::support::fixtures::{OPS, PROJECT, code, config, report_path};
use crate::support::server::Running;

const SHORT: Duration = Duration::from_millis(400);
/// Much longer than [`SHORT`], also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

async fn server(head_timeout: Duration, idle_timeout: Duration) -> Running {
    Running::start(Config { head_timeout, idle_timeout, ..config() }).await
}

/// Waits until the server closes the connection. Asserts that it sends nothing and that `limit` has passed since `start`.
async fn assert_closed_after(connection: &mut Connection, start: Instant, limit: Duration) {
    assert_eq!(connection.rest().await, "");
    assert!(start.elapsed() >= limit, "closed after {:?}", start.elapsed());
}

#[tokio::test]
async fn an_incomplete_head_is_closed_after_the_head_timeout() {
    let server = server(SHORT, LONG).await;
    let (query, path) = ("?x=".to_owned() + &"x".repeat(100_000), format!("GET {}", report_path(PROJECT)));
    let long = valid_count(&query, &[]);
    for part in ["G", "GET / HT", "GET / HTTP/1.1\r\nHost: h\r\n", &path, &long[..70_000]] {
        let mut connection = Connection::open(server.public).await;
        let start = Instant::now();
        connection.send(part).await;
        assert_closed_after(&mut connection, start, SHORT).await;
    }
    let mut internal = Connection::open(server.internal).await;
    let start = Instant::now();
    internal.send("POST /v1").await;
    assert_closed_after(&mut internal, start, SHORT).await;
}

/// The head timeout runs from the first byte of the head.
#[tokio::test]
async fn single_bytes_do_not_extend_the_head_timeout() {
    let server = server(SHORT, LONG).await;
    let mut connection = Connection::open(server.public).await;
    let start = Instant::now();
    for byte in valid_count("", &[]).bytes().cycle() {
        if connection.try_send([byte]).await.is_err() || !connection.is_quiet_for(SHORT / 10).await {
            break;
        }
        assert!(start.elapsed() < LONG / 4);
    }
    assert!(start.elapsed() >= SHORT);
}

/// The internal listener's own timeout is that of reports.
#[tokio::test]
async fn a_body_that_does_not_come_is_awaited_for_five_seconds_on_both_listeners() {
    let server = Running::start(Config { allow_reset: true, ..config() }).await;
    let begin = Instant::now();
    let ask = async |address, method: &str, operation: &str| {
        let mut connection = Connection::open(address).await;
        let target = format!("/subjobs/v1/{PROJECT}/{operation}");
        connection.send(request(method, &target, OPS, &["Content-Length: 3"])).await;
        connection.response().await.assert_error(503, code::UNAVAILABLE);
    };
    let (public, internal) = (server.public, server.internal);
    tokio::join!(ask(public, "GET", "summary"), ask(internal, "GET", "summary"), ask(internal, "POST", "reset"),);
    let waited = begin.elapsed().as_secs_f64();
    assert!((5.0..20.0).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_head_in_pieces_is_accepted_within_the_head_timeout() {
    let server = server(LONG, LONG).await;
    let mut connection = Connection::open(server.public).await;
    for _ in 0..2 {
        for piece in valid_count("?status=RUNNING", &[]).as_bytes().chunks(7) {
            connection.send(piece).await;
        }
        assert_eq!(connection.response().await.count(), 0);
    }
}

/// The head timeout must not close an idle connection of a gateway.
#[tokio::test]
async fn the_head_timeout_does_not_close_an_idle_connection() {
    let server = server(SHORT / 4, LONG).await;
    let (mut new, mut kept) = (Connection::open(server.public).await, Connection::open(server.public).await);
    let mut with_body = Connection::open(server.public).await;
    kept.send(valid_count("", &[])).await;
    kept.response().await.count();
    with_body.send(valid_count("", &["Content-Length: 2"]) + "{}").await;
    with_body.response().await.count();
    for connection in [&mut new, &mut kept, &mut with_body] {
        assert!(connection.is_quiet_for(SHORT).await);
        connection.send(valid_count("", &[])).await;
        connection.response().await.count();
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let server = server(LONG, SHORT).await;
    let start = Instant::now();
    let mut new = Connection::open(server.public).await;
    assert_closed_after(&mut new, start, SHORT).await;

    // Each response restarts the idle timeout.
    let idle = Duration::from_secs(2);
    let server = self::server(LONG, idle).await;
    let mut kept = Connection::open(server.public).await;
    for _ in 0..2 {
        assert!(kept.is_quiet_for(idle * 11 / 20).await);
        kept.send(valid_count("", &[])).await;
        kept.response().await.count();
    }
    // The timeout started before the test received the response.
    assert_closed_after(&mut kept, Instant::now(), idle * 9 / 10).await;
}

/// Sends a count and a part of a second request, together or after the response to the first.
async fn send_partial_second_request(server: &Running, header: &[&str], body: &str, together: bool) {
    let mut connection = Connection::open(server.public).await;
    let (first, half) = (valid_count("", header) + body, "GET / HT");
    let start = Instant::now();
    connection.send(if together { first + half } else { first }).await;
    connection.response().await.count();
    if !together {
        connection.send(half).await;
    }
    assert_closed_after(&mut connection, start, SHORT).await;
}

const BODIES: [(&[&str], &str); 2] =
    [(&["Content-Length: 2"], "{}"), (&["Transfer-Encoding: chunked"], "2\r\n{}\r\n0\r\n\r\n")];

/// The first byte after a request starts the head timeout.
#[tokio::test]
async fn a_partial_request_behind_another_has_the_head_timeout() {
    let server = server(SHORT, LONG).await;
    send_partial_second_request(&server, &[], "", true).await;
    send_partial_second_request(&server, &[], "", false).await;
    for (header, body) in BODIES {
        send_partial_second_request(&server, header, body, false).await;
    }
}

/// Only the HTTP layer knows the end of a body. So a partial request that was read together with the end of a body has the idle
/// timeout.
#[tokio::test]
async fn a_partial_request_read_with_a_body_has_the_idle_timeout() {
    let server = server(SHORT / 2, SHORT).await;
    for (header, body) in BODIES {
        send_partial_second_request(&server, header, body, true).await;
    }
}

/// An empty line does not begin a request (RFC 9112, section 2.2): old clients send one after a request.
#[tokio::test]
async fn an_empty_line_starts_no_head_timeout() {
    let server = server(SHORT / 4, LONG).await;
    let (mut together, mut apart) = (Connection::open(server.public).await, Connection::open(server.public).await);
    together.send(valid_count("", &[]) + "\r\n").await;
    together.response().await.count();
    apart.send(valid_count("", &["Content-Length: 2"]) + "{}").await;
    apart.response().await.count();
    apart.send("\r\n").await;
    let mut before = Connection::open(server.public).await;
    before.send("\r\n\r\n").await;
    for connection in [&mut together, &mut apart, &mut before] {
        assert!(connection.is_quiet_for(SHORT).await, "closed");
        connection.send(valid_count("", &[])).await;
        connection.response().await.count();
    }
}

/// Empty lines do not restart the idle timeout.
#[tokio::test]
async fn empty_lines_do_not_extend_the_idle_timeout() {
    let server = server(SHORT, SHORT).await;
    let mut connection = Connection::open(server.public).await;
    let start = Instant::now();
    while connection.try_send("\r\n").await.is_ok() && connection.is_quiet_for(SHORT / 10).await {
        assert!(start.elapsed() < LONG / 4);
    }
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_stalled_body_gets_503() {
    let config =
        Config { request_timeout: SHORT, report_timeout: SHORT, head_timeout: LONG, idle_timeout: LONG, ..config() };
    let server = Running::start(config).await;
    let token = format!("X-Auth-Token: {OPS}");
    let report = |length: &str| {
        let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", length];
        head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)
    };
    for (address, request) in [
        (server.public, valid_count("", &["Content-Length: 2"]) + "{"),
        (server.public, valid_count("", &["Content-Length: 2", "Expect: 100-continue"])),
        (server.public, valid_count("", &["Transfer-Encoding: chunked"]) + "1\r\n{\r\n"),
        (server.internal, report("Content-Length: 100") + "{"),
    ] {
        let mut connection = Connection::open(address).await;
        let start = Instant::now();
        connection.send(&request).await;
        let mut answer = connection.response().await;
        if request.contains("Expect") {
            assert_eq!(answer.status, 100);
            answer = connection.response().await;
        }
        assert!(start.elapsed() >= SHORT);
        assert_eq!(answer.assert_error(503, code::UNAVAILABLE), "the request timed out");
        assert_eq!(connection.rest().await, "");
        assert!(start.elapsed() < LONG / 4, "closed after {:?}", start.elapsed());
    }
    assert_eq!(server.metric("subjobs_refusals_total{reason=\"timed_out\"}").await, Some(4.0));
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"failed\"}").await, Some(1.0));
    assert_eq!(server.metric("subjobs_http_in_flight").await, Some(0.0));
}

/// Single bytes of a body do not extend the timeout of its request.
#[tokio::test]
async fn a_slow_body_gets_503() {
    let server = Running::start(Config { request_timeout: SHORT, ..config() }).await;
    let mut connection = Connection::open(server.public).await;
    let start = Instant::now();
    connection.send(valid_count("", &["Content-Length: 60000"])).await;
    while connection.is_quiet_for(SHORT / 20).await {
        let _ = connection.try_send("x").await;
        assert!(start.elapsed() < LONG / 4);
    }
    connection.response().await.assert_error(503, code::UNAVAILABLE);
    assert!(start.elapsed() >= SHORT);
}

/// A running request has its own timeout: the timeouts of the connection do not end it.
#[tokio::test]
async fn connection_timeouts_do_not_end_a_running_request() {
    let server = server(SHORT, SHORT).await;
    let mut connection = Connection::open(server.public).await;
    connection.send(valid_count("", &["Content-Length: 2"]) + "{").await;
    assert!(connection.is_quiet_for(2 * SHORT).await);
    connection.send("}").await;
    connection.response().await.count();
}
