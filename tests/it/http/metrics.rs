//! The metrics: their names, labels and values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use subjobs::config::Config;

use crate::support::connection::{Connection, head, valid_count};
use crate::support::fixtures::{OPS, OTHER_PROJECT, PROJECT, WORKER, config, count_path, record};
use crate::support::response::json;
use crate::support::server::Running;
use crate::support::snapshot::assert_snapshot;

/// All series with their values.
async fn all(server: &Running) -> BTreeMap<String, f64> {
    let text = server.get_internal("/metrics").await.text().await.unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    });
    let list: Vec<_> = series.collect();
    let map: BTreeMap<_, _> = list.iter().cloned().collect();
    assert_eq!(map.len(), list.len(), "a series stands twice");
    map
}

/// The series that counts requests with a response.
fn requests(listener: &str, method: &str, route: &str, status: u16) -> String {
    format!(
        "subjobs_http_requests_total{{listener=\"{listener}\",method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
    )
}

/// Each metric: its name, kind, the names of its labels, and its help.
fn described(text: &str) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for series in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = series.split_once(['{', ' ']).unwrap();
        let named = rest.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0));
        labels.entry(name).or_default().extend(named);
    }
    let mut described = String::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# HELP ") {
            writeln!(described, "{line}").unwrap();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let series = if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() };
            let labels: Vec<_> = labels[&*series].iter().copied().collect();
            writeln!(described, "    {kind} {{{}}}", labels.join(", ")).unwrap();
        }
    }
    described
}

#[tokio::test]
async fn every_metric_has_its_documented_name_type_labels_and_help() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(Config { data_dir: Some(dir.path().join("data")), ..config() }).await;
    server.count("").await;
    server.ask("unknown-token", "").send().await.unwrap();
    assert_snapshot("metrics", &described(&server.get_internal("/metrics").await.text().await.unwrap()));
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let server = Running::start(config()).await;
    let (count, report) = (count_path("{project_id}"), "/v1/{project_id}/app-server-sub-jobs/actions/report");
    let before = all(&server).await;
    let mut connection = Connection::open(server.public).await;
    for request in [
        valid_count("", &[]),
        valid_count("?status=RUNNING", &[]),
        valid_count("?status=x", &[]),
        valid_count("", &[]).replace(OPS, "unknown-token"),
        valid_count("", &[]).replace(OPS, WORKER),
        valid_count("", &[]).replace(PROJECT, "nowhere"),
        valid_count("", &[]).replace("GET", "POST"),
        valid_count("", &[]).replace("GET", "BREW"),
        head("GET /nowhere HTTP/1.1", &["Host: h"]),
        head(&format!("GET {} HTTP/1.1", count_path("")), &["Host: h"]),
        head(&format!("GET {}/ HTTP/1.1", count_path("p")), &["Host: h"]),
    ] {
        connection.send(request).await;
        connection.response().await;
    }
    connection.send(valid_count("", &[]).replace("GET", "HEAD")).await;
    connection.response_to_head().await;
    server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    server.report(OPS, "x").send().await.unwrap();
    let after = all(&server).await;
    let rise = |series: &str| after.get(series).unwrap_or(&0.0) - before.get(series).unwrap_or(&0.0);
    for (series, expected) in [
        (requests("public", "GET", &count, 200), 2.0),
        (requests("public", "HEAD", &count, 200), 1.0),
        (requests("public", "GET", &count, 400), 1.0),
        (requests("public", "GET", &count, 401), 1.0),
        (requests("public", "GET", &count, 403), 1.0),
        (requests("public", "GET", &count, 404), 1.0),
        (requests("public", "POST", &count, 405), 1.0),
        (requests("public", "other", &count, 405), 1.0),
        (requests("public", "GET", "unknown", 404), 3.0),
        (requests("internal", "POST", report, 200), 1.0),
        (requests("internal", "POST", report, 400), 1.0),
        (requests("internal", "GET", "/metrics", 200), 1.0),
        (format!("subjobs_http_request_duration_seconds_count{{listener=\"public\",route=\"{count}\"}}"), 9.0),
        ("subjobs_http_request_duration_seconds_count{listener=\"public\",route=\"unknown\"}".into(), 3.0),
        (
            format!(
                "subjobs_http_request_duration_seconds_bucket{{listener=\"public\",route=\"{count}\",le=\"+Inf\"}}"
            ),
            9.0,
        ),
        ("subjobs_reports_total{outcome=\"accepted\"}".into(), 1.0),
        ("subjobs_reports_total{outcome=\"refused\"}".into(), 1.0),
        ("subjobs_reports_total{outcome=\"failed\"}".into(), 0.0),
        ("subjobs_refusals_total{reason=\"input\"}".into(), 2.0),
        ("subjobs_refusals_total{reason=\"credential\"}".into(), 1.0),
        ("subjobs_refusals_total{reason=\"permission\"}".into(), 1.0),
        ("subjobs_refusals_total{reason=\"project\"}".into(), 1.0),
        ("subjobs_refusals_total{reason=\"path\"}".into(), 3.0),
        ("subjobs_refusals_total{reason=\"method\"}".into(), 2.0),
    ] {
        assert_eq!(rise(&series), expected, "{series}");
    }
}

