//! BatchDeleteAppSubJobs and BatchDeleteImageSubJobs: what they accept, what they refuse, and which subtasks they delete.

use std::net::SocketAddr;

use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::connection::{Connection, exchange, head};
use crate::support::fixtures::{
    DASHBOARD, DASHBOARD_KEY, Key, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, access_with_keys, code, config,
};
use crate::support::response::Response;
use crate::support::server::Running;
use crate::support::signer::Call;

const JSON: &str = "Content-Type: application/json";
const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

/// The method and the path of a delete of a family's subtasks.
pub(crate) fn request_of(family: &str, project: &str) -> (&'static str, String) {
    let method = if family == "app" { "POST" } else { "PATCH" };
    (method, format!("/v1/{project}/{family}-server-sub-jobs/actions/batch-delete"))
}

/// The head of a delete, with a token.
fn delete_head(family: &str, token: &str, more: &[&str]) -> String {
    let (method, path) = request_of(family, PROJECT);
    let token = format!("X-Auth-Token: {token}");
    head(&format!("{method} {path} HTTP/1.1"), &[&["Host: h", &token], more].concat())
}

async fn send(server: SocketAddr, family: &str, body: &str) -> Response {
    let length = format!("Content-Length: {}", body.len());
    exchange(server, delete_head(family, OPS, &[JSON, &length]) + body).await
}

fn items(ids: &[&str]) -> String {
    serde_json::json!({ "items": ids }).to_string()
}

/// The same body with white space after it.
fn padded(body: &str, len: usize) -> String {
    body.to_owned() + &" ".repeat(len - body.len())
}

async fn delete(server: &Running, family: &str, ids: &[&str]) -> Response {
    send(server.public, family, &items(ids)).await
}

fn record(family: &str, id: &str, job: &str, status: &str) -> String {
    format!(
        r#"{{"id":"{id}","job_id":"{job}","job_type":"CREATE_SERVER","status":"{status}","family":"{family}","version":7}}"#
    )
}

/// A server that stores `app-STATUS` and `image-STATUS` for each status, in the jobs `app` and `image`.
async fn server() -> Running {
    let server = Running::start(Config { access: AccessSource::Text(access_with_keys()), ..config() }).await;
    for family in ["app", "image"] {
        report(&server, STATUSES.map(|status| record(family, &format!("{family}-{status}"), family, status))).await;
    }
    server
}

async fn report(server: &Running, records: impl IntoIterator<Item = String>) {
    let body = records.into_iter().collect::<Vec<_>>().join("\n");
    assert_eq!(server.report(OPS, body).send().await.unwrap().status(), 200);
}

