//! HTTP/2: the limits of heads and streams, and clients that attack.

use std::time::Instant;

use futures_util::future::join_all;
use h2::Reason;
use http::HeaderValue;
use subjobs::config::Config;

use crate::support::fixtures::{OPS, PROJECT, config, count_path};
use crate::support::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Http2, PING, RST_STREAM, RawHttp2, block, get_block,
};
use crate::support::server::Running;
use crate::support::tls::Certificates;
use crate::support::wait::TEST_DEADLINE;

async fn server(certificates: &Certificates, config: Config) -> Running {
    Running::start(Config { tls: Some(certificates.issue("server")), ..config }).await
}

/// Asserts that the server still answers on a new connection.
async fn assert_serves(certificates: &Certificates, server: &Running) {
    let http2 = Http2::open(certificates, server.public).await;
    http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count();
}

#[tokio::test]
async fn heads_of_64_kib_are_accepted_and_longer_ones_refused() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let with = |count: usize, length: usize| {
        let mut request = http2.get(&count_path(PROJECT), OPS);
        for number in 0..count {
            let name = http::HeaderName::try_from(format!("x-header-{number}")).unwrap();
            request.headers_mut().insert(name, HeaderValue::try_from("x".repeat(length)).unwrap());
        }
        request
    };
    for (count, length, status) in [(1, 64_000, 200), (95, 600, 200), (120, 1, 431), (1, 80_000, 431)] {
        let answer = http2.ask(with(count, length)).await.unwrap();
        assert_eq!(answer.status, status, "{count} headers of {length}");
        assert!(status == 200 || answer.body.is_empty());
    }
    // The connection is as good as before.
    http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count();
}

#[tokio::test]
async fn a_stream_above_the_limit_is_refused() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let mut raw = RawHttp2::open(&certificates, server.public).await;
    let wait = get_block(&format!("/subjobs/v1/{PROJECT}/wait?until=ge:1"), &[]);
    for number in 0..101 {
        raw.send(&Frame::bytes(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &wait)).await;
    }
    let refused = raw.frame_of(RST_STREAM).await.unwrap();
    assert_eq!((refused.stream, refused.reason()), (201, Reason::REFUSED_STREAM));
    server.reaches("subjobs_http_waiting{for=\"change\"}", 100.0).await;
}

/// What ends the connection: the reason of a GOAWAY, or nothing if it is closed without.
async fn end_of(mut raw: RawHttp2, frames: impl Iterator<Item = Vec<u8>>) -> Option<Reason> {
    let start = Instant::now();
    for frame in frames {
        if raw.try_send(&frame).await.is_err() {
            break;
        }
        assert!(start.elapsed() < TEST_DEADLINE, "the flood is not stopped");
    }
    raw.frame_of(GOAWAY).await.map(|goaway| goaway.reason())
}

#[tokio::test]
async fn floods_end_their_connection() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let count = get_block(&count_path(PROJECT), &[]);
    let wait = get_block(&format!("/subjobs/v1/{PROJECT}/wait?until=ge:1"), &[]);
    let reset = |stream| Frame::bytes(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let request = |stream, block: &[u8]| Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, block);
    let streams = || (0..200_000u32).map(|number| 2 * number + 1);

    // Streams that are opened and reset at once, many in each packet.
    let raw = RawHttp2::open(&certificates, server.public).await;
    let packets = (0..10_000u32).map(|packet| {
        let streams = (0..50).map(move |number| 2 * (50 * packet + number) + 1);
        streams.flat_map(|stream| [request(stream, &count), reset(stream)]).flatten().collect::<Vec<u8>>()
    });
    assert_eq!(end_of(raw, packets).await, Some(Reason::ENHANCE_YOUR_CALM));
    // Streams that are reset one by one while they wait.
    let mut raw = RawHttp2::open(&certificates, server.public).await;
    let mut answered = 0;
    for stream in streams() {
        if raw.try_send(&request(stream, &wait)).await.is_err() || raw.try_send(&reset(stream)).await.is_err() {
            break;
        }
        // The server has accepted the stream when it answers.
        if raw.try_send(&Frame::bytes(PING, 0, 0, &[0; 8])).await.is_err() || raw.frame_of(PING).await.is_none() {
            break;
        }
        answered += 1;
        assert!(answered < 2_000, "the flood is not stopped");
    }
    assert!(answered > 400, "ended after {answered}");
    // A head that never ends.
    let raw = RawHttp2::open(&certificates, server.public).await;
    let begin = Frame::bytes(HEADERS, END_STREAM, 1, &count);
    let more =
        (0..1_000_000).map(|number| Frame::bytes(CONTINUATION, 0, 1, &block(&[("x-header", &number.to_string())])));
    assert_eq!(end_of(raw, std::iter::once(begin).chain(more)).await, Some(Reason::ENHANCE_YOUR_CALM));
    // Frames that are invalid.
    let raw = RawHttp2::open(&certificates, server.public).await;
    assert_eq!(end_of(raw, std::iter::once(Frame::bytes(CONTINUATION, 0, 1, &[]))).await, Some(Reason::PROTOCOL_ERROR));

    server.reaches("subjobs_http_connections{listener=\"public\"}", 0.0).await;
    server.reaches("subjobs_http_waiting{for=\"change\"}", 0.0).await;
    assert_serves(&certificates, &server).await;
}

