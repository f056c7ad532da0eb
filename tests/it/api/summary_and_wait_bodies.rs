//! The whole responses of summaries and waits.

use crate::support::connection::{exchange, request};
use crate::support::fixtures::{DASHBOARD, OPS, PROJECT, WORKER, config, record};
use crate::support::server::Running;
use crate::support::snapshot::Transcript;

/// A server with two subtasks of apps and one of an image.
async fn server() -> Running {
    let server = Running::start(config()).await;
    let records = [
        record("1", "j", "CREATE_SERVER", "RUNNING"),
        record("2", "k", "DELETE_SERVER", "FAILED"),
        r#"{"id":"3","job_id":"i","job_type":"BUILD_IMAGE","status":"WAITING","family":"image"}"#.into(),
    ];
    assert_eq!(server.report(OPS, records.join("\n")).send().await.unwrap().status(), 200);
    server
}

/// Sends GET requests and asserts all responses.
async fn assert_responses(snapshot: &str, path: &str, requests: &[(&str, &str, &str)]) {
    let server = server().await;
    let mut transcript = Transcript::default();
    for (what, token, query) in requests {
        let target = format!("/subjobs/v1/{PROJECT}/{path}{query}");
        transcript.add(what, &exchange(server.public, request("GET", &target, token, &[])).await);
    }
    transcript.assert_snapshot(snapshot);
}

#[tokio::test]
async fn responses_of_summaries_are_unchanged() {
    let requests = [
        ("a summary of apps", OPS, ""),
        ("a summary of images", OPS, "?family=image"),
        ("a summary of one job", OPS, "?job_id=j"),
        ("a summary of a job that does not exist", OPS, "?job_id=nowhere"),
        ("an unknown family", OPS, "?family=disk"),
        ("a job id given twice", OPS, "?job_id=j&job_id=j"),
        ("a user without permission", WORKER, ""),
    ];
    assert_responses("api_summaries", "summary", &requests).await;
}

#[tokio::test]
async fn responses_of_waits_are_unchanged() {
    let requests = [
        ("a count that is reached", OPS, "?until=ge:1"),
        ("a count of images that is reached", OPS, "?family=image&until=eq:1"),
        ("a revision that has passed", OPS, "?revision=0"),
        ("a timeout", OPS, "?until=eq:5&timeout=1"),
        ("neither until nor revision", OPS, ""),
        ("an unknown comparison", OPS, "?until=is:1"),
        ("a comparison without a number", OPS, "?until=eq"),
        ("a count that is too large", OPS, "?until=eq:2147483648"),
        ("a negative revision", OPS, "?revision=-1"),
        ("a timeout of zero", OPS, "?revision=0&timeout=0"),
        ("a timeout above the maximum", OPS, "?revision=0&timeout=56"),
        ("an unknown family", OPS, "?family=disk&revision=0"),
        ("an unknown status in a list", OPS, "?until=eq:0&status=RUNNING,DONE"),
        ("an unknown job type", OPS, "?until=eq:0&job_type=NOPE"),
        ("a job id of 129 characters", OPS, &format!("?until=eq:0&job_id={}", "x".repeat(129))),
        ("until given twice", OPS, "?until=eq:0&until=eq:1"),
        ("a user without permission for images", DASHBOARD, "?family=image&revision=0"),
    ];
    assert_responses("api_waits", "wait", &requests).await;
}
