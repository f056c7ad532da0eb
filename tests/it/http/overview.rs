//! The numbers of all projects together, as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use subjobs::config::Config;

use crate::support::connection::{exchange, request};
use crate::support::fixtures::{Files, OPS, OTHER_PROJECT, PROJECT, code, config, record, report_path};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;

pub(crate) const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

pub(crate) async fn overview(server: &Running) -> Value {
    let response = server.get_internal("/overview").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(response.headers().contains_key("x-request-id"));
    json(response).await
}

/// The counts by type and status that the metrics show.
async fn metrics(server: &Running) -> BTreeMap<(String, String), u64> {
    let text = server.get_internal("/metrics").await.text().await.unwrap();
    let series = text.lines().filter_map(|line| line.strip_prefix("subjobs_subtasks{job_type=\""));
    let series = series.map(|series| {
        let (job_type, rest) = series.split_once("\",status=\"").unwrap();
        let (status, count) = rest.split_once("\"} ").unwrap();
        ((job_type.to_owned(), status.to_owned()), count.parse().unwrap())
    });
    series.collect()
}

/// Subtasks of both families in two projects.
pub(crate) async fn report_some(server: &Running) {
    let image = r#"{"id":"i","job_id":"secret-job","job_type":"BUILD_IMAGE","status":"FAILED","family":"image"}"#;
    let first = [record("1", "secret-job", "CREATE_SERVER", "RUNNING"), image.to_owned()];
    let second = [
        record("1", "j", "CREATE_SERVER", "RUNNING"),
        record("2", "j", "CREATE_SERVER", "SUCCESS"),
        record("3", "j", "REJOIN_DOMAIN", "ABORTING"),
    ];
    for (project, records) in [(PROJECT, first.join("\n")), (OTHER_PROJECT, second.join("\n"))] {
        let url = format!("http://{}{}", server.internal, report_path(project));
        let report = server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
        assert_eq!(report.body(records).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn the_overview_has_the_numbers_of_the_metrics() {
    let server = Running::start(config()).await;
    report_some(&server).await;
    assert_eq!(server.count("").await, 1);
    assert_error(server.ask("unknown-token", "").send().await.unwrap(), 401, code::CREDENTIAL).await;
    let overview = overview(&server).await;

    assert_eq!(overview["total"], 5);
    assert_eq!(
        overview["by_status"],
        json!({ "WAITING": 0, "RUNNING": 2, "SUCCESS": 1, "FAILED": 1, "ABNORMAL": 0, "ROLLBACK": 0, "ABORTING": 1 })
    );
    assert_eq!(
        overview["by_type"],
        json!({
            "CREATE_SERVER": { "RUNNING": 2, "SUCCESS": 1 }, "REJOIN_DOMAIN": { "ABORTING": 1 },
            "image:BUILD_IMAGE": { "FAILED": 1 },
        })
    );
    let mut sum = 0;
    for ((job_type, status), count) in metrics(&server).await {
        let shown = overview["by_type"][&job_type][&status].as_u64().unwrap_or(0);
        assert_eq!(shown, count, "{job_type} {status}");
        let is_empty = overview["types_without_subtasks"].as_array().unwrap().contains(&job_type.clone().into());
        assert_eq!(is_empty, overview["by_type"].get(&job_type).is_none(), "{job_type}");
        sum += count;
    }
    assert_eq!(sum, 5);
    assert_eq!(overview["refusals"], json!({ "credential": 1 }));
    for (name, value) in [
        ("state", json!("ready")),
        ("reason", Value::Null),
        ("store", json!("memory")),
        ("drift", json!(0)),
        ("reports_storable", json!(true)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(overview[name], value, "{name}");
    }
    // The server is some moments old, so nothing has been averaged over less than a second.
    let rates = &overview["rates"];
    assert!(rates["reports"].as_f64().unwrap() > 0.0 && rates["reports"].as_f64().unwrap() <= 2.0, "{rates}");
    assert!(rates["counts"].as_f64().unwrap() > 0.0, "{rates}");
    assert!(overview["last_report_at"].is_string() && overview["started_at"].is_string(), "{overview}");
    assert_eq!(overview["history"]["interval_seconds"], 5);
    for status in STATUSES {
        assert!(overview["history"]["by_status"][status].is_array(), "{status}");
    }
}

#[tokio::test]
async fn an_overview_names_no_project_and_no_job() {
    let server = Running::start(config()).await;
    report_some(&server).await;
    for path in ["/overview", "/"] {
        let text = server.get_internal(path).await.text().await.unwrap();
        for secret in [PROJECT, OTHER_PROJECT, "secret-job"] {
            assert!(!text.contains(secret), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn an_unchanged_overview_is_answered_with_304() {
    let server = Running::start(config()).await;
    let first = server.get_internal("/overview").await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let ask = async |tag: &str| {
        let url = format!("http://{}/overview", server.internal);
        server.client.get(url).header("If-None-Match", tag).send().await.unwrap()
    };
    let same = ask(&tag).await;
    assert_eq!((same.status().as_u16(), same.headers()["etag"].to_str().unwrap()), (304, &*tag));
    assert_eq!(same.headers()["vary"], "accept-encoding");
    assert_eq!(same.bytes().await.unwrap().len(), 0);
    report_some(&server).await;
    let changed = ask(&tag).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"].to_str().unwrap(), tag);
}

#[tokio::test]
async fn a_server_that_loads_shows_no_counts() {
    let files = Files::new();
    let fifo = files.fifo("subtasks");
    let server = Running::begin(Config { load: vec![fifo.clone().into()], ..config() }).await;
    let loading = overview(&server).await;
    assert_eq!((&loading["state"], &loading["total"]), (&json!("starting"), &Value::Null));
    assert_eq!((&loading["by_status"], &loading["by_type"]), (&Value::Null, &Value::Null));
    let page = server.get_internal("/").await.text().await.unwrap();
    assert!(page.contains("starting") && page.contains("<td>unknown</td>"), "{page}");
    tokio::task::spawn_blocking(move || std::fs::write(fifo, "").unwrap()).await.unwrap();
    server.reaches("subjobs_ready", 1.0).await;
    assert_eq!(overview(&server).await["total"], 0);
}

#[tokio::test]
async fn only_get_and_head_are_allowed() {
    let server = Running::start(config()).await;
    for path in ["/", "/page/page.css", "/page/none.js", "/overview", "/overview/events"] {
        let response = exchange(server.internal, request("POST", path, "", &["Content-Length: 0"])).await;
        assert_eq!(response.header("allow"), Some("GET,HEAD"), "{path}");
        response.assert_error(405, code::METHOD);
    }
}
