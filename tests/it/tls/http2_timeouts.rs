//! HTTP/2: timeouts, and the drain.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use h2::Reason;
use subjobs::config::Config;
use tokio::time::sleep;

use crate::support::fixtures::{OPS, PROJECT, code, config, count_path};
use crate::support::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Http2, PING, RawHttp2, SETTINGS, block, get_block,
    read,
};
use crate::support::server::Running;
use crate::support::tls::Certificates;

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(60);

async fn server(certificates: &Certificates, config: Config) -> Running {
    Running::start(Config { tls: Some(certificates.issue("server")), ..config }).await
}

#[tokio::test]
async fn an_incomplete_head_is_closed_after_the_head_timeout() {
    let certificates = Certificates::new();
    let server = server(&certificates, Config { head_timeout: SHORT, idle_timeout: LONG, ..config() }).await;
    let count = get_block(&count_path(PROJECT), &[]);
    let whole = Frame::bytes(HEADERS, END_HEADERS | END_STREAM, 1, &count);
    let without_end = Frame::bytes(HEADERS, END_STREAM, 1, &count);
    for sent in [&whole[..5], &whole[..whole.len() - 1], &without_end] {
        let mut raw = RawHttp2::open(&certificates, server.public).await;
        let start = Instant::now();
        raw.send(sent).await;
        while raw.frame().await.is_some() {}
        assert!(start.elapsed() >= SHORT && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }
    // Neither do further frames of the head extend it, nor is the preface exempt.
    let mut raw = RawHttp2::open(&certificates, server.public).await;
    let start = Instant::now();
    raw.send(&without_end).await;
    for byte in Frame::bytes(CONTINUATION, 0, 1, &block(&[("a", &"b".repeat(10_000))])) {
        if !raw.is_open_after(SHORT / 8).await || raw.try_send(&[byte]).await.is_err() {
            break;
        }
        assert!(start.elapsed() < LONG / 4);
    }
    assert!(start.elapsed() >= SHORT);
    let mut raw = RawHttp2::connect(&certificates, server.public).await;
    let start = Instant::now();
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM").await;
    while raw.frame().await.is_some() {}
    assert!(start.elapsed() >= SHORT && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout_and_pings_do_not_extend_it() {
    let certificates = Certificates::new();
    let idle = Duration::from_secs(1);
    let server = server(&certificates, Config { head_timeout: LONG, idle_timeout: idle, ..config() }).await;
    let http2 = Http2::open(&certificates, server.public).await;
    for _ in 0..3 {
        sleep(idle / 2).await;
        http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count();
    }
    let start = Instant::now();
    assert_eq!(http2.ended().await, Some(Reason::NO_ERROR));
    assert!(start.elapsed() >= idle * 9 / 10 && start.elapsed() < LONG / 2, "{:?}", start.elapsed());

    let mut raw = RawHttp2::open(&certificates, server.public).await;
    let start = Instant::now();
    let frames = [Frame::bytes(PING, 0, 0, &[0; 8]), Frame::bytes(SETTINGS, 0, 0, &[])].concat();
    while raw.is_open_after(idle / 10).await && raw.try_send(&frames).await.is_ok() {
        assert!(start.elapsed() < LONG / 4);
    }
    // It neither answers the server's ping nor closes.
    while raw.frame().await.is_some() {}
    assert!(start.elapsed() >= idle && start.elapsed() < LONG / 4, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_waiting_request_keeps_its_connection() {
    let certificates = Certificates::new();
    let limits = Config { head_timeout: SHORT, idle_timeout: SHORT, ..config() };
    let server = server(&certificates, limits).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let wait = format!("/subjobs/v1/{PROJECT}/wait?until=ge:1&timeout=2");
    let answer = http2.ask(http2.get(&wait, OPS)).await.unwrap();
    assert_eq!(answer.json()["satisfied"], false);
}

/// A request whose body does not come gets its response, and the connection stays open for others.
#[tokio::test]
async fn a_request_times_out_alone() {
    let certificates = Certificates::new();
    let server = server(&certificates, Config { request_timeout: SHORT, ..config() }).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let (response, _body) = http2.begin_with_body(http2.get(&count_path(PROJECT), OPS)).await;
    read(response).await.unwrap().assert_error(503, code::UNAVAILABLE);
    http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count();
    server.reaches("subjobs_http_in_flight", 0.0).await;
}

#[tokio::test]
async fn the_drain_answers_running_requests_and_accepts_no_more() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain: LONG, ..config() }).await;
    let mut running = Http2::open(&certificates, server.public).await;
    let idle = Http2::open(&certificates, server.public).await;
    idle.ask(idle.get(&count_path(PROJECT), OPS)).await.unwrap().count();
    let begun = join_all((0..20).map(|_| running.begin_with_body(running.get(&count_path(PROJECT), OPS)))).await;
    server.reaches("subjobs_http_in_flight", 20.0).await;
    let start = Instant::now();
    server.stop();
    assert_eq!(idle.ended().await, Some(Reason::NO_ERROR));
    while running.ping().await.is_ok() && running.begin(running.get("/", "")).await.is_ok() {}
    for (response, mut body) in begun {
        body.send_data("{}".into(), true).unwrap();
        read(response).await.unwrap().count();
    }
    assert_eq!(running.ended().await, Some(Reason::NO_ERROR));
    assert_eq!(server.ended().await, 0);
    assert!(start.elapsed() < LONG / 2);
}

#[tokio::test]
async fn requests_that_arrived_before_the_end_are_answered() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain: LONG, ..config() }).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        let http2 = Http2::open(&certificates, server.public).await;
        http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count();
        connections.push(http2);
    }
    let mut asked = Vec::new();
    for http2 in &connections {
        asked.push(http2.begin(http2.get(&count_path(PROJECT), OPS)).await.unwrap());
    }
    server.stop();
    for response in asked {
        read(response).await.unwrap().count();
    }
    for http2 in connections {
        assert_eq!(http2.ended().await, Some(Reason::NO_ERROR));
    }
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn requests_that_run_at_the_end_of_the_drain_are_aborted_and_counted() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain: SHORT, ..config() }).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let running = join_all((0..3).map(|_| http2.begin_with_body(http2.get(&count_path(PROJECT), OPS)))).await;
    server.reaches("subjobs_http_in_flight", 3.0).await;
    server.stop();
    for (response, _body) in running {
        assert!(read(response).await.is_err());
    }
    assert_eq!(server.ended().await, 3);
}

