//! The publisher's own SDKs, unmodified, show jobs and delete subtasks, signed, errors included; `tests/sdk` has the scripts.

use serde_json::{Value, json};

use crate::api::sdks::ROOT;
use crate::api::sdks_siblings::{config, said};
use crate::support::fixtures::{OPS, PROJECT, code};
use crate::support::server::Running;

const BEGIN: &str = "2022-03-07T10:40:43.858Z";
const END: &str = "2022-03-07T10:45:00Z";

fn record(id: &str, family: &str, status: &str) -> Value {
    json!({
        "id": id, "job_id": format!("job-{id}"), "job_type": "CREATE_SERVER", "family": family, "status": status,
        "begin_time": BEGIN, "end_time": END, "error_code": "WKS.1", "error_message": "no",
        "job_resource_info": { "resource_id": "r" },
    })
}

/// The job of [`record`], as JSON.
fn job(id: &str, status: &str) -> Value {
    let mut job = json!({
        "id": format!("job-{id}"), "job_type": "CREATE_SERVER", "begin_time": BEGIN, "status": status, "sub_jobs_total": 1,
    });
    if status != "RUNNING" {
        job["end_time"] = END.into();
    }
    job
}

fn with_sub_jobs(mut job: Value, id: &str, status: &str) -> Value {
    job["sub_jobs"] = json!([{
        "id": id, "job_id": format!("job-{id}"), "job_type": "CREATE_SERVER", "project_id": PROJECT, "status": status,
        "begin_time": BEGIN, "end_time": END, "error_code": "WKS.1", "error_message": "no",
        "job_execute_info": { "error_code": "WKS.1", "error_message": "no" },
        "job_resource_info": { "resource_id": "r" },
    }]);
    job
}

/// A value as the models of the Python SDK have it: with times parsed, and without the fields that the models lack.
fn modelled(value: Value, without: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !without.contains(&name.as_str()));
            kept.map(|(name, value)| (name, modelled(value, without))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(|item| modelled(item, without)).collect(),
        Value::String(text) if text == BEGIN => "2022-03-07 10:40:43.858000+00:00".into(),
        Value::String(text) if text.ends_with('Z') && text.starts_with("2022-") => {
            text.replace('T', " ").replace('Z', "+00:00").into()
        }
        other => other,
    }
}

#[tokio::test]
async fn both_sdks_show_jobs_and_delete_subtasks() {
    let answer = |answer: Value| json!({ "answer": answer });
    let refused = |status: u16, code: &str, message: &str| {
        json!({
            "exception": "ClientRequestException", "status_code": status, "error_code": code, "error_msg": message,
        })
    };
    let cut = |text: &str| text.replace(".858", "");
    let in_numbers = json!({ "job": {
        "job_id": "job-1", "job_type": 1, "job_status": 0, "begin_time": cut(BEGIN), "end_time": cut(END),
        "execute_code": "WKS.1", "execute_message": "no",
        "sub_jobs": [{
            "job_id": "1", "job_type": 2, "job_status": 0, "begin_time": cut(BEGIN), "end_time": cut(END),
            "execute_code": "WKS.1", "execute_message": "no", "entities": [{ "resource_id": "r" }],
        }],
    } });
    let missing = refused(404, code::NOT_FOUND, "the job does not exist");
    let running = "item 2 is in RUNNING: only SUCCESS and FAILED can be deleted";
    let calls = [
        ("show_job_detail?job_id=job-1", answer(with_sub_jobs(job("1", "FAILED"), "1", "FAILED"))),
        ("show_job?job_id=job-1", answer(in_numbers)),
        ("show_image_job?job_id=job-3", answer(with_sub_jobs(job("3", "FAILED"), "3", "FAILED"))),
        ("list_image_jobs?job_type=&status=FAILED", answer(json!({ "count": 1, "items": [job("3", "FAILED")] }))),
        ("list_image_jobs?job_type=BUILD_IMAGE", answer(json!({ "count": 0, "items": [] }))),
        ("list_image_jobs?job_type=&limit=0", refused(400, code::INPUT, "limit must be an integer from 1 to 100")),
        ("batch_delete_app_sub_jobs?items=1,2", refused(400, code::INPUT, running)),
        ("batch_delete_app_sub_jobs?items=1,unknown,3", answer(json!({}))),
        ("show_job_detail?job_id=job-1", missing.clone()),
        ("show_job?job_id=job-1", missing.clone()),
        ("show_job_detail?job_id=job-2", answer(with_sub_jobs(job("2", "RUNNING"), "2", "RUNNING"))),
        ("batch_delete_image_sub_jobs?items=3", answer(json!({}))),
        ("show_image_job?job_id=job-3", missing),
    ];
    let names = calls.each_ref().map(|(call, _)| *call);
    let python = format!("{ROOT}/target/sdk-venv/bin/python");
    for (program, script) in [("node", "node/siblings.mjs"), (&python, "python/siblings.py")] {
        let server = Running::start(config()).await;
        let all = [record("1", "app", "FAILED"), record("2", "app", "RUNNING"), record("3", "image", "FAILED")];
        let lines = all.map(|record| record.to_string()).join("\n");
        assert_eq!(server.report(OPS, lines).send().await.unwrap().status(), 200);
        let said = said(program.to_owned(), script, &server, &names).await;
        assert_eq!(said.len(), calls.len());
        for ((call, expected), said) in calls.iter().zip(said) {
            // The SDK's model of an app's subtask has the flat fields, its model of an image's the other form.
            let without: &[&str] = match (program == python, call.contains("image"), expected.get("answer")) {
                (false, ..) | (.., None) => &[],
                (true, true, _) => &["error_code", "error_message"],
                (true, false, _) => &["job_execute_info"],
            };
            let mut expected = expected.clone();
            if program == python && expected.get("answer").is_some() {
                expected = modelled(expected, without);
                // The model of an image's subtask keeps the parts of its error.
                if let Some(info) = expected.pointer_mut("/answer/sub_jobs/0/job_execute_info") {
                    *info = json!({ "error_code": "WKS.1", "error_message": "no" });
                }
            }
            assert_eq!(said, expected, "{script} {call}");
        }
    }
}
