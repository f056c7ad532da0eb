//! The whole responses of lists, jobs and deletes.

use serde_json::{Value, json};

use crate::support::connection::{exchange, request};
use crate::support::fixtures::{OPS, PROJECT, config, full};
use crate::support::server::Running;
use crate::support::snapshot::Transcript;

/// A server with one subtask that has every field and one that has few, in each family.
async fn server() -> Running {
    let server = Running::start(config()).await;
    let few = json!({ "id": "2", "job_id": "j", "job_type": "CREATE_SERVER", "status": "RUNNING" });
    let of_image = |mut record: Value| {
        record["family"] = json!("image");
        record["id"] = json!(format!("image-{}", record["id"].as_str().unwrap()));
        record["job_id"] = json!("i");
        record
    };
    let records = [full("1"), few.clone(), of_image(full("1")), of_image(few)].map(|record| record.to_string());
    assert_eq!(server.report(OPS, records.join("\n")).send().await.unwrap().status(), 200);
    server
}

/// Sends GET requests and asserts all responses.
async fn assert_responses(snapshot: &str, requests: &[(&str, &str)]) {
    let server = server().await;
    let mut transcript = Transcript::default();
    for (what, target) in requests {
        let target = target.replace("PROJECT", PROJECT);
        transcript.add(what, &exchange(server.public, request("GET", &target, OPS, &[])).await);
    }
    transcript.assert_snapshot(snapshot);
}

#[tokio::test]
async fn responses_of_lists_and_of_the_count_of_images_are_unchanged() {
    let requests = [
        ("a list of app subtasks", "/v1/PROJECT/app-server-sub-jobs?job_type="),
        ("the second page of one", "/v1/PROJECT/app-server-sub-jobs?job_type=&offset=1&limit=1"),
        ("a list of one job and status", "/v1/PROJECT/app-server-sub-jobs?job_type=&job_id=j&status=FAILED"),
        ("a list without matches", "/v1/PROJECT/app-server-sub-jobs?job_type=DELETE_SERVER"),
        ("no job type", "/v1/PROJECT/app-server-sub-jobs"),
        ("two job types", "/v1/PROJECT/app-server-sub-jobs?job_type=CREATE_SERVER,DELETE_SERVER"),
        ("an unknown status", "/v1/PROJECT/app-server-sub-jobs?job_type=&status=DONE"),
        ("a limit of zero", "/v1/PROJECT/app-server-sub-jobs?job_type=&limit=0"),
        ("an offset that is too large", "/v1/PROJECT/app-server-sub-jobs?job_type=&offset=2147483648"),
        ("an unknown project", "/v1/nowhere/app-server-sub-jobs?job_type="),
        ("a list of image subtasks", "/v1/PROJECT/image-server-sub-jobs?job_type="),
        ("an image type that the list does not know", "/v1/PROJECT/image-server-sub-jobs?job_type=REINSTALL_OS"),
        ("a count of image subtasks", "/v1/PROJECT/image-server-sub-jobs/actions/count"),
        ("a count of one image job", "/v1/PROJECT/image-server-sub-jobs/actions/count?job_id=i&status=FAILED"),
        ("a type that no image has", "/v1/PROJECT/image-server-sub-jobs/actions/count?job_type=REINSTALL_OS"),
    ];
    assert_responses("api_lists", &requests).await;
}

#[tokio::test]
async fn responses_of_jobs_are_unchanged() {
    let requests = [
        ("ShowJobDetail", "/v2/PROJECT/job/j"),
        ("ShowJobDetail of an unknown job", "/v2/PROJECT/job/nowhere"),
        ("ShowJobDetail of an invalid job id", "/v2/PROJECT/job/%00"),
        ("ShowJob", "/v1/PROJECT/job/j"),
        ("ShowJob of an unknown job", "/v1/PROJECT/job/nowhere"),
        ("ShowImageJob", "/v1/PROJECT/image-server-jobs/i"),
        ("ShowImageJob of an app job", "/v1/PROJECT/image-server-jobs/j"),
        ("ListImageJobs", "/v1/PROJECT/image-server-jobs?job_type="),
        ("ListImageJobs of one status", "/v1/PROJECT/image-server-jobs?job_type=&status=SUCCESS"),
        ("ListImageJobs without a job type", "/v1/PROJECT/image-server-jobs"),
        ("ListImageJobs of a status that no job has", "/v1/PROJECT/image-server-jobs?job_type=&status=ABNORMAL"),
    ];
    assert_responses("api_jobs", &requests).await;
}

#[tokio::test]
async fn responses_of_deletes_are_unchanged() {
    let server = server().await;
    let mut transcript = Transcript::default();
    let many = json!({ "items": (0..21).map(|id| id.to_string()).collect::<Vec<_>>() }).to_string();
    let json = "Content-Type: application/json";
    for (family, method) in [("app", "POST"), ("image", "PATCH")] {
        let id = |id: &str| if family == "app" { id.to_owned() } else { format!("image-{id}") };
        let target = format!("/v1/{PROJECT}/{family}-server-sub-jobs/actions/batch-delete");
        for (what, media_type, body) in [
            ("a subtask that is running", json, format!(r#"{{"items":["{}"]}}"#, id("2"))),
            ("21 subtasks", json, many.clone()),
            ("no subtask", json, r#"{"items":[]}"#.into()),
            ("a subtask that is named twice", json, r#"{"items":["1","1"]}"#.into()),
            ("another key", json, r#"{"items":["1"],"force":true}"#.into()),
            ("an empty body", json, String::new()),
            ("another media type", "Content-Type: text/plain", r#"{"items":["1"]}"#.into()),
            ("a subtask that has failed", json, format!(r#"{{"items":["{}"]}}"#, id("1"))),
        ] {
            let length = format!("Content-Length: {}", body.len());
            let response = exchange(server.public, request(method, &target, OPS, &[media_type, &length]) + &body).await;
            transcript.add(&format!("{family}: {what}"), &response);
        }
    }
    transcript.assert_snapshot("api_deletes");
}
