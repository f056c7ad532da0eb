//! Request targets reach the operation unchanged, or they are refused.

use std::net::SocketAddr;

use crate::api::filters::server;
use crate::support::connection::{Connection, exchange, head, request, valid_count};
use crate::support::fixtures::{OPS, PROJECT, code, config, count_path, record, report_path};
use crate::support::response::json;
use crate::support::server::Running;

const REFUSAL: &str = "the request target must not have a #: write %23";

/// On each listener, for each path, method and credential.
#[tokio::test]
async fn a_target_with_a_fragment_is_refused() {
    let server = Running::start(config()).await;
    let (count, report) = (count_path(PROJECT), report_path(PROJECT));
    let absolute = format!("http://h{count}");
    let long = format!("{count}?job_id={}", "x".repeat(60_000));
    let refused = async |connection: &mut Connection, request: &str| {
        connection.send(request).await;
        assert_eq!(connection.response().await.assert_error(400, code::INPUT), REFUSAL, "{request}");
    };
    let addresses: [SocketAddr; 2] = [server.public, server.internal];
    for address in addresses {
        let mut connection = Connection::open(address).await;
        for target in
            [&count, &report, &absolute, &long, "/", "/nowhere", "/healthz", "/metrics", "/v3/projects", "http://h"]
        {
            for tail in ["#", "#&status=FAILED", "?#", "?job_id=build#7", "?status=FAILED#?status=RUNNING", "?#/?%23"] {
                refused(&mut connection, &request("GET", &format!("{target}{tail}"), OPS, &[])).await;
            }
        }
        for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
            refused(&mut connection, &(request(method, &format!("{count}#x"), OPS, &["Content-Length: 2"]) + "{}"))
                .await;
        }
        refused(&mut connection, &head(&format!("GET {count}# HTTP/1.1"), &[])).await;
        let signed = ["Host: h", "Authorization: SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=0"];
        refused(&mut connection, &head(&format!("GET {count}?#x HTTP/1.1"), &signed)).await;
    }
    // The HTTP layer refuses other forms of targets.
    for target in ["*#", "#", "h:80#x", "#/v3/projects"] {
        exchange(server.public, request("GET", target, OPS, &[])).await.assert_refused_by_the_http_layer(400);
    }
}

/// A pipeline of heads and bodies with `#` in every possible position, split at every byte.
#[tokio::test]
async fn a_fragment_is_found_for_any_split_of_the_stream() {
    let server = server().await;
    let outcome =
        json(server.report(OPS, record("1", "build#7", "CREATE_SERVER", "RUNNING")).send().await.unwrap()).await;
    assert_eq!(outcome["created"], 1);
    let body = "GET /v3/projects# HTTP/1.1\r\n # /#\r\n{#}";
    let length = format!("Content-Length: {}", body.len());
    let chunked = format!("{:x};#=#\r\n{body}\r\n0\r\nX: /# HTTP/1.1\r\n\r\n", body.len());
    let requests = [
        (valid_count("?job_id=build#7", &[]), 400),
        (valid_count("?job_id=build%237", &["Referer: http://h/x#y", "X-A: GET /x# HTTP/1.1"]), 200),
        (valid_count("", &[&length]) + body, 200),
        (valid_count("#", &[]), 400),
        (valid_count("", &["Transfer-Encoding: chunked"]) + &chunked, 200),
        (valid_count("?x=/#", &[]), 400),
        (valid_count("", &[]), 200),
        (format!("\r\n{}", valid_count("?#", &[])), 400),
        (valid_count("", &[]).replace("\r\n", "\n"), 200),
        (valid_count("#", &[]).replace("\r\n", "\n"), 400),
    ];
    let all: String = requests.iter().map(|(request, _)| request.as_str()).collect();
    for size in [all.len(), 1000, 333, 57, 9, 1] {
        let mut connection = Connection::open(server.public).await;
        for piece in all.as_bytes().chunks(size) {
            connection.send(piece).await;
            if size < 1000 {
                tokio::task::yield_now().await;
            }
        }
        for (request, status) in &requests {
            assert_eq!(connection.response().await.status, *status, "{size}: {request}");
        }
    }
    assert_eq!(server.count("?job_id=build%237").await, 1);
}

/// A report may contain `#`, and the next request on the connection is served.
#[tokio::test]
async fn number_signs_in_a_body_are_ignored() {
    let server = Running::start(config()).await;
    let token = format!("X-Auth-Token: {OPS}");
    let mut connection = Connection::open(server.internal).await;
    let line = |n: usize| {
        let record = record(&n.to_string(), "#", "CREATE_SERVER", "FAILED");
        record.replacen('{', r##"{"error_message":"GET /v1/a#b HTTP/1.1 see http://h/#x #","##, 1) + "\n"
    };
    let body: String = (0..10_000).map(line).collect();
    let length = format!("Content-Length: {}", body.len());
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", &length];
    let report = |mark: &str| head(&format!("POST {}{mark} HTTP/1.1", report_path(PROJECT)), &headers) + &body;
    for (mark, status) in [("", 200), ("#", 400), ("?", 200)] {
        let mut connection = Connection::open(server.internal).await;
        connection.send(report(mark)).await;
        assert_eq!(connection.response().await.status, status);
    }
    connection
        .send(report("") + "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\nGET /readyz# HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    for status in [200, 200, 400] {
        assert_eq!(connection.response().await.status, status);
    }
}

/// The HTTP layer accepts more bytes than a URI may have. They are unchanged or refused.
#[tokio::test]
async fn other_bytes_of_a_target_are_unchanged() {
    let server = server().await;
    let ids = ["{a}", "a|b", "a\\b", "a^b`c", "a'b;c", "é", "a?b/c:@", "=a=", "..", "a//b"];
    let records: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| {
            let mut sub_job: serde_json::Value =
                serde_json::from_str(&record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING")).unwrap();
            sub_job["job_id"] = (*id).into();
            sub_job.to_string()
        })
        .collect();
    let outcome = json(server.report(OPS, records.join("\n")).send().await.unwrap()).await;
    assert_eq!(outcome["created"], ids.len());
    let mut connection = Connection::open(server.public).await;
    for id in ids {
        for target in [count_path("p"), format!("http://elsewhere.example{}", count_path("p"))] {
            let target = target.replace("/p/", &format!("/{PROJECT}/"));
            connection.send(request("GET", &format!("{target}?job_id={id}"), OPS, &[])).await;
            assert_eq!(connection.response().await.count(), 1, "{id}");
        }
    }
    let token = format!("X-Auth-Token: {OPS}");
    for bytes in [&b"\xff"[..], b"\xc3", b"a\tb", b"a\rb", b"a b", b"a\x7fb", b"a\0b", b"a<b", b"a>b", b"a\"b"] {
        let before = format!("GET {}?job_id=", count_path(PROJECT));
        let after = format!(" HTTP/1.1\r\nHost: h\r\n{token}\r\n\r\n");
        let answer = exchange(server.public, [before.as_bytes(), bytes, after.as_bytes()].concat()).await;
        answer.assert_refused_by_the_http_layer(400);
    }
}
