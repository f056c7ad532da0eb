//! The publisher's own SDKs, unmodified, call lists and image counts, signed. `tests/sdk` has the scripts.

use std::process::Stdio;

use serde_json::{Value, json};
use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::process::Command;

use crate::api::sdks::{ROOT, output, set_up};
use crate::support::fixtures::{OPS, PROJECT, access, code};
use crate::support::server::Running;

const KEY: (&str, &str) = ("AKSIBLINGS", "SK of the siblings");

pub(crate) fn config() -> Config {
    let (id, secret) = KEY;
    let account = format!(
        "\n[[principal]]\nname = \"sdk\"\nkind = \"account\"\nprojects = [\"{PROJECT}\"]\n\
         access_keys = [{{ id = \"{id}\", secret = \"{secret}\" }}]\n"
    );
    Config::on_any_port(AccessSource::Text(access() + &account))
}

/// A record with every field of a response.
fn full(id: &str) -> Value {
    json!({
        "id": id, "job_id": "job é/1", "job_type": "CREATE_SERVER", "status": "FAILED",
        "begin_time": "2022-03-07T10:40:43.8580Z", "end_time": "2022-03-07T18:45:00+08:00",
        "error_code": "WKS.1", "error_message": "it did not \"work\"",
        "job_resource_info": { "resource_id": "r", "resource_name": "n é" },
    })
}

/// The same subtask in a response.
fn shown(record: Value) -> Value {
    let mut shown = record;
    shown["project_id"] = PROJECT.into();
    if shown.get("begin_time").is_some() {
        shown["begin_time"] = "2022-03-07T10:40:43.858Z".into();
        shown["end_time"] = "2022-03-07T10:45:00Z".into();
        let (code, message) = (shown["error_code"].clone(), shown["error_message"].clone());
        shown["job_execute_info"] = json!({ "error_code": code, "error_message": message });
    }
    shown.as_object_mut().unwrap().remove("family");
    shown
}

/// The same subtask as a model of the Python SDK: with times parsed, and without the fields that the model lacks.
fn modelled(mut shown: Value, without: &[&str]) -> Value {
    let fields = shown.as_object_mut().unwrap();
    fields.retain(|name, _| !without.contains(&&**name));
    for name in ["begin_time", "end_time"] {
        if let Some(time) = fields.get_mut(name) {
            let text = time.as_str().unwrap().replace('T', " ").replace('Z', "+00:00");
            *time = text.replace(".858+", ".858000+").into();
        }
    }
    shown
}

pub(crate) async fn said(program: String, script: &str, server: &Running, calls: &[&str]) -> Vec<Value> {
    set_up().await;
    let mut command = Command::new(program);
    command.arg(format!("{ROOT}/tests/sdk/{script}")).args(calls).stdin(Stdio::null()).kill_on_drop(true);
    // Without the environment of the test: no proxies and no credentials.
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("SUBJOBS_ENDPOINT", format!("http://{}", server.public))
        .env("SUBJOBS_AK", KEY.0)
        .env("SUBJOBS_SK", KEY.1)
        .env("SUBJOBS_PROJECT", PROJECT);
    let lines = output(command).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn both_sdks_list_and_count() {
    let server = Running::start(config()).await;
    let bare = json!({ "id": "2", "job_id": "j", "job_type": "INSTALL_CES_AGENT", "status": "RUNNING" });
    let mut image = full("3");
    image["family"] = "image".into();
    let built = json!({ "id": "4", "job_id": "j", "job_type": "BUILD_IMAGE", "family": "image", "status": "WAITING" });
    let lines = [full("1"), bare.clone(), image.clone(), built.clone()].map(|record| record.to_string());
    assert_eq!(server.report(OPS, lines.join("\n")).send().await.unwrap().status(), 200);

    let list = |count: u64, items: &[Value]| json!({ "answer": { "count": count, "items": items } });
    let refused = |message: &str| {
        json!({
            "exception": "ClientRequestException", "status_code": 400, "error_code": code::INPUT,
            "error_msg": message,
        })
    };
    let (full, bare, image, built) = (shown(full("1")), shown(bare), shown(image), shown(built));
    let calls = [
        ("list_sub_jobs?job_type=", list(2, &[full.clone(), bare.clone()])),
        ("list_sub_jobs?job_type=&offset=1&limit=100", list(2, std::slice::from_ref(&bare))),
        ("list_sub_jobs?job_type=CREATE_SERVER&status=FAILED&job_id=job é/1&limit=1", list(1, &[full])),
        ("list_sub_jobs?job_type=&offset=2147483647", list(2, &[])),
        ("count_image_sub_jobs", json!({ "answer": { "count": 1 } })),
        ("count_image_sub_jobs?job_type=BUILD_IMAGE,CREATE_SERVER&status=", json!({ "answer": { "count": 2 } })),
        ("list_image_sub_jobs?job_type=", list(1, &[image])),
        ("list_image_sub_jobs?job_type=BUILD_IMAGE", list(1, &[built])),
        ("list_sub_jobs", refused("job_type must be given; an empty one is every job type")),
        ("list_image_sub_jobs?job_type=&limit=101", refused("limit must be an integer from 1 to 100")),
    ];
    let names = calls.each_ref().map(|(call, _)| *call);
    let by_node = said("node".into(), "node/siblings.mjs", &server, &names).await;
    let by_python = said(format!("{ROOT}/target/sdk-venv/bin/python"), "python/siblings.py", &server, &names).await;
    assert_eq!((by_node.len(), by_python.len()), (calls.len(), calls.len()));
    for (((call, expected), by_node), by_python) in calls.iter().zip(by_node).zip(by_python) {
        assert_eq!(by_node, *expected, "{call}");
        let mut expected = expected.clone();
        // The SDK's model of an app's subtask has the flat fields, its model of an image's the other form.
        let without: &[&str] = match call.contains("image") {
            true => &["error_code", "error_message"],
            false => &["job_execute_info"],
        };
        if let Some(items) = expected.pointer_mut("/answer/items").and_then(Value::as_array_mut) {
            items.iter_mut().for_each(|item| *item = modelled(item.take(), without));
        }
        assert_eq!(by_python, expected, "{call}");
    }
}
