//! The end of a request: bodies, pipelines, and everything that allows request smuggling.

use std::net::SocketAddr;

use crate::support::connection::{Connection, exchange, head, valid_count};
use crate::support::fixtures::{DASHBOARD, OPS, PROJECT, code, config, count_path, report_path};
use crate::support::server::Running;

/// A request that gets a response only if the server ends the request before it too early.
fn smuggled() -> String {
    valid_count("", &["X-Request-Id: smuggled"])
}

/// Sends bytes and a smuggled request after them. Asserts that the only response is a refusal of the HTTP layer.
async fn is_refused(server: &Running, bytes: &[u8]) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
    let mut connection = Connection::open(server.public).await;
    connection.send([bytes, smuggled().as_bytes()].concat()).await;
    let answer = connection.response().await;
    assert_eq!((answer.status, answer.body.len()), (400, 0), "{shown:?}");
    answer.assert_refused_by_the_http_layer(400);
    assert_eq!(connection.rest().await, "", "{shown:?}");
}

#[tokio::test]
async fn ambiguous_lengths_are_refused() {
    let server = Running::start(config()).await;
    for headers in [
        &["Content-Length: 5", "Content-Length: 6"][..],
        &["Content-Length: 5, 6"],
        &["Content-Length: +5"],
        &["Content-Length: -5"],
        &["Content-Length: 0x5"],
        &["Content-Length: 5 5"],
        &["Content-Length: five"],
        &["Content-Length:"],
        &["Content-Length: 18446744073709551616"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        &["Transfer-Encoding: chunked, gzip"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding: xchunked"],
        &["Transfer-Encoding: \"chunked\""],
        &["Transfer-Encoding:"],
    ] {
        is_refused(&server, (valid_count("", headers) + "0\r\n\r\n").as_bytes()).await;
    }
    let old = valid_count("", &["Transfer-Encoding: chunked"]).replace("HTTP/1.1", "HTTP/1.0");
    is_refused(&server, (old + "0\r\n\r\n").as_bytes()).await;
}

/// RFC 9112, section 6.3: Transfer-Encoding overrides Content-Length, and the server closes the connection after the response.
#[tokio::test]
async fn content_length_with_transfer_encoding_is_ignored_and_closes_the_connection() {
    let server = Running::start(config()).await;
    let (length, coding) = ("Content-Length: 5", "Transfer-Encoding: chunked");
    for headers in [[length, coding], [coding, length]] {
        for body in ["0\r\n\r\n", "1\r\nZ\r\n0\r\n\r\n"] {
            let mut connection = Connection::open(server.public).await;
            connection.send(valid_count("", &headers) + body + &smuggled()).await;
            connection.response().await.count();
            assert_eq!(connection.rest().await, "");
        }
    }
}

/// The HTTP layer accepts them and decodes the outermost coding only. The operation refuses them.
#[tokio::test]
async fn several_transfer_codings_are_refused() {
    let server = Running::start(config()).await;
    for headers in [
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"][..],
        &["Transfer-Encoding: chunked, chunked"],
        &["Transfer-Encoding: gzip, chunked"],
    ] {
        let inner = format!("0\r\n\r\n{}", smuggled());
        let body = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        let mut connection = Connection::open(server.public).await;
        connection.send(valid_count("", headers) + &body + &valid_count("", &["X-Request-Id: next"])).await;
        let message = connection.response().await.assert_error(400, code::INPUT);
        assert_eq!(message, "Transfer-Encoding must be chunked, once", "{headers:?}");
        assert_eq!(connection.response().await.header("x-request-id"), Some("next"), "{headers:?}");
    }
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let server = Running::start(config()).await;
    for header in [
        "X-A: b\r\n folded: c",
        "X-A: b\r\n\tc",
        "X-Auth-Token : b",
        "X A: b",
        ": b",
        "X-A",
        "X-A: a\0b",
        "X-A: a\rb",
        "X-A: a\x07b",
        "X-A: a\x7fb",
        "X\u{e9}: b",
        "(X): b",
    ] {
        is_refused(&server, valid_count("", &[header]).as_bytes()).await;
    }
    let path = count_path(PROJECT);
    for line in [
        format!("GET  {path} HTTP/1.1"),
        format!("GET {path}  HTTP/1.1"),
        format!("GET {path} x HTTP/1.1"),
        format!("GET\t{path} HTTP/1.1"),
        format!(" GET {path} HTTP/1.1"),
        format!("GET {path} HTTP/1.1 "),
        format!("GET {path} HTTP/1.2"),
        format!("GET {path} HTTP/3.0"),
        format!("GET {path} http/1.1"),
        format!("GET {path} HTTP/11"),
        format!("GET {path}"),
        format!("GET {path}\x7f HTTP/1.1"),
        format!("G@T {path} HTTP/1.1"),
        format!("GET {} HTTP/1.1", &path[1..]),
        format!("GET http:{path} HTTP/1.1"),
        "GET HTTP/1.1".into(),
        "GET".into(),
    ] {
        is_refused(&server, head(&line, &["Host: h", "X-Auth-Token: ops-token"]).as_bytes()).await;
    }
}

/// Sends bytes, and returns what comes back until the server closes the connection.
async fn all_sent_back(address: SocketAddr, bytes: &[u8]) -> String {
    let mut connection = Connection::open(address).await;
    connection.send(bytes).await;
    connection.rest().await
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused() {
    let server = Running::start(config()).await;
    let tls = b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03".as_slice();
    for bytes in [tls, b"SSH-2.0-OpenSSH_9.6\r\n", b"\0\0\0\0", b"\xff\xfe\xfd\xfc\r\n\r\n", b"{\"count\":1}\r\n\r\n"] {
        for address in [server.public, server.internal] {
            let answer = all_sent_back(address, bytes).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{:?}: {answer}", String::from_utf8_lossy(bytes));
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/9.9", "HTTP/10.0", "", "FTP/1.0"] {
        let answer = all_sent_back(server.public, format!("GET / {version}\r\nHost: h\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{version:?}: {answer}");
    }
    assert_eq!(exchange(server.public, valid_count("", &[])).await.count(), 0);
}

/// A client with prior knowledge sends the preface of HTTP/2.
#[tokio::test]
async fn an_http_2_preface_gets_505() {
    let server = Running::start(config()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let settings = [preface, b"\0\0\0\x04\0\0\0\0\0"].concat();
    let behind = [valid_count("", &[]).as_bytes(), preface].concat();
    for (address, bytes, answers) in [
        (server.public, preface, 0),
        (server.internal, preface, 0),
        (server.public, &settings, 0),
        (server.public, &behind, 1),
    ] {
        let mut connection = Connection::open(address).await;
        connection.send(bytes).await;
        for _ in 0..answers {
            connection.response().await.count();
        }
        let answer = connection.response().await;
        answer.assert_refused_by_the_http_layer(505);
        assert_eq!(connection.rest().await, "");
    }
    // A preface in pieces is refused as any other unknown version.
    let mut connection = Connection::open(server.public).await;
    connection.send("PRI * HT").await;
    connection.send("TP/2.0\r\n\r\n").await;
    assert!([400, 505].contains(&connection.response().await.status));
    assert_eq!(connection.rest().await, "");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    let requests = [
        (valid_count("", &["X-Request-Id: 0"]), 200),
        (valid_count("?status=x", &["X-Request-Id: 1", "Content-Length: 2"]) + "{}", 400),
        (
            "\r\n".to_owned()
                + &valid_count("", &["X-Request-Id: 2", "Transfer-Encoding: chunked"])
                + "2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
            200,
        ),
        (valid_count("", &["X-Request-Id: 3", "Content-Length: 2", "Content-Length: 2"]) + "{}", 200),
        (head("DELETE / HTTP/1.1", &["Host: h", "X-Request-Id: 4", "Content-Length: 2"]) + "{}", 404),
        (head(&format!("POST {} HTTP/1.1", count_path(PROJECT)), &["X-Request-Id: 5", "Content-Length: 0"]), 405),
        (valid_count("", &["X-Request-Id: 6"]).replace("\r\n", "\n"), 200),
        (valid_count("", &["X-Request-Id: 7", "Connection: close"]), 200),
    ];
    let all: String = requests.iter().map(|(request, _)| request.as_str()).collect();
    connection.send(all + &smuggled()).await;
    for (id, (_, status)) in requests.iter().enumerate() {
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.header("x-request-id")), (*status, Some(&*id.to_string())));
    }
    assert_eq!(connection.rest().await, "");
}

/// The server reads up to 64 KiB of a body, and the connection stays open.
#[tokio::test]
async fn a_body_of_a_get_is_ignored() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    for body in ["{}", "status=x", &"x".repeat(64 * 1024)] {
        let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let length = format!("Content-Length: {}", body.len());
        for request in [
            valid_count("", &[&length, "Content-Type: application/json"]) + body,
            valid_count("", &["Transfer-Encoding: chunked"]) + &chunked,
            valid_count("", &["Content-Length: 0"]),
        ] {
            connection.send(request).await;
            connection.response().await.count();
        }
    }
}

/// A client gets its response although the server does not read its body.
#[tokio::test]
async fn a_response_arrives_before_the_end_of_a_long_body() {
    let server = Running::start(config()).await;
    let length = 1024 * 1024;
    let body = vec![b'x'; length];
    let length = format!("Content-Length: {length}");
    let anonymous = head(&format!("GET {} HTTP/1.1", count_path(PROJECT)), &["Host: h", &length]);
    let dashboard = format!("X-Auth-Token: {DASHBOARD}");
    let report = ["Host: h", &dashboard, "Content-Type: application/json", &length];
    for (address, request, status) in [
        (server.public, valid_count("", &[&length]), 200),
        (server.public, valid_count("?status=x", &[&length]), 400),
        (server.public, anonymous, 401),
        (server.public, valid_count("", &[&length]).replace("GET", "POST"), 405),
        (server.internal, head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &report), 403),
    ] {
        let mut connection = Connection::open(address).await;
        connection.send(request).await;
        connection.send(&body).await;
        assert_eq!(connection.response().await.status, status);
        assert_eq!(connection.rest().await, "");
    }
}

/// Many clients send the whole body before they read the response. Their writes must not fail after the response was sent.
#[tokio::test]
async fn the_rest_of_a_long_body_can_be_sent_after_the_response() {
    let server = Running::start(config()).await;
    let piece = [b'x'; 16 * 1024];
    let length = format!("Content-Length: {}", 60 * piece.len());
    let too_long = valid_count("", &[&format!("X-A: {}", "x".repeat(300 * 1024))]);
    let refused = valid_count("", &[&length]).replace(OPS, "unknown-token");
    for (request, status) in [(valid_count("", &[&length]), 200), (refused, 401), (too_long, 431)] {
        let mut connection = Connection::open(server.public).await;
        connection.send(request).await;
        for _ in 0..10 {
            connection.send(piece).await;
        }
        assert_eq!(connection.response().await.status, status);
        for _ in 10..40 {
            connection.send(piece).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(connection.rest().await, "");
    }
}

#[tokio::test]
async fn expect_100_continue_gets_100_or_the_final_status() {
    let server = Running::start(config()).await;
    let expect = ["Expect: 100-continue", "Content-Length: 2"];
    let mut connection = Connection::open(server.public).await;
    for _ in 0..2 {
        connection.send(valid_count("", &expect)).await;
        assert_eq!(connection.response().await.status, 100);
        connection.send("{}").await;
        connection.response().await.count();
    }
    // A refused request gets the final status without 100.
    connection.send(valid_count("", &expect).replace(OPS, "unknown-token")).await;
    connection.response().await.assert_error(401, code::CREDENTIAL);
}

#[tokio::test]
async fn a_half_closed_connection_gets_its_response() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    connection.send(valid_count("", &[])).await;
    connection.end().await;
    connection.response().await.count();
    assert_eq!(connection.rest().await, "");
}

/// An incomplete or malformed body does not change the count, and the bytes after it are not a request.
#[tokio::test]
async fn a_malformed_body_closes_the_connection() {
    let server = Running::start(config()).await;
    for body in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}x\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "-1\r\n\r\n", "\r\n"] {
        let mut connection = Connection::open(server.public).await;
        connection.send(valid_count("", &["Transfer-Encoding: chunked"]) + body + &smuggled()).await;
        let answer = connection.response().await;
        assert!([200, 400].contains(&answer.status), "{body:?}");
        assert_eq!(connection.rest().await, "", "{body:?}");
    }
    let mut connection = Connection::open(server.public).await;
    connection.send(valid_count("", &["Content-Length: 10"]) + "{}").await;
    connection.end().await;
    assert_eq!(connection.response().await.status, 200);
    assert_eq!(connection.rest().await, "");
}

#[tokio::test]
async fn http_1_0_is_supported() {
    let server = Running::start(config()).await;
    let token = format!("X-Auth-Token: {OPS}");
    let line = format!("GET {} HTTP/1.0", count_path(PROJECT));
    for headers in [&[&*token][..], &[&token, "Host: h"]] {
        let mut connection = Connection::open(server.public).await;
        connection.send(head(&line, headers) + &smuggled()).await;
        connection.response().await.count();
        assert_eq!(connection.rest().await, "");
    }
    let mut connection = Connection::open(server.public).await;
    for _ in 0..2 {
        connection.send(head(&line, &[&token, "Connection: keep-alive"])).await;
        connection.response().await.count();
    }
    let mut internal = Connection::open(server.internal).await;
    internal.send("GET /readyz HTTP/1.0\r\n\r\n").await;
    assert_eq!(internal.response().await.body, b"ready\n");
}
