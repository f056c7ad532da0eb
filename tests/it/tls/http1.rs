//! HTTP/1 over TLS: what holds for a connection without TLS holds here too.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use subjobs::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::connection::{Connection, head, request, valid_count};
use crate::support::fixtures::{OPS, code, config, count_path};
use crate::support::server::Running;
use crate::support::tls::Certificates;

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(60);

async fn server(certificates: &Certificates, config: Config) -> Running {
    Running::start(Config { tls: Some(certificates.issue("server")), ..config }).await
}

#[tokio::test]
async fn requests_of_a_pipeline_are_answered_in_order() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let client = certificates.client().offering("http/1.1").speaking(&versions);
        let mut connection = client.open(server.public).await;
        let statuses: Vec<u16> = (0..100).map(|at| if at % 3 == 0 { 400 } else { 200 }).collect();
        let pipeline = statuses.iter().map(|status| match status {
            200 => valid_count("", &[]),
            _ => valid_count("?status=x", &[]),
        });
        connection.send(pipeline.collect::<String>()).await;
        for status in statuses {
            assert_eq!(connection.response().await.status, status);
        }
    }
}

#[tokio::test]
async fn a_fragment_is_refused_and_a_preface_of_http_2_gets_505() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let mut connection = certificates.client().open(server.public).await;
    for at in 0..20 {
        let target = format!("{}?job_id=%23{}#{at}", count_path("p"), "x".repeat(at * 1000));
        connection.send(request("GET", &target, OPS, &[])).await;
        connection.response().await.assert_error(400, code::INPUT);
        connection.send(valid_count("?job_id=%23", &[])).await;
        assert_eq!(connection.response().await.status, 200);
    }
    let mut connection = certificates.client().offering("http/1.1").open(server.public).await;
    connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 505);
    assert_eq!(connection.rest().await, "", "close_notify comes before the end");
}

/// A long response reaches a client that reads late, although the server has closed its side.
#[tokio::test]
async fn the_last_response_is_not_lost() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    for _ in 0..20 {
        let mut connection = certificates.client().open(server.public).await;
        // The server refuses the head before it has read all, and closes.
        let refused = head(&format!("GET {} HTTP/1.1", count_path("p")), &["Host: h", "Bad Header: x"]);
        connection.send(refused + &"x".repeat(200_000)).await;
        assert_eq!(connection.last_response().await.status, 400);
    }
    let mut connection = certificates.client().open(server.public).await;
    connection.send(valid_count("", &["Connection: close"])).await;
    assert_eq!(connection.response().await.status, 200);
    assert_eq!(connection.rest().await, "");
}

/// The end of the stream without `close_notify` is an error for this client.
#[tokio::test]
async fn an_idle_connection_is_closed_with_close_notify() {
    let certificates = Certificates::new();
    let server = server(&certificates, Config { idle_timeout: SHORT, head_timeout: LONG, ..config() }).await;
    let mut connection = certificates.client().open(server.public).await;
    connection.send(valid_count("", &[])).await;
    assert_eq!(connection.response().await.status, 200);
    let start = Instant::now();
    assert_eq!(connection.rest().await, "");
    assert!(start.elapsed() >= SHORT * 9 / 10 && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_incomplete_head_is_closed_after_the_head_timeout() {
    let certificates = Certificates::new();
    let server = server(&certificates, Config { idle_timeout: LONG, head_timeout: SHORT, ..config() }).await;
    for sent in ["G", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let mut connection = certificates.client().open(server.public).await;
        let start = Instant::now();
        connection.send(sent).await;
        assert_eq!(connection.rest().await, "");
        assert!(start.elapsed() >= SHORT && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn the_drain_answers_running_requests_and_closes_idle_connections() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain: LONG, ..config() }).await;
    let mut idle = certificates.client().open(server.public).await;
    idle.send(valid_count("", &[])).await;
    assert_eq!(idle.response().await.status, 200);
    let mut running = certificates.client().open(server.public).await;
    running.send(valid_count("", &["Content-Length: 2"]) + "{").await;
    server.reaches("subjobs_http_in_flight", 1.0).await;
    server.stop();
    assert_eq!(idle.rest().await, "");
    running.send("}").await;
    let answer = running.response().await;
    assert_eq!((answer.count(), answer.header("connection")), (0, Some("close")));
    assert_eq!(running.rest().await, "");
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn a_request_that_runs_at_the_end_of_the_drain_is_aborted() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain: SHORT, ..config() }).await;
    let mut running = certificates.client().open(server.public).await;
    running.send(valid_count("", &["Content-Length: 2"])).await;
    server.reaches("subjobs_http_in_flight", 1.0).await;
    server.stop();
    assert_eq!(running.rest().await, "");
    assert_eq!(server.ended().await, 1);
}

/// A client that closes its side after a request still gets the response.
#[tokio::test]
async fn a_half_closed_connection_is_answered() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let mut stream = certificates.client().connect(server.public).await.unwrap();
    stream.write_all(valid_count("", &["Content-Length: 2"]).as_bytes()).await.unwrap();
    stream.write_all(b"{}").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

/// A client that vanishes within a record ends its connection only.
#[tokio::test]
async fn a_damaged_record_ends_the_connection() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let stream = certificates.client().connect(server.public).await.unwrap();
    let (mut socket, _) = stream.into_inner();
    socket.write_all(b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa").await.unwrap();
    let mut rest = Vec::new();
    if let Err(error) = socket.read_to_end(&mut rest).await {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let mut connection: Connection<_> = certificates.client().open(server.public).await;
    connection.send(valid_count("", &[])).await;
    assert_eq!(connection.response().await.status, 200);
}