/// How many subtasks the store has, of both families.
async fn stored(server: &Running) -> f64 {
    let mut all = 0.0;
    for line in server.get_internal("/metrics").await.text().await.unwrap().lines() {
        if line.starts_with("subjobs_subtasks{") {
            all += line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
    all
}

fn assert_deleted(answer: &Response) {
    assert_eq!((answer.status, &*answer.body), (200, &b""[..]), "{answer:?}");
    assert_eq!((answer.header("content-type"), answer.header("content-length")), (None, Some("0")), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_delete_removes_succeeded_and_failed_subtasks_of_its_family_only() {
    let server = server().await;
    for (family, other, left) in [("app", "image", 12.0), ("image", "app", 10.0)] {
        let ids = [
            format!("{family}-SUCCESS"),
            "unknown".into(),
            format!("{other}-SUCCESS"),
            format!("{other}-RUNNING"),
            format!("{family}-FAILED"),
        ];
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        for _ in 0..2 {
            // Deleting again is no error.
            assert_deleted(&delete(&server, family, &ids).await);
            assert_eq!(stored(&server).await, left);
        }
    }
    assert_eq!((server.count("").await, server.count("?job_id=app&status=SUCCESS").await), (5, 0));
    // A deleted subtask is created when it is reported again, with a lower version too.
    let again = record("app", "app-SUCCESS", "app", "RUNNING").replace(":7", ":1");
    let response = server.report(OPS, again).send().await.unwrap();
    assert_eq!(crate::support::response::json(response).await["created"], 1);
    // A job ends with its last subtask. Its project stays.
    report(&server, [record("app", "last", "last job", "FAILED")]).await;
    assert_deleted(&delete(&server, "app", &["last"]).await);
    assert_eq!(server.count("?job_id=last%20job").await, 0);
}

#[tokio::test]
async fn a_delete_with_an_unfinished_subtask_removes_none() {
    let server = server().await;
    for family in ["app", "image"] {
        for status in ["WAITING", "RUNNING", "ABNORMAL", "ROLLBACK", "ABORTING"] {
            let of = |status: &str| format!("{family}-{status}");
            let ids = [of("SUCCESS"), "unknown".into(), of(status), of("RUNNING")];
            let ids: Vec<_> = ids[..if status == "RUNNING" { 3 } else { 4 }].iter().map(String::as_str).collect();
            let message = delete(&server, family, &ids).await.assert_error(400, code::INPUT);
            assert_eq!(message, format!("item 3 is in {status}: only SUCCESS and FAILED can be deleted"));
        }
    }
    assert_eq!(stored(&server).await, 14.0);
}

#[tokio::test]
async fn a_delete_names_at_most_twenty_subtasks() {
    let server = server().await;
    let ids: Vec<_> = (0..21).map(|at| format!("{at:é>128}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    report(&server, ids.iter().map(|id| record("app", id, "many", "SUCCESS"))).await;
    let message = delete(&server, "app", &ids).await.assert_error(400, code::INPUT);
    assert_eq!(message, "items must be an array of 1 to 20 strings");
    assert_eq!(server.count("?job_id=many").await, 21);
    assert_deleted(&delete(&server, "app", &ids[..20]).await);
    assert_eq!(server.count("?job_id=many").await, 1);
    assert_eq!(delete(&server, "app", &[]).await.assert_error(400, code::INPUT), message);
    let with_mark = send(server.public, "app", &format!("\u{feff}{}", items(&["a"]))).await;
    with_mark.assert_error(400, code::INPUT);
    let repeated = delete(&server, "app", &["a", "a"]).await.assert_error(400, code::INPUT);
    assert_eq!(repeated, "item 2 must not repeat item 1");
}

#[tokio::test]
async fn a_body_above_64_kib_is_refused_with_or_without_content_length() {
    let server = server().await;
    let body = |len: usize| padded(&items(&["app-SUCCESS"]), len);
    let chunked = |body: &str| {
        let head = delete_head("app", OPS, &[JSON, "Transfer-Encoding: chunked"]);
        let half = body.len() / 2;
        format!("{head}{half:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &body[..half], body.len() - half, &body[half..])
    };
    assert_deleted(&send(server.public, "app", &body(65_536)).await);
    assert_deleted(&exchange(server.public, chunked(&body(65_536))).await);
    let too_large = "the body must have at most 65536 bytes";
    assert_eq!(exchange(server.public, chunked(&body(65_537))).await.assert_error(413, code::TOO_LARGE), too_large);
    // A `Content-Length` above the limit is refused before the body arrives.
    for length in ["65537", "1000000000000"] {
        let length = format!("Content-Length: {length}");
        let announced = exchange(server.public, delete_head("image", OPS, &[JSON, &length])).await;
        assert_eq!(announced.assert_error(413, code::TOO_LARGE), too_large);
    }
    assert_eq!(
        send(server.public, "app", "").await.assert_error(400, code::INPUT).split(':').next(),
        Some("body is missing")
    );
    let none = exchange(server.public, delete_head("image", OPS, &[JSON])).await;
    assert_eq!(none.assert_error(400, code::INPUT).split(':').next(), Some("body is missing"));
}

#[tokio::test]
async fn a_body_needs_one_content_type_of_json() {
    let server = server().await;
    let body = items(&["app-FAILED"]);
    let length = format!("Content-Length: {}", body.len());
    for types in [&[][..], &["text/plain"], &["application/x-ndjson"], &["application/json", "application/json"]] {
        let types: Vec<_> = types.iter().map(|name| format!("Content-Type: {name}")).collect();
        let headers: Vec<_> = types.iter().map(String::as_str).chain([&*length]).collect();
        let answer = exchange(server.public, delete_head("app", OPS, &headers) + &body).await;
        assert_eq!(answer.assert_error(415, code::MEDIA_TYPE), "Content-Type must be application/json");
    }
    assert_eq!(stored(&server).await, 14.0);
    let any_case = "Content-Type: APPLICATION/Json ; charset=utf-8";
    assert_deleted(&exchange(server.public, delete_head("app", OPS, &[any_case, &length]) + &body).await);
    assert_eq!(stored(&server).await, 13.0);
}

#[tokio::test]
async fn other_methods_get_405() {
    let server = server().await;
    for family in ["app", "image"] {
        let (method, path) = request_of(family, PROJECT);
        for other in ["GET", "POST", "PATCH", "PUT", "DELETE"].into_iter().filter(|other| *other != method) {
            let answer = exchange(server.public, head(&format!("{other} {path} HTTP/1.1"), &["Host: h"])).await;
            answer.assert_error(405, code::METHOD);
            assert_eq!(answer.header("allow"), Some(method), "{other}");
        }
        let mut connection = Connection::open(server.public).await;
        connection.send(head(&format!("HEAD {path} HTTP/1.1"), &["Host: h"])).await;
        let answer = connection.response_to_head().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(method)));
    }
}

/// The server answers `Expect: 100-continue` when it begins to read the body, after all other checks.
#[tokio::test]
async fn continue_is_sent_after_credential_permission_and_content_type_are_checked() {
    let server = server().await;
    let body = items(&["app-SUCCESS"]);
    let length = format!("Content-Length: {}", body.len());
    let expecting =
        |token, media_type, length| delete_head("app", token, &[media_type, length, "Expect: 100-continue"]);
    for (request, status) in [
        (expecting("unknown-token", JSON, &length), 401),
        (expecting(DASHBOARD, JSON, &length), 403),
        (expecting(OPS, "Content-Type: text/plain", &length), 415),
        (expecting(OPS, JSON, "Content-Length: 65537"), 413),
    ] {
        assert_eq!(exchange(server.public, request).await.status, status);
    }
    let mut connection = Connection::open(server.public).await;
    connection.send(expecting(OPS, JSON, &length)).await;
    assert_eq!(connection.response().await.status, 100);
    connection.send(body).await;
    assert_deleted(&connection.response().await);
}

fn signed(family: &str, body: &str) -> Call {
    let (method, path) = request_of(family, PROJECT);
    Call::new(method, &path).header("Content-Type", "application/json").body(body)
}

#[tokio::test]
async fn a_signature_covers_the_body_of_a_delete() {
    let server = server().await;
    let (body, other) = (items(&["app-SUCCESS"]), items(&["app-FAILED"]));
    let forged = signed("app", &body).sign(OPS_KEY).body(&other).send(server.public).await;
    assert_eq!(forged.status(), 401);
    let denied = signed("app", &body).sign(DASHBOARD_KEY).send(server.public).await;
    assert_eq!(denied.status(), 403);
    // The server reads the body before it verifies the signature, so it checks the size first.
    let unknown = Key { id: OPS_KEY.id, secret: "wrong" };
    let long = signed("image", &padded(&body, 65_537));
    for key in [OPS_KEY, unknown] {
        assert_eq!(long.clone().sign(key).send(server.public).await.status(), 413);
    }
    assert_eq!(long.sign(Key { id: "AKUNKNOWN", secret: "x" }).send(server.public).await.status(), 401);
    assert_eq!(stored(&server).await, 14.0);
    assert_eq!(signed("app", &padded(&body, 65_536)).sign(OPS_KEY).send(server.public).await.status(), 200);
    assert_eq!(signed("image", &items(&["image-FAILED"])).sign(OPS_KEY).send(server.public).await.status(), 200);
    assert_eq!(stored(&server).await, 12.0);
}

#[tokio::test]
async fn counts_are_served_while_bodies_of_deletes_are_withheld() {
    let access = AccessSource::Text(access_with_keys());
    let server = Running::start(Config { max_in_flight: 4, access, ..config() }).await;
    let stalled = delete_head("app", OPS, &[JSON, "Content-Length: 15"]) + "{\"items\":[\"a";
    let mut waiting = Connection::open(server.public).await;
    waiting.send(&stalled).await;
    server.reaches("subjobs_http_waiting{for=\"body\"}", 1.0).await;
    // A quarter of the requests may wait for their bodies.
    assert_eq!(
        exchange(server.public, &stalled).await.assert_error(503, code::UNAVAILABLE),
        "the service is overloaded"
    );
    for _ in 0..8 {
        assert_eq!(server.count("").await, 0);
    }
    waiting.send("\"]}").await;
    assert_deleted(&waiting.response().await);
    let mut gone = Connection::open(server.public).await;
    gone.send(&stalled).await;
    gone.end().await;
    assert_eq!(
        gone.response().await.assert_error(400, code::INPUT),
        "the body is not complete: its sender has stopped"
    );
}

#[tokio::test]
async fn the_project_is_checked_last() {
    let server = server().await;
    let (method, path) = request_of("app", "gone");
    let token = format!("X-Auth-Token: {OPS}");
    for (body, status) in [("{}", 400), ("{\"items\":[\"a\"]}", 404)] {
        let length = format!("Content-Length: {}", body.len());
        let head = head(&format!("{method} {path} HTTP/1.1"), &["Host: h", &token, JSON, &length]);
        assert_eq!(exchange(server.public, head + body).await.status, status);
    }
    // A delete in a project without subtasks succeeds.
    let (method, path) = request_of("app", OTHER_PROJECT);
    let body = items(&["app-SUCCESS"]);
    let length = format!("Content-Length: {}", body.len());
    let head = head(&format!("{method} {path} HTTP/1.1"), &["Host: h", &token, JSON, &length]);
    assert_deleted(&exchange(server.public, head + &body).await);
    assert_eq!(stored(&server).await, 14.0);
}
