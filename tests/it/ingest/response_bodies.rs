//! The whole responses of the internal listener.

use serde_json::{Value, json};
use subjobs::config::Config;

use crate::support::connection::{Connection, exchange, request};
use crate::support::fixtures::{DASHBOARD, OPS, OTHER_PROJECT, PROJECT, WORKER, config, full, record, report_path};
use crate::support::server::Running;
use crate::support::snapshot::Transcript;

const NDJSON: &str = "Content-Type: application/x-ndjson";
const JSON: &str = "Content-Type: application/json";

/// The bytes of a report.
fn report(token: &str, media_type: &str, more: &[&str], body: &str) -> String {
    let length = format!("Content-Length: {}", body.len());
    let headers = [&[media_type, &length][..], more].concat();
    request("POST", &report_path(PROJECT), token, &headers) + body
}

#[tokio::test]
async fn responses_of_refused_records_are_unchanged() {
    let server = Running::start(config()).await;
    let with = |field: &str, value: Value| {
        let mut record = full("1");
        record[field] = value;
        record.to_string()
    };
    let (long, object) = ("x".repeat(129), json!({ "a": "x".repeat(8185) }));
    let good = record("1", "j", "CREATE_SERVER", "RUNNING");
    let mut transcript = Transcript::default();
    for (what, record) in [
        ("a record without fields", "{}".to_owned()),
        ("a record that is null", "null".into()),
        ("a record that is an array", "[]".into()),
        ("a record that is no JSON", "x".into()),
        ("a record that ends too early", good[..good.len() - 1].to_owned()),
        ("a field given twice", good.replacen('{', "{\"id\":\"1\",", 1)),
        ("a field that is not known", good.replacen('{', "{\"colour\":1,", 1)),
        ("an empty id", with("id", json!(""))),
        ("an id of 129 characters", with("id", json!(long))),
        ("an id with a control character", with("id", json!("a\n"))),
        ("an id that is a number", with("id", json!(1))),
        ("a job id of 129 characters", with("job_id", json!(long))),
        ("an unknown job type", with("job_type", json!("NOPE"))),
        ("an unknown status", with("status", json!("DONE"))),
        ("a negative version", with("version", json!(-1))),
        ("a version that is too large", with("version", json!(1u64 << 63))),
        ("a version that is a string", with("version", json!("1"))),
        ("a project other than that of the path", with("project_id", json!(OTHER_PROJECT))),
        ("a begin time without an offset", with("begin_time", json!("2022-03-07T10:40:43"))),
        ("an end time that does not exist", with("end_time", json!("2022-02-30T00:00:00Z"))),
        ("resource information that is a string", with("job_resource_info", json!("{}"))),
        ("resource information of more than 8 KiB", with("job_resource_info", object.clone())),
        ("execution information of more than 8 KiB", with("job_execute_info", object)),
        ("an error code of 65 characters", with("error_code", json!("x".repeat(65)))),
        ("an error message of 1025 characters", with("error_message", json!("x".repeat(1025)))),
    ] {
        let response = exchange(server.internal, report(WORKER, NDJSON, &[], &format!("{good}\n{record}"))).await;
        transcript.add(what, &response);
    }
    let array = |body: &str| report(WORKER, JSON, &[], body);
    for (what, request) in [
        ("an object in place of an array", array(&good)),
        ("an array that ends too early", array(&format!("[{good}"))),
        ("more than an array", array("[] []")),
        ("the second record of an array", array(&format!("[{good},{{}}]"))),
        ("an array as NDJSON", report(WORKER, NDJSON, &[], &format!("[{good}]"))),
    ] {
        transcript.add(what, &exchange(server.internal, request).await);
    }
    transcript.assert_snapshot("report_refused_records");
}

#[tokio::test]
async fn responses_of_refused_reports_are_unchanged() {
    let server = Running::start(config()).await;
    let nowhere = |project: &str| request("POST", &report_path(project), OPS, &[NDJSON, "Content-Length: 0"]);
    let mut transcript = Transcript::default();
    for (what, request) in [
        ("no credential", report("", NDJSON, &[], "")),
        ("an unknown token", report("unknown-token", NDJSON, &[], "")),
        ("no permission to report", report(DASHBOARD, NDJSON, &[], "")),
        ("a project of others", request("POST", &report_path(OTHER_PROJECT), WORKER, &[NDJSON, "Content-Length: 0"])),
        ("no such project", nowhere("nowhere")),
        ("a project id that is a dot", nowhere(".")),
        ("no such path", request("POST", "/v1/report", OPS, &[NDJSON, "Content-Length: 0"])),
        ("no such method", request("GET", &report_path(PROJECT), OPS, &[])),
        ("no such method of a probe", request("POST", "/healthz", "", &["Content-Length: 0"])),
        ("another media type", report(OPS, "Content-Type: text/plain", &[], "")),
        ("no media type", report(OPS, "X-Nothing: ", &[], "")),
        ("an unknown coding", report(OPS, NDJSON, &["Content-Encoding: br"], "")),
        (
            "a body of more than 16 MiB",
            request("POST", &report_path(PROJECT), OPS, &[NDJSON, "Content-Length: 16777217"]),
        ),
    ] {
        transcript.add(what, &exchange(server.internal, request).await);
    }
    transcript.assert_snapshot("report_refusals");
}

#[tokio::test]
async fn responses_of_reports_and_probes_are_unchanged() {
    let server = Running::start(config()).await;
    let one = |status: &str| record("1", "j", "CREATE_SERVER", status);
    let mut transcript = Transcript::default();
    for (what, request) in [
        ("an empty report", report(WORKER, NDJSON, &[], "")),
        ("a report of two lines", report(WORKER, NDJSON, &[], &(one("RUNNING") + "\n" + &one("FAILED")))),
        ("a report of an array", report(WORKER, JSON, &[], &format!("[{}]", one("FAILED")))),
        ("health", request("GET", "/healthz", "", &[])),
        ("readiness", request("GET", "/readyz", "", &[])),
    ] {
        transcript.add(what, &exchange(server.internal, request).await);
    }
    transcript.assert_snapshot("internal_successes");
}

#[tokio::test]
async fn responses_of_events_and_resets_are_unchanged() {
    let server = Running::start(Config { allow_reset: true, ..config() }).await;
    server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    let mut transcript = Transcript::default();
    let path = |operation: &str| format!("/subjobs/v1/{PROJECT}/{operation}");
    let mut connection = Connection::open(server.internal).await;
    connection.send(request("GET", &path("events"), OPS, &[])).await;
    let mut stream = connection.response_to_head().await;
    stream.body = connection.chunk().await.unwrap().into_bytes();
    transcript.add("a stream with its first event", &stream);
    for (what, request) in [
        ("a stream of an unknown family", request("GET", &path("events?family=disk"), OPS, &[])),
        ("a stream without permission", request("GET", &path("events"), WORKER, &[])),
        ("a reset", request("POST", &path("reset"), OPS, &["Content-Length: 0"])),
        ("a reset of an empty project", request("POST", &path("reset"), OPS, &["Content-Length: 0"])),
        ("a reset without permission", request("POST", &path("reset"), DASHBOARD, &["Content-Length: 0"])),
    ] {
        transcript.add(what, &exchange(server.internal, request).await);
    }
    transcript.assert_snapshot("internal_events_and_resets");
}
