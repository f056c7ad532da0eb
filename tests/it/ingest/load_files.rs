//! Compares the counts of a large load file with independent counts of the file; and the shipped samples.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use subjobs::access::{AccessSource, Token};
use subjobs::config::Config;
use subjobs::domain::{CountFilter, Family, JobId, JobTypeSet, JobTypes, ProjectId, Status};
use subjobs::load::{load, summarize};
use subjobs::store::Store;
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::support::fixtures::{Files, OPS, code, config};
use crate::support::response::{self, assert_error};
use crate::support::server::Running;

#[expect(dead_code, reason = "its command line is for the example")]
#[path = "../../../examples/generate.rs"]
mod generate;

const SUBTASKS: u64 = 100_000;
const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

/// A generated file and its counts, which do not use code of the server.
pub(crate) struct Generated {
    pub(crate) path: PathBuf,
    /// The job types in the file.
    types: Vec<String>,
    projects: HashMap<String, Cells>,
    /// By project and job.
    jobs: HashMap<(String, String), Cells>,
}

/// The number of subtasks by the index of the type and of the status.
type Cells = HashMap<(usize, usize), u64>;

/// The sum of the cells of these types and this status. An absent filter matches all.
fn sum(cells: &Cells, types: &[usize], status: Option<usize>) -> u64 {
    let is_asked =
        |of: &(usize, usize)| (types.is_empty() || types.contains(&of.0)) && status.is_none_or(|status| status == of.1);
    cells.iter().filter(|(of, _)| is_asked(of)).map(|(_, count)| count).sum()
}

/// Generated once, because that takes seconds.
pub(crate) static GENERATED: LazyLock<Generated> = LazyLock::new(|| {
    let mut out = Vec::new();
    let options = generate::Options { subtasks: SUBTASKS, seed: 1, required_only: false };
    generate::generate(&options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    // Written and renamed, because another run may write the same file at the same time.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated.ndjson");
    let mut file = NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.persist(&path).unwrap();

    let mut made = Generated { path, types: Vec::new(), projects: HashMap::new(), jobs: HashMap::new() };
    let mut ids = HashSet::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| value[name].as_str().unwrap();
        let (project, job_type) = (field("project_id"), field("job_type"));
        assert!(ids.insert((project.to_owned(), field("id").to_owned())), "the generator repeats itself: {line}");
        let status = STATUSES.iter().position(|status| *status == field("status")).unwrap();
        let job_type = made.types.iter().position(|known| known == job_type).unwrap_or_else(|| {
            made.types.push(job_type.to_owned());
            made.types.len() - 1
        });
        *made.projects.entry(project.to_owned()).or_default().entry((job_type, status)).or_default() += 1;
        let job = (project.to_owned(), field("job_id").to_owned());
        *made.jobs.entry(job).or_default().entry((job_type, status)).or_default() += 1;
    }
    assert!(made.projects.len() > 100 && made.jobs.len() > 1_000, "too few to mean anything");
    assert_eq!(made.types.len(), 19, "some type is missing");
    made
});

impl Generated {
    /// Each project, then each job, with its cells.
    fn places(&self) -> impl Iterator<Item = (&str, Option<&str>, &Cells)> {
        let projects = self.projects.iter().map(|(project, cells)| (project.as_str(), None, cells));
        projects.chain(self.jobs.iter().map(|((project, job), cells)| (project.as_str(), Some(job.as_str()), cells)))
    }

    /// Asserts that the metrics of a server that has loaded it show every total.
    pub(crate) fn assert_metrics(&self, metrics: &str) {
        let shown: HashMap<_, _> = metrics.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        for (job_type, name) in self.types.iter().enumerate() {
            for (at, status) in STATUSES.iter().enumerate() {
                let series = format!("subjobs_subtasks{{job_type=\"{name}\",status=\"{status}\"}}");
                let expected: u64 = self.projects.values().map(|cells| sum(cells, &[job_type], Some(at))).sum();
                assert_eq!(shown.get(series.as_str()), Some(&expected.to_string().as_str()), "{series}");
            }
        }
    }
}

#[test]
fn every_count_of_a_large_file_equals_the_file() {
    let made = &*GENERATED;
    let types = JobTypes::default();
    let store = Store::in_memory(types.len());
    load(std::slice::from_ref(&made.path), &store, &types, &AtomicBool::new(false)).unwrap();

    let type_sets: Vec<JobTypeSet> =
        made.types.iter().map(|name| types.parse(Family::App, name).into_iter().collect()).collect();
    let statuses: Vec<Status> = STATUSES.iter().map(|name| name.parse().unwrap()).collect();
    for (project_name, job, cells) in made.places() {
        let project = ProjectId::parse(project_name).unwrap();
        let job_id = job.map(|job| JobId::parse(job).unwrap());
        let mut filter = CountFilter { job_id, ..CountFilter::default() };
        for at in 0..=STATUSES.len() {
            let status = (at < STATUSES.len()).then_some(at);
            filter.status = status.map(|at| statuses[at]);
            filter.job_types = JobTypeSet::ALL;
            let of_any_type = store.count(&project, &filter).now_or_never().unwrap().unwrap();
            assert_eq!(of_any_type, sum(cells, &[], status), "{project_name} {job:?} {status:?}");
            for (job_type, set) in type_sets.iter().enumerate() {
                filter.job_types = *set;
                let expected = match status {
                    Some(status) => cells.get(&(job_type, status)).copied().unwrap_or(0),
                    None => sum(cells, &[job_type], None),
                };
                let counted = store.count(&project, &filter).now_or_never().unwrap().unwrap();
                assert_eq!(counted, expected, "{project_name} {job:?} {status:?} {}", made.types[job_type]);
            }
        }
    }
    for (job_type, name) in made.types.iter().enumerate() {
        for (status, known) in statuses.iter().enumerate() {
            let total = store.total(types.parse(Family::App, name).unwrap(), *known).unwrap();
            let expected: u64 = made.projects.values().map(|cells| sum(cells, &[job_type], Some(status))).sum();
            assert_eq!(total, expected, "{name} {known}");
        }
    }
}