/// While the drain is announced, each connection is told after its first response that the server accepts no more.
#[tokio::test]
async fn the_announced_drain_moves_clients_elsewhere() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain_delay: LONG, ..config() }).await;
    let kept = Http2::open(&certificates, server.public).await;
    kept.ask(kept.get(&count_path(PROJECT), OPS)).await.unwrap().count();
    server.stop();
    while server.get_internal("/readyz").await.status() != 503 {}
    kept.ask(kept.get(&count_path(PROJECT), OPS)).await.unwrap().count();
    assert_eq!(kept.ended().await, Some(Reason::NO_ERROR));
    let new = Http2::open(&certificates, server.public).await;
    new.ask(new.get(&count_path(PROJECT), OPS)).await.unwrap().count();
    assert_eq!(new.ended().await, Some(Reason::NO_ERROR));
}

/// A client that neither answers nor closes does not hold up the drain.
#[tokio::test]
async fn a_silent_client_does_not_delay_the_drain() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { drain: LONG, ..config() }).await;
    let mut raw = RawHttp2::open(&certificates, server.public).await;
    raw.send(&Frame::bytes(HEADERS, END_HEADERS | END_STREAM, 1, &get_block(&count_path(PROJECT), &[]))).await;
    assert!(raw.frame_of(HEADERS).await.is_some());
    let start = Instant::now();
    server.stop();
    assert!(raw.frame_of(GOAWAY).await.is_some());
    assert_eq!(server.ended().await, 0);
    assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
}
