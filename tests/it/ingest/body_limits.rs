//! The limits of the bodies of reports, and that a report becomes visible in one step.

use crate::ingest::reports::accepted;
use crate::support::connection::{Connection, head};
use crate::support::fixtures::{OPS, PROJECT, WORKER, code, config, outcome, record, report_path};
use crate::support::response::assert_error;
use crate::support::server::Running;

/// The largest body, in bytes.
const MIB_16: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn a_body_has_at_most_16_mib() {
    let server = Running::start(config()).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING");
    let padded = |size: usize| {
        let mut body = line.clone().into_bytes();
        body.resize(size, b'\n');
        body
    };
    assert_eq!(accepted(server.report(WORKER, padded(MIB_16))).await, outcome(1, 0, 0, 0));
    let message =
        assert_error(server.report(WORKER, padded(MIB_16 + 1)).send().await.unwrap(), 413, code::TOO_LARGE).await;
    assert_eq!(message, "the body must have at most 16777216 bytes");

    // Without a Content-Length the limit is found while the body arrives. The client may then get a reset, so the test sends little
    // above the limit.
    let token = format!("X-Auth-Token: {WORKER}");
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];
    let mut connection = Connection::open(server.internal).await;
    connection.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)).await;
    connection.send(format!("{:x}\r\n", MIB_16 + 1)).await;
    connection.send(padded(MIB_16 + 1)).await;
    connection.send("\r\n0\r\n\r\n").await;
    connection.response().await.assert_error(413, code::TOO_LARGE);
    assert_eq!(server.count("").await, 1);
}

/// Of an incomplete body the server applies nothing, not even complete lines. The report counts as failed, not as refused.
#[tokio::test]
async fn an_incomplete_body_is_discarded_and_counted_as_failed() {
    let server = Running::start(config()).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING") + "\n";
    let token = format!("X-Auth-Token: {WORKER}");
    let length = format!("Content-Length: {}", line.len() + 1);
    let (chunked, size) = ("Transfer-Encoding: chunked", format!("{:x}\r\n", line.len()));
    let mut failed = 0.0;
    for (framing, sent) in [
        (&*length, line.clone()),
        (chunked, format!("{size}{line}\r\n")),
        // The body ends in the size of a chunk, in its data, before its end, in the last chunk, in the trailers.
        (chunked, format!("{size}{line}\r\n5")),
        (chunked, format!("{size}{}", &line[..9])),
        (chunked, format!("{size}{line}")),
        (chunked, format!("{size}{line}\r\n0\r\n")),
        (chunked, format!("{size}{line}\r\n0\r\nX-Trailer: x\r\n")),
    ] {
        let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", framing];
        let request = head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers) + &sent;
        let mut connection = Connection::open(server.internal).await;
        connection.send(&request).await;
        connection.end().await;
        let message = connection.response().await.assert_error(400, code::INPUT);
        assert_eq!(message, "the body is not complete: its sender has stopped", "{sent:?}");
        assert_eq!(connection.rest().await, "");

        let mut connection = Connection::open(server.internal).await;
        connection.send(&request).await;
        drop(connection);
        failed += 2.0;
        server.reaches("subjobs_reports_total{outcome=\"failed\"}", failed).await;
    }
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"refused\"}").await, Some(0.0));
    assert!(server.metric("subjobs_refusals_total{reason=\"cut_off\"}").await >= Some(7.0));

    // Malformed chunks count as refused.
    for (wrong, sent) in [("no size", "x\r\n"), ("no end", "1\r\n{}"), ("too large", "fffffffffffffffff\r\n")] {
        let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", chunked];
        let mut connection = Connection::open(server.internal).await;
        connection.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers) + sent).await;
        let message = connection.response().await.assert_error(400, code::INPUT);
        assert!(message.starts_with("body cannot be read"), "{wrong}: {message}");
    }
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"refused\"}").await, Some(3.0));
    server.reaches("subjobs_http_connections{listener=\"internal\"}", 1.0).await;
    assert_eq!(server.count("").await, 0);
}

/// A worker that has closed its sending side still gets the response.
#[tokio::test]
async fn a_half_closed_connection_of_a_worker_gets_its_response() {
    let server = Running::start(config()).await;
    let lines = (0..20_000).map(|n| record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING"));
    let body = lines.collect::<Vec<_>>().join("\n");
    let (token, length) = (format!("X-Auth-Token: {OPS}"), format!("Content-Length: {}", body.len()));
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", &length];
    let mut connection = Connection::open(server.internal).await;
    connection.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers) + &body).await;
    connection.end().await;
    assert_eq!(connection.response().await.json(), outcome(20_000, 0, 0, 0));
}

/// A count includes all of a report or nothing, and all of it after the response.
#[tokio::test(flavor = "multi_thread")]
async fn no_count_includes_a_part_of_a_report() {
    let server = Running::start(config()).await;
    const SIZE: u64 = 3000;
    let body = |status: &str| {
        let lines = (0..SIZE).map(|n| record(&n.to_string(), &format!("j{}", n % 700), "CREATE_SERVER", status));
        lines.collect::<Vec<_>>().join("\n")
    };
    let bodies = [body("RUNNING"), body("SUCCESS")];
    assert_eq!(accepted(server.report(OPS, bodies[1].clone())).await, outcome(SIZE, 0, 0, 0));
    let rounds = async {
        for round in 0..10 {
            accepted(server.report(OPS, bodies[round % 2].clone())).await;
            let expected = if round % 2 == 0 { SIZE } else { 0 };
            assert_eq!(server.count("?status=RUNNING").await, expected);
        }
    };
    let looks = async {
        loop {
            let running = server.count("?status=RUNNING").await;
            assert!(running == 0 || running == SIZE, "{running}");
            assert_eq!(server.count("").await, SIZE);
        }
    };
    tokio::select! {
        () = rounds => {}
        () = looks => {}
    }
}
