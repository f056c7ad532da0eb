//! The dashboard of `deploy/grafana`: a real Prometheus with the shipped configuration answers each of its queries.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::blocking::{get, post};
use crate::support::fixtures::{Files, OPS, PROJECT, count_path, record, report_path};
use crate::support::gateways::{Gateway, replaced};
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Program;
use crate::support::promql::{LABELS_OF_PROMETHEUS, selectors};
use crate::support::replicas;
use crate::support::tls::{Certificates, options};
use crate::support::wait::until;

const DASHBOARD: &str = include_str!("../../../deploy/grafana/dashboard.json");
const CONFIGURATION: &str = include_str!("../../../deploy/prometheus/prometheus.yaml");
const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");

/// Queries that have no data here, by the start of their panel's title, and why. Prometheus must still parse them.
const WITHOUT_DATA: [(&str, &str); 1] =
    [("p99 of calls to the identity service", "the servers of the test have no identity service")];

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The title of a panel and each of its queries, with the variables of Grafana replaced.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let annotation = |annotation: &Value| Some(("annotation".to_owned(), annotation["expr"].as_str()?.to_owned()));
    let annotations = list(&dashboard["annotations"], "list").iter().filter_map(annotation);
    let panels = list(dashboard, "panels").iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let of_panel = list(panel, "targets").iter().map(|target| target["expr"].as_str().unwrap());
        of_panel.map(|query| (title.to_owned(), query.to_owned())).collect::<Vec<_>>()
    });
    let replace = |query: String| {
        let query = query.replace("$job", "subjobs").replace("$instance", ".*").replace("$__rate_interval", "3s");
        assert!(!query.contains('$'), "{query}");
        query
    };
    annotations.chain(panels).map(|(title, query)| (title, replace(query))).collect()
}

/// A Prometheus with the shipped files, that scrapes these servers many times a second.
fn prometheus(servers: &[&Program]) -> Gateway {
    let targets: Vec<_> = servers.iter().map(|server| format!("\"{}\"", server.internal)).collect();
    Gateway::spawn("prometheus.yaml", |address, dir| {
        fs::write(format!("{dir}/rules.yaml"), RULES).unwrap();
        let configuration = replaced(
            CONFIGURATION,
            &[
                ("scrape_interval: 15s", "scrape_interval: 250ms\n  scrape_timeout: 250ms"),
                ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                ("\"127.0.0.1:9090\"", &targets.join(", ")),
            ],
        );
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={dir}/prometheus.yaml")).arg(format!("--storage.tsdb.path={dir}/data"));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        (configuration, command)
    })
}

/// The `data` of a response of Prometheus.
fn data(prometheus: &Gateway, path: &str) -> Value {
    // A response of HTTP/1.0 has no chunks.
    let response = prometheus.raw(&format!("GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n"));
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    let mut body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["status"], "success", "{body}");
    body["data"].take()
}

/// How many samples a query has, without those that are not numbers.
fn samples(prometheus: &Gateway, query: &str) -> usize {
    let found = data(prometheus, &format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC)));
    let is_number = |sample: &&Value| sample["value"][1].as_str().is_some_and(|value| value != "NaN");
    list(&found, "result").iter().filter(is_number).count()
}

/// A few requests of each kind.
fn make_traffic(server: &Program, turn: usize) {
    let reported = record(&format!("s{turn}"), "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(post(server.internal, &report_path(PROJECT), OPS, &reported).status, 200);
    assert_eq!(post(server.internal, &report_path(PROJECT), OPS, "x").status, 400);
    assert_eq!(get(server.public, &count_path(PROJECT), OPS).status, 200);
    assert_eq!(get(server.public, &count_path(PROJECT), "unknown-token").status, 401);
}

#[test]
fn a_prometheus_with_the_shipped_files_answers_each_query_of_the_dashboard() {
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let with_disk = Program::start(&["--access", &files.access(), "--data-dir", &files.arg("data")]);
    let with_database = replicas::start(&files, &cluster.url(&replicas::migrated(cluster)), &[]);
    // Its public listener gets no requests, but it has a certificate, which expires within days: so an alert fires.
    let certificates = Certificates::new();
    let tls = options(&certificates.issue("server"));
    let access = files.access();
    let with_tls =
        Program::start(&["--access", &access].into_iter().chain(tls.iter().map(String::as_str)).collect::<Vec<_>>());
    let servers = [&with_disk, &with_database, &with_tls];
    let prometheus = prometheus(&servers);
    let dashboard = dashboard();
    let (mut without_data, mut open): (Vec<_>, Vec<_>) =
        queries(&dashboard).into_iter().partition(|(title, _)| WITHOUT_DATA.iter().any(|(panel, _)| panel == title));
    assert!(open.len() > 40);
    let mut turn = 0;
    until("each query has data", || {
        [&with_disk, &with_database].into_iter().for_each(|server| make_traffic(server, turn));
        turn += 1;
        open.retain(|(_, query)| samples(&prometheus, query) == 0);
        if turn % 50 == 0 {
            eprintln!("without data: {open:?}");
        }
        open.is_empty().then_some(())
    });
    without_data.retain(|(_, query)| samples(&prometheus, query) > 0);
    assert_eq!(without_data, [], "it has data after all");

    // The same Prometheus has loaded and evaluated the rules.
    let evaluated = until("the rules are evaluated", || {
        let groups = data(&prometheus, "/api/v1/rules");
        let rules: Vec<_> = list(&groups, "groups").iter().flat_map(|group| list(group, "rules").to_vec()).collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    assert_eq!(evaluated.len(), RULES.matches("- alert: ").count());
    assert!(evaluated.iter().all(|rule| rule["health"] == "ok"), "{evaluated:?}");
    assert_eq!(samples(&prometheus, "up{job=\"subjobs\"} == 1"), servers.len());
}

#[test]
fn the_panels_of_the_dashboard_have_a_place_a_unit_and_the_chosen_data_source() {
    let dashboard = dashboard();
    let panels = list(&dashboard, "panels");
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| &row["title"]).collect();
    for topic in ["Traffic", "Latency", "Refusals", "Reports", "Store", "Shared store", "Connections", "Readiness"] {
        assert!(rows.iter().any(|row| row.as_str().unwrap().starts_with(topic)), "{topic}");
    }
    let mut cells = BTreeSet::new();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{} covers another panel", panel["title"]);
        }
        if panel["type"] != "row" {
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
        }
        for source in [panel].into_iter().chain(list(panel, "targets")).filter(|part| part["type"] != "row") {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let variables: Vec<_> = list(&dashboard["templating"], "list").iter().map(|variable| &variable["name"]).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
}

/// A dashboard with two jobs or servers shows the chosen ones only.
#[test]
fn each_query_of_the_dashboard_selects_the_chosen_job_and_servers() {
    for (title, query) in queries(&dashboard()) {
        for selector in selectors(&query) {
            let chosen: BTreeSet<_> = selector.matchers.iter().map(|(label, ..)| label.as_str()).collect();
            assert!(LABELS_OF_PROMETHEUS.iter().all(|label| chosen.contains(label)), "{title}: {query}");
        }
    }
}