/// No label has bytes of a request.
#[tokio::test]
async fn no_label_has_a_value_of_a_request() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    let marks =
        ["mark-project", "mark-token", "mark-id", "MARKMETHOD", "mark-job", "mark-query", "mark-host", "mark-path"];
    let token = format!("X-Auth-Token: {OPS}");
    for (token, project) in [("X-Auth-Token: mark-token", "mark-project"), (&token, "mark-project"), (&token, PROJECT)]
    {
        for method in ["GET", "MARKMETHOD"] {
            for query in ["?status=mark-query&x=mark-query", "?job_id=mark-job", "/mark-path"] {
                let line = format!("{method} {}{query} HTTP/1.1", count_path(project));
                connection.send(head(&line, &["Host: mark-host", "X-Request-Id: mark-id", token])).await;
                connection.response().await;
            }
        }
    }
    server.report(OPS, record("mark-subtask", "mark-job", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    server.report(OPS, record("mark-subtask", "mark-job", "MARKTYPE", "MARKSTATUS")).send().await.unwrap();
    let text = server.get_internal("/metrics").await.text().await.unwrap();
    for mark in marks.iter().chain(&[PROJECT, OTHER_PROJECT, OPS, "ops", "mark", "MARK"]) {
        assert!(!text.contains(mark), "{mark}");
    }
    let series = all(&server).await.len();
    assert!(series < 800, "{series} series");
}

/// The metric and the API count the same subtasks.
#[tokio::test]
async fn the_subtask_gauges_equal_the_counts_of_the_api() {
    let server = Running::start(config()).await;
    let types = subjobs::domain::JobTypes::default();
    let of_apps = types.of_family(subjobs::domain::Family::App);
    let names: Vec<_> = of_apps.map(|job_type| types.name(job_type).to_owned()).collect();
    let statuses = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];
    let record_of = |n: usize, turn: usize| {
        let (job_type, status) = (&names[(n * 7 + turn) % names.len()], statuses[(n + turn * n) % 7]);
        record(&(n % 300).to_string(), &format!("j{}", n % 11), job_type, status)
    };
    for turn in 0..3 {
        for (project, range) in [(PROJECT, 0..500), (OTHER_PROJECT, 200..450)] {
            let body = range.map(|n| record_of(n, turn)).collect::<Vec<_>>().join("\n");
            let url = format!("http://{}/v1/{project}/app-server-sub-jobs/actions/report", server.internal);
            let post =
                server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
            assert_eq!(post.body(body).send().await.unwrap().status(), 200);
        }
        // A refused report changes nothing.
        let bad = format!("{}\nx", record_of(999, turn));
        assert_eq!(server.report(OPS, bad).send().await.unwrap().status(), 400);

        let metrics = all(&server).await;
        let mut sum = 0.0;
        for job_type in &names {
            for status in statuses {
                let query = format!("?job_type={job_type}&status={status}");
                let mut counted = 0;
                for project in [PROJECT, OTHER_PROJECT] {
                    let url = server.count_url(project, &query);
                    let response = server.client.get(url).header("X-Auth-Token", OPS).send().await.unwrap();
                    counted += json(response).await["count"].as_u64().unwrap();
                }
                let series = format!("subjobs_subtasks{{job_type=\"{job_type}\",status=\"{status}\"}}");
                assert_eq!(metrics[&series], counted as f64, "{series}");
                sum += metrics[&series];
            }
        }
        assert_eq!(sum, 550.0);
        assert_eq!(metrics.keys().filter(|series| series.starts_with("subjobs_subtasks{")).count(), types.len() * 7);
    }
}

#[tokio::test]
async fn gauges_follow_connections_and_running_requests() {
    let server = Running::start(config()).await;
    let public = "subjobs_http_connections{listener=\"public\"}";
    server.reaches(public, 0.0).await;
    server.reaches("subjobs_http_connections{listener=\"internal\"}", 1.0).await;
    let mut connections = Vec::new();
    for n in 1..=3 {
        let mut connection = Connection::open(server.public).await;
        connection.send(valid_count("", &["Content-Length: 1"])).await;
        connections.push(connection);
        server.reaches(public, n.into()).await;
        server.reaches("subjobs_http_in_flight", n.into()).await;
    }
    connections[0].send("x").await;
    connections[0].response().await.count();
    server.reaches("subjobs_http_in_flight", 2.0).await;
    server.reaches(public, 3.0).await;
    drop(connections);
    server.reaches("subjobs_http_in_flight", 0.0).await;
    server.reaches(public, 0.0).await;
}

#[tokio::test]
async fn build_info_has_the_version() {
    let server = Running::start(config()).await;
    let series = format!("subjobs_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(server.metric(&series).await, Some(1.0));
}