#[tokio::test]
async fn loaded_subtasks_are_counted_over_http() {
    let made = &*GENERATED;
    let hash = Token::new(OPS.as_bytes()).unwrap().digest();
    let principal = "[[principal]]\nname = \"ops\"\nkind = \"account\"\nprojects = [\"*\"]\n";
    let access = AccessSource::Text(format!("{principal}tokens = [{{ sha256 = \"{hash}\" }}]"));
    let server = Running::begin(Config { load: vec![made.path.clone()], access, ..config() }).await;
    // A longer pause, because frequent requests would slow the load.
    while server.get_internal("/readyz").await.status() != StatusCode::OK {
        sleep(Duration::from_millis(20)).await;
    }

    let assert_count = async |project: &str, query: &str, expected: u64| {
        let request = server.client.get(server.count_url(project, query)).header("X-Auth-Token", OPS);
        let answer = response::json(request.send().await.unwrap()).await;
        assert_eq!(answer, json!({ "count": expected }), "{project} {query}");
    };
    for (project, cells) in &made.projects {
        assert_count(project, "", sum(cells, &[], None)).await;
    }
    // Every cell of the largest project, and of each hundredth job.
    let largest = made.projects.iter().max_by_key(|(_, cells)| sum(cells, &[], None)).unwrap();
    let jobs = made.jobs.iter().step_by(100).map(|((project, job), cells)| (project, format!("&job_id={job}"), cells));
    let two = [0, 1];
    for (project, job, cells) in iter::once((largest.0, String::new(), largest.1)).chain(jobs) {
        assert_count(project, &format!("?{job}"), sum(cells, &[], None)).await;
        for (at, status) in STATUSES.iter().enumerate() {
            assert_count(project, &format!("?status={status}{job}"), sum(cells, &[], Some(at))).await;
        }
        for ((job_type, status), expected) in cells {
            let query = format!("?status={}&job_type={}{job}", STATUSES[*status], made.types[*job_type]);
            assert_count(project, &query, *expected).await;
        }
        let names = two.map(|job_type| made.types[job_type].as_str()).join("%2C");
        assert_count(project, &format!("?job_type={names}{job}"), sum(cells, &two, None)).await;
    }
    made.assert_metrics(&server.get_internal("/metrics").await.text().await.unwrap());
}

/// `deploy/access.example.toml` with the tokens that its comments name.
const EXAMPLE: &str = include_str!("../../../deploy/access.example.toml");
const SAMPLE_PROJECT: &str = "2b31c9d0e7f84a6bb1f0a2c3d4e5f607";
const SAMPLE_JSON: &str = include_str!("../../../docs/samples/report.json");
const SAMPLE_NDJSON: &str = include_str!("../../../docs/samples/report.ndjson");

#[tokio::test]
async fn the_shipped_samples_work() {
    let example = config();
    let server = Running::start(Config { access: AccessSource::Text(EXAMPLE.to_owned()), ..example }).await;
    let report = async |token: &str, media_type: &str, body: &'static str| {
        let url = format!("http://{}/v1/{SAMPLE_PROJECT}/app-server-sub-jobs/actions/report", server.internal);
        let request = server.client.post(url).header("X-Auth-Token", token).header("Content-Type", media_type);
        request.body(body).send().await.unwrap()
    };
    let outcome = |created: usize, unchanged: usize| json!({ "created": created, "updated": 0, "unchanged": unchanged, "stale": 0 });
    let refused = report("replace-me-dashboard", "application/json", SAMPLE_JSON).await;
    assert_error(refused, 403, code::PERMISSION).await;
    let records = SAMPLE_NDJSON.lines().count();
    let created = report("replace-me-workers", "application/json", SAMPLE_JSON).await;
    assert_eq!(response::json(created).await, outcome(records, 0));
    // Both samples have the same subtasks.
    let unchanged = report("replace-me-workers", "application/x-ndjson", SAMPLE_NDJSON).await;
    assert_eq!(response::json(unchanged).await, outcome(0, records));

    for (query, expected) in
        [("", records), ("?status=FAILED", 1), ("?job_id=57576827748001", 1), ("?status=ABORTING", 0)]
    {
        let request = server.client.get(server.count_url(SAMPLE_PROJECT, query));
        let answer = request.header("X-Auth-Token", "replace-me-dashboard").send().await.unwrap();
        assert_eq!(response::json(answer).await, json!({ "count": expected }), "{query}");
    }
    let elsewhere = server.client.get(server.count_url("another", "")).header("X-Auth-Token", "replace-me-dashboard");
    assert_error(elsewhere.send().await.unwrap(), 403, code::PERMISSION).await;
}

#[test]
fn the_samples_show_every_field_and_can_be_loaded() {
    let shown: Vec<Value> = serde_json::from_str(SAMPLE_JSON).unwrap();
    for field in [
        "project_id",
        "id",
        "job_id",
        "job_type",
        "status",
        "version",
        "begin_time",
        "end_time",
        "job_resource_info",
        "job_execute_info",
        "error_code",
        "error_message",
    ] {
        assert!(shown.iter().any(|record| !record[field].is_null()), "no record has {field}");
    }
    let files = Files::new();
    let path = PathBuf::from(files.put("report.ndjson", SAMPLE_NDJSON));
    let types = JobTypes::default();
    assert_eq!(summarize(&path, &types).unwrap().records, shown.len() as u64);
}
