//! Signed requests with a body: how much of it is read for the signature, and when.

use std::time::Duration;

use subjobs::config::Config;

use crate::auth::signatures::{INVALID, config, counted, refused, server};
use crate::support::fixtures::{Key, OPS, OPS_KEY, WORKER_KEY, code};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;
use crate::support::signer::Call;

/// The largest signed body of a public request, in bytes.
const MAX_SIGNED: usize = 64 * 1024;

const TOO_LONG: &str = "the body is too long to be signed";

/// The core of the SDK for Node sends `{}` with a GET.
#[tokio::test]
async fn a_body_is_signed_as_received() {
    let server = server().await;
    let signed = || Call::count().body("{}").sign(OPS_KEY);
    assert_eq!(counted(signed().send(server.public).await).await, 5);
    assert_eq!(counted(signed().send_chunked(server.public, false).await).await, 5);
    for changed in ["", "{ }", "[]", "{}\n"] {
        refused(signed().body(changed).send(server.public).await, INVALID).await;
    }
}

#[tokio::test]
async fn a_signed_body_of_a_count_has_at_most_64_kib() {
    let server = server().await;
    let call = |length: usize| Call::count().body("x".repeat(length)).sign(OPS_KEY);
    assert_eq!(counted(call(MAX_SIGNED).send(server.public).await).await, 5);
    assert_eq!(counted(call(MAX_SIGNED).send_chunked(server.public, false).await).await, 5);
    // A `Content-Length` above the limit is refused before the body arrives, a chunked body as soon as it exceeds the limit.
    refused(call(MAX_SIGNED + 1).send_part(server.public, 0).await, TOO_LONG).await;
    refused(call(MAX_SIGNED + 1).send_chunked(server.public, true).await, TOO_LONG).await;
    // A request with a token has no such limit.
    let token = Call::count().body("x".repeat(MAX_SIGNED + 1)).header("X-Auth-Token", OPS);
    assert_eq!(token.send(server.public).await.status(), 200);
}

#[tokio::test]
async fn an_unknown_key_is_refused_before_the_body_is_read() {
    let config =
        Config { request_timeout: Duration::from_millis(300), report_timeout: Duration::from_millis(300), ..config() };
    let server = Running::start(config).await;
    let call = Call::count().body("{}");
    let stalled = call.clone().sign(OPS_KEY).send_part(server.public, 1).await;
    assert_eq!(assert_error(stalled, 503, code::UNAVAILABLE).await, "the request timed out");
    let stalled = call.clone().sign(OPS_KEY).send_chunked(server.public, true).await;
    assert_eq!(assert_error(stalled, 503, code::UNAVAILABLE).await, "the request timed out");
    let report = Call::report("application/json", "[]");
    let stalled = report.clone().sign(OPS_KEY).send_part(server.internal, 1).await;
    assert_eq!(assert_error(stalled, 503, code::UNAVAILABLE).await, "the request timed out");

    let unknown = Key { id: "AKUNKNOWN", secret: "x" };
    refused(call.sign(unknown).send_part(server.public, 1).await, INVALID).await;
    refused(report.sign(unknown).send_part(server.internal, 1).await, INVALID).await;
}

#[tokio::test]
async fn a_signed_report_is_accepted_and_a_changed_one_is_refused() {
    let server = Running::start(config()).await;
    let info = "x".repeat(7_000);
    let records: Vec<_> = (0..600)
        .map(|id| {
            format!(
                r#"{{"id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING","job_execute_info":{{"a":"{info}"}}}}"#
            )
        })
        .collect();
    let body = format!("[{}]", records.join(","));
    assert!(body.len() > 4 * 1024 * 1024);
    let call = Call::report("application/json", &body).sign(WORKER_KEY);
    // This changes a record and keeps its length.
    let tampered = body.replacen("RUNNING", "SUCCESS", 1);
    refused(call.clone().body(&tampered).send(server.internal).await, INVALID).await;
    refused(call.clone().body(body.trim_end_matches(']')).send(server.internal).await, INVALID).await;
    assert_eq!(server.count("").await, 0);

    let answer = call.send(server.internal).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(json(answer).await, serde_json::json!({"created": 600, "updated": 0, "unchanged": 0, "stale": 0}));
    assert_eq!(server.count("?status=RUNNING").await, 600);
    let chunked = Call::report("application/json", &body).header("X-Note", "chunked").sign(WORKER_KEY);
    let again = chunked.send_chunked(server.internal, false).await;
    assert_eq!(json(again).await["unchanged"], 600);

    let lines = records[..2].join("\n").replace("RUNNING", "FAILED");
    let ndjson = Call::report("application/x-ndjson", &lines).sign(WORKER_KEY);
    assert_eq!(json(ndjson.send(server.internal).await).await["updated"], 2);
    let empty = Call::report("application/x-ndjson", "").sign(WORKER_KEY);
    assert_eq!(empty.send(server.internal).await.status(), 200);
    let bad = Call::report("application/json", "[{}]").sign(WORKER_KEY);
    assert_error(bad.send(server.internal).await, 400, code::INPUT).await;
    assert_eq!(server.count("?status=RUNNING").await, 598);
}
