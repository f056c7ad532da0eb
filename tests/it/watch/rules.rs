//! The alerts of `deploy/prometheus`: promtool accepts and tests them, the documents have the same ones, and a scrape has their series.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::program::{Program, run};
use crate::support::promql::{Selector, selectors, series};
use crate::support::replicas;
use crate::support::tls::{self, Certificates};

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");
const RULE_TESTS: &str = include_str!("../../prometheus/rules-test.yaml");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const SHARED_STORE: &str = include_str!("../../../docs/shared-store.md");

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The rules of each group.
fn groups() -> Vec<(String, Vec<Value>)> {
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let groups = list(&rules, "groups").iter();
    groups.map(|group| (group["name"].as_str().unwrap().to_owned(), list(group, "rules").to_vec())).collect()
}

/// An alert: its name, its expression, and for how long that must hold.
type Alert = (String, String, Option<String>);

fn alert(rule: &Value) -> Alert {
    let text = |key: &str| rule[key].as_str().map(str::to_owned);
    (text("alert").unwrap(), text("expr").unwrap(), text("for"))
}

/// The alerts of the table in a document.
fn documented(document: &str) -> Vec<Alert> {
    let (_, section) = document.split_once("\n## Alerts\n").unwrap();
    let rows = section.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
    let alert = |row: &str| {
        let (name, rest) = row.split_once("` | `").unwrap();
        let (expression, rest) = rest.split_once('`').unwrap();
        let held = rest.strip_prefix(" for ").map(|rest| rest.split([' ', ':']).next().unwrap().to_owned());
        (name.to_owned(), expression.to_owned(), held)
    };
    rows.map(alert).collect()
}

#[test]
fn the_documents_have_the_alerts_of_the_rules() {
    let groups = groups();
    let [(server, of_server), (database, of_database)] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!((server.as_str(), database.as_str()), ("subjobs", "subjobs-shared-store"));
    for (document, rules) in [(OPERATIONS, of_server), (SHARED_STORE, of_database)] {
        assert_eq!(documented(document), rules.iter().map(alert).collect::<Vec<_>>());
    }
}

#[test]
fn each_alert_says_what_it_means_and_what_to_do() {
    for (_, rules) in groups() {
        for rule in &rules {
            let texts = rule["annotations"].as_object().unwrap();
            let keys: Vec<_> = texts.keys().map(String::as_str).collect();
            assert_eq!(keys.iter().collect::<BTreeSet<_>>(), ["action", "description", "summary"].iter().collect());
            assert!(texts.values().all(|text| text.as_str().unwrap().len() > 20), "{rule}");
            assert!(texts["summary"].as_str().unwrap().contains("{{ $labels.instance }}"), "{rule}");
            assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        }
    }
}

/// What promtool says of files of the repository, which it accepts.
fn promtool(args: &[&str]) -> String {
    let output = run(Command::new("promtool").args(args).current_dir(env!("CARGO_MANIFEST_DIR")), "");
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

#[test]
fn promtool_accepts_the_configuration_and_the_rules() {
    let alerts: usize = groups().iter().map(|(_, rules)| rules.len()).sum();
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal", "deploy/prometheus/rules.yaml"]);
    assert!(said.contains(&format!("{alerts} rules found")), "{said}");
    promtool(&["check", "config", "--lint=all", "--lint-fatal", "deploy/prometheus/prometheus.yaml"]);
}

/// All texts under such a key, however deep.
fn texts_of<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str));
            map.values().for_each(|value| texts_of(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| texts_of(value, key, found)),
        _ => {}
    }
}

#[test]
fn each_alert_fires_above_its_limit_and_is_silent_below() {
    promtool(&["test", "rules", "tests/prometheus/rules-test.yaml"]);
    let tests: Value = serde_saphyr::from_str(RULE_TESTS).unwrap();
    // Of each test, the alerts that it sees firing; it also sees a time without any.
    let mut fired = BTreeSet::new();
    for test in list(&tests, "tests") {
        let checks = list(test, "promql_expr_test");
        assert!(checks.iter().all(|check| check["expr"] == "ALERTS{alertstate=\"firing\"}"), "{test}");
        assert!(checks.iter().any(|check| list(check, "exp_samples").is_empty()), "{test}");
        let mut labels = Vec::new();
        texts_of(&test["promql_expr_test"], "labels", &mut labels);
        fired.extend(labels.iter().map(|labels| selectors(labels)[0].own_labels()["alertname"].to_owned()));
    }
    let alerts: BTreeSet<_> = groups().iter().flat_map(|(_, rules)| rules).map(|rule| alert(rule).0).collect();
    assert_eq!(fired, alerts);
}

/// The series of a server with a data directory and of one with a database.
pub(super) fn series_of_servers() -> Vec<Selector> {
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let certificates = Certificates::new();
    let (access, data, tls) = (files.access(), files.arg("data"), tls::options(&certificates.issue("server")));
    let args = ["--access", &access, "--data-dir", &data].into_iter().chain(tls.iter().map(String::as_str));
    let with_disk = Program::start(&args.collect::<Vec<_>>());
    let with_database = replicas::start(&files, &cluster.url(&replicas::migrated(cluster)), &[]);
    series(&(with_disk.metrics() + &with_database.metrics()))
}

#[test]
fn rules_and_their_tests_have_the_series_of_a_scrape() {
    let scraped = series_of_servers();
    // `up` is a series that Prometheus makes for each target.
    let is_scraped =
        |selector: &Selector| selector.name == "up" || scraped.iter().any(|series| selector.selects(series));
    for rule in groups().iter().flat_map(|(_, rules)| rules) {
        let read = selectors(rule["expr"].as_str().unwrap());
        assert!(!read.is_empty(), "{rule}");
        let unknown: Vec<_> = read.iter().filter(|selector| !is_scraped(selector)).collect();
        assert!(unknown.is_empty(), "{rule}: {unknown:?}");
    }
    let tests: Value = serde_saphyr::from_str(RULE_TESTS).unwrap();
    let mut inputs = Vec::new();
    texts_of(&tests, "series", &mut inputs);
    assert!(inputs.len() > 20);
    let labels_of_scrape: BTreeMap<_, _> =
        scraped.iter().map(|series| ((&series.name, series.own_labels()), series)).collect();
    for input in inputs {
        let [input] = &selectors(input)[..] else { panic!("{input}") };
        let labels: BTreeSet<_> = input.matchers.iter().map(|(label, ..)| label.as_str()).collect();
        assert!(labels.is_superset(&["instance", "job"].into()), "{input:?}");
        let is_of_scrape = labels_of_scrape.contains_key(&(&input.name, input.own_labels()));
        assert!(input.name == "up" || is_of_scrape, "a scrape has no series with exactly the labels of {input:?}");
    }
}
