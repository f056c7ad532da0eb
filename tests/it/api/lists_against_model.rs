//! Compares lists and counts of both families with a plain list, for random reports and filters.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::api::filters::server;
use crate::support::connection::{Connection, request};
use crate::support::fixtures::{OPS, access_to_any_project, config};
use crate::support::server::Running;

const STATUSES: [&str; 3] = ["WAITING", "SUCCESS", "ABORTING"];
/// The families, the paths of their operations, and some types. The last one belongs to images only; a count includes it only by
/// name.
const FAMILIES: [(&str, &str, &[&str]); 2] = [
    ("app", "app-server-sub-jobs", &["CREATE_SERVER", "DELETE_SERVER", "REJOIN_DOMAIN"]),
    ("image", "image-server-sub-jobs", &["CREATE_SERVER", "DELETE_SERVER", "BUILD_IMAGE"]),
];

/// A record of a report: its id, job, family, type and status as numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Record {
    id: u8,
    job: u8,
    family: usize,
    job_type: usize,
    status: usize,
}

#[derive(Debug, Clone)]
struct Query {
    family: usize,
    job_type: Option<usize>,
    status: Option<usize>,
    job: Option<u8>,
    limit: usize,
}

fn record() -> impl Strategy<Value = Record> {
    (0..40u8, 0..3u8, 0..2usize, 0..3usize, 0..3usize).prop_map(|(id, job, family, job_type, status)| Record {
        id,
        job,
        family,
        job_type,
        status,
    })
}

fn query() -> impl Strategy<Value = Query> {
    let option = proptest::option::of::<std::ops::Range<usize>>;
    (0..2usize, option(0..3), option(0..3), proptest::option::of(0..4u8), 1..12usize)
        .prop_map(|(family, job_type, status, job, limit)| Query { family, job_type, status, job, limit })
}

impl Record {
    fn to_json(self) -> String {
        let (family, _, types) = FAMILIES[self.family];
        let (job_type, status) = (types[self.job_type], STATUSES[self.status]);
        let Self { id, job, .. } = self;
        format!(r#"{{"id":"s{id}","job_id":"j{job}","family":"{family}","job_type":"{job_type}","status":"{status}"}}"#)
    }

    fn matches(self, query: &Query) -> bool {
        let has_type = match query.job_type {
            Some(job_type) => self.job_type == job_type,
            None => (self.family, self.job_type) != (1, 2),
        };
        self.family == query.family
            && has_type
            && query.status.is_none_or(|status| self.status == status)
            && query.job.is_none_or(|job| self.job == job)
    }
}

impl Query {
    fn filter(&self) -> String {
        let (_, _, types) = FAMILIES[self.family];
        format!(
            "job_type={}&status={}&job_id={}",
            self.job_type.map_or("", |at| types[at]),
            self.status.map_or("", |at| STATUSES[at]),
            self.job.map_or(String::new(), |job| format!("j{job}"))
        )
    }
}

/// The expected subtasks of a project, in order.
#[derive(Default)]
struct Model(Vec<Record>);

impl Model {
    fn report(&mut self, batch: &[Record]) {
        for record in batch {
            match self.0.iter_mut().find(|known| known.id == record.id) {
                Some(known) => *known = *record,
                None => self.0.push(*record),
            }
        }
    }

    async fn check(&self, connection: &mut Connection, project: &str, query: &Query) {
        let expected: Vec<Record> = self.0.iter().copied().filter(|record| record.matches(query)).collect();
        let (path, filter) = (format!("/v1/{project}/{}", FAMILIES[query.family].1), query.filter());
        let count = get(connection, &format!("{path}/actions/count?{filter}")).await;
        assert_eq!(count["count"], expected.len(), "{query:?}");
        let mut seen = Vec::new();
        loop {
            let page = get(connection, &format!("{path}?{filter}&offset={}&limit={}", seen.len(), query.limit)).await;
            assert_eq!(page["count"], count["count"], "{query:?}");
            let items = page["items"].as_array().unwrap();
            assert_eq!(items.len(), query.limit.min(expected.len() - seen.len()), "{query:?}");
            if items.is_empty() {
                break;
            }
            seen.extend(items.iter().cloned());
        }
        assert_eq!(seen.len(), expected.len());
        for (item, Record { id, job, family, job_type, status }) in seen.iter().zip(expected) {
            let shown = serde_json::json!({
                "id": format!("s{id}"), "job_id": format!("j{job}"), "project_id": project,
                "job_type": FAMILIES[family].2[job_type], "status": STATUSES[status],
            });
            assert_eq!(*item, shown, "{query:?}");
        }
    }
}

async fn get(connection: &mut Connection, target: &str) -> Value {
    connection.send(request("GET", target, OPS, &[])).await;
    let answer = connection.response().await;
    assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

async fn agrees_with_the_model(server: &Running, projects: usize) {
    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec((proptest::collection::vec(record(), 1..40), query(), query()), 1..5);
    let mut connection = Connection::open(server.public).await;
    for number in 0..projects {
        let (project, mut model) = (format!("project-{number}"), Model::default());
        for (batch, first, second) in steps.new_tree(&mut runner).unwrap().current() {
            let lines: Vec<_> = batch.iter().map(|record| record.to_json()).collect();
            let url = format!("http://{}/v1/{project}/app-server-sub-jobs/actions/report", server.internal);
            let report =
                server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
            assert_eq!(report.body(lines.join("\n")).send().await.unwrap().status(), 200);
            model.report(&batch);
            for query in [first, second] {
                model.check(&mut connection, &project, &query).await;
            }
        }
    }
}

#[tokio::test]
async fn lists_and_counts_in_memory_equal_the_model() {
    agrees_with_the_model(&server().await, 60).await;
}

#[tokio::test]
async fn lists_and_counts_on_disk_equal_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.access = subjobs::access::AccessSource::Text(access_to_any_project());
    config.data_dir = Some(dir.path().to_owned());
    agrees_with_the_model(&Running::start(config).await, 15).await;
}