/// Headers of one connection do not belong into HTTP/2. A request with one resets its stream only.
#[tokio::test]
async fn malformed_requests_end_their_stream() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let mut raw = RawHttp2::open(&certificates, server.public).await;
    let count = count_path(PROJECT);
    let malformed = [
        get_block(&count, &[("connection", "close")]),
        get_block(&count, &[("transfer-encoding", "chunked")]),
        get_block(&count, &[("te", "gzip")]),
        get_block(&count, &[(":path", "/")]),
        block(&[(":method", "GET"), (":path", "/")]),
        block(&[(":method", "GET"), (":scheme", "https"), (":path", "")]),
    ];
    for (number, block) in malformed.iter().enumerate() {
        let stream = 2 * number as u32 + 1;
        raw.send(&Frame::bytes(HEADERS, END_HEADERS | END_STREAM, stream, block)).await;
        let reset = raw.frame_of(RST_STREAM).await.unwrap_or_else(|| panic!("{number}"));
        assert_eq!((reset.stream, reset.reason()), (stream, Reason::PROTOCOL_ERROR), "{number}");
    }
    raw.send(&Frame::bytes(HEADERS, END_HEADERS | END_STREAM, 101, &get_block(&count, &[]))).await;
    assert_eq!(raw.frame_of(HEADERS).await.unwrap().stream, 101);
    http2.ask(http2.get(&count, OPS)).await.unwrap().count();
}

/// A probe gets a response, although all connections of the internal listener are in use.
#[tokio::test]
async fn the_reserve_answers_one_request_of_a_connection() {
    let certificates = Certificates::new();
    let tls = Some(certificates.issue("server"));
    let server = Running::begin(Config { internal_tls: tls, max_connections: 1, ..config() }).await;
    let mut held = Http2::open(&certificates, server.internal).await;
    held.ping().await.unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let probe = Http2::open(&certificates, server.internal).await;
        assert_eq!(probe.ask(probe.get(path, "")).await.unwrap().status, 200, "{path}");
        assert!(probe.ask(probe.get(path, "")).await.is_err(), "the connection accepts one request");
        assert_eq!(probe.ended().await, Some(Reason::NO_ERROR));
    }
    let report = Http2::open(&certificates, server.internal).await;
    let answer = report.ask(report.get(&crate::support::fixtures::report_path(PROJECT), "")).await.unwrap();
    assert!([405, 503].contains(&answer.status), "{answer:?}");
    // Silent connections do not block probes.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(RawHttp2::open(&certificates, server.internal).await);
    }
    let probe = Http2::open(&certificates, server.internal).await;
    assert_eq!(probe.ask(probe.get("/readyz", "")).await.unwrap().status, 200);
}

/// With a slow reader the server buffers a bounded part of a response.
#[tokio::test]
async fn responses_wait_for_the_window_of_the_client() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let lines: Vec<_> = (0..2000)
        .map(|id| crate::support::fixtures::record(&id.to_string(), "j", "CREATE_SERVER", "RUNNING"))
        .collect();
    let report = server.report(OPS, lines.join("\n")).send().await.unwrap();
    assert_eq!(report.status(), 200);
    let http2 = Http2::open(&certificates, server.public).await;
    let list = format!("/v1/{PROJECT}/app-server-sub-jobs?job_type=&limit=100");
    let pages = (0..100).map(|_| http2.ask(http2.get(&list, OPS)));
    for answer in join_all(pages).await {
        let answer = answer.unwrap();
        assert_eq!(answer.json()["items"].as_array().map(Vec::len), Some(100), "{}", answer.text());
    }
}
