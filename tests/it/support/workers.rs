//! Workers that report without end, each with what the server must know from them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::blocking::{BlockingConnection, get};
use crate::support::connection::request;
use crate::support::fixtures::{OPS, code, count_path, report_path};
use crate::support::program::Program;
use crate::support::random::Random;
use crate::support::wait::{TEST_DEADLINE, until};

const TYPES: [&str; 4] = ["CREATE_SERVER", "CREATE_SERVER_IMAGE", "DELETE_SERVER", "REJOIN_DOMAIN"];
const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];
const JOBS: usize = 5;

/// How many subtasks a worker has to do with at most.
const IDS: usize = 1500;

/// Between two attempts of one report.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A subtask as reported.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record {
    id: usize,
    job: usize,
    job_type: usize,
    status: usize,
    version: u64,
    details: usize,
}

/// Who reports subtasks of its own to a project, one report after the other.
pub(crate) struct Worker {
    name: String,
    pub(crate) project: String,
    random: Random,
    stored: HashMap<usize, Record>,
    /// What it has reported and not heard of.
    pending: Vec<Record>,
}

/// Counts by what is asked.
type Counts = BTreeMap<String, u64>;

impl Worker {
    pub(crate) fn new(number: usize, project: &str) -> Self {
        let (name, random) = (format!("worker-{number}"), Random::new(number as u64));
        Self { name, project: project.into(), random, stored: HashMap::new(), pending: Vec::new() }
    }

    /// Reports until that fails; `acknowledged` is told of every report that is.
    pub(crate) fn work(&mut self, address: SocketAddr, mut acknowledged: impl FnMut()) {
        // The program may be killed before it accepts.
        let Ok(mut connection) = BlockingConnection::try_open(address) else { return };
        // What it does not know about it reports again.
        let mut is_known = self.pending.is_empty();
        loop {
            if is_known {
                self.pending = self.batch();
            }
            let Some((status, body)) = self.send(&mut connection) else { return };
            assert_eq!(status, 200, "{body}");
            let outcome = apply(&mut self.stored, &self.pending);
            assert!(!is_known || body.is_empty() || outcome == parse(&body), "{outcome:?} is not {body}");
            (self.pending, is_known) = (Vec::new(), true);
            acknowledged();
        }
    }

    /// Reports through any of these servers until `is_over` and nothing is pending: what gets 503 or no response is reported again,
    /// for a bounded time. `acknowledged` is told of every report that gets 200.
    pub(crate) fn work_through(
        &mut self,
        servers: &[SocketAddr],
        is_over: impl Fn() -> bool,
        mut acknowledged: impl FnMut(),
    ) {
        let mut next = self.random.below(servers.len());
        let mut connection = None;
        let mut is_known = self.pending.is_empty();
        let mut acknowledged_at = Instant::now();
        while !(is_known && is_over()) {
            // Without a bound, a test that has failed would wait for its workers without end.
            assert!(acknowledged_at.elapsed() < TEST_DEADLINE, "{}: no report is stored", self.name);
            if is_known {
                self.pending = self.batch();
            }
            if connection.is_none() {
                next = (next + 1) % servers.len();
                connection = BlockingConnection::try_open(servers[next]).ok();
            }
            match connection.as_mut().and_then(|connection| self.send(connection)) {
                Some((200, body)) => {
                    let outcome = apply(&mut self.stored, &self.pending);
                    assert!(!is_known || body.is_empty() || outcome == parse(&body), "{outcome:?} is not {body}");
                    (self.pending, is_known, acknowledged_at) = (Vec::new(), true, Instant::now());
                    acknowledged();
                }
                Some((503, body)) => {
                    assert!(body.is_empty() || body.contains(code::UNAVAILABLE), "{body}");
                    (is_known, connection) = (false, None);
                    thread::sleep(RETRY_PAUSE);
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    (is_known, connection) = (false, None);
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// Sends what is pending; the status and the body, of which a part may be missing.
    fn send(&self, connection: &mut BlockingConnection) -> Option<(u16, String)> {
        let body: String = self.pending.iter().map(|record| self.line(record)).collect();
        let length = format!("Content-Length: {}", body.len());
        let more = ["Content-Type: application/x-ndjson", &length];
        connection.try_send(request("POST", &report_path(&self.project), OPS, &more) + &body).ok()?;
        loop {
            let text = String::from_utf8_lossy(connection.received()).into_owned();
            let status = text.get(9..12).and_then(|status| status.parse().ok());
            if let (Some(status), Some((_, body))) = (status, text.split_once("\r\n\r\n"))
                && body.ends_with('}')
            {
                connection.take_received();
                return Some((status, body.to_owned()));
            }
            // A 200 is one as soon as it can be told.
            if matches!(connection.read_more(), Err(_) | Ok(0)) {
                return status.map(|status| (status, String::new()));
            }
        }
    }

    /// Often one subtask, at times some, at times hundreds: new ones, others in later states, some that come too late.
    fn batch(&mut self) -> Vec<Record> {
        let random = &mut self.random;
        let size = match random.below(10) {
            0 => 200 + random.below(300),
            1 | 2 => 2 + random.below(20),
            _ => 1,
        };
        let details = if random.below(4) == 0 { 500 } else { 0 };
        let record = |_| {
            let id = random.below(IDS);
            let known = self.stored.get(&id).map_or(0, |record| record.version);
            let version = if random.below(8) == 0 { known.saturating_sub(1) } else { known + random.below(3) as u64 };
            let (job, job_type) = (random.below(JOBS), random.below(TYPES.len()));
            Record { id, job, job_type, status: random.below(STATUSES.len()), version, details }
        };
        (0..size).map(record).collect()
    }

    fn line(&self, record: &Record) -> String {
        let Record { id, job, job_type, status, version, details } = *record;
        let (job_type, status) = (TYPES[job_type], STATUSES[status]);
        let mut line = format!(r#"{{"id":"{}/{id}","job_id":"job-{job}","job_type":"{job_type}","#, self.name);
        write!(line, r#""status":"{status}","version":{version}"#).unwrap();
        if details > 0 {
            write!(line, r#","job_resource_info":{{"resource_name":"{}"}}"#, "x".repeat(details)).unwrap();
        }
        line + "}\n"
    }

    /// What may be stored: without what is pending, and with it.
    fn possible(&self) -> Vec<HashMap<usize, Record>> {
        let mut with = self.stored.clone();
        apply(&mut with, &self.pending);
        vec![self.stored.clone(), with]
    }
}

/// Created, updated, unchanged, stale.
type Outcome = [u64; 4];

fn apply(stored: &mut HashMap<usize, Record>, batch: &[Record]) -> Outcome {
    let mut outcome = [0; 4];
    for record in batch {
        let which = match stored.get(&record.id) {
            None => 0,
            Some(known) if known.version > record.version => 3,
            Some(known) if known == record => 2,
            Some(_) => 1,
        };
        outcome[which] += 1;
        if which < 3 {
            stored.insert(record.id, *record);
        }
    }
    outcome
}

fn parse(body: &str) -> Outcome {
    let body: Value = serde_json::from_str(body).unwrap();
    ["created", "updated", "unchanged", "stale"].map(|name| body[name].as_u64().unwrap())
}

/// Adds every count that subtasks are part of.
fn tally(stored: &HashMap<usize, Record>, counts: &mut Counts) {
    for record in stored.values() {
        let (job_type, status) = (TYPES[record.job_type], STATUSES[record.status]);
        for query in [
            String::new(),
            format!("?status={status}"),
            format!("?job_type={job_type}"),
            format!("?job_id=job-{}", record.job),
            format!("?status={status}&job_type={job_type}"),
        ] {
            *counts.entry(query).or_default() += 1;
        }
    }
}

/// Every count of a project that is not zero.
fn ask(program: &Program, project: &str) -> Counts {
    let mut queries = vec![String::new()];
    queries.extend((0..JOBS).map(|job| format!("?job_id=job-{job}")));
    queries.extend(TYPES.map(|job_type| format!("?job_type={job_type}")));
    for status in STATUSES {
        queries.push(format!("?status={status}"));
        queries.extend(TYPES.map(|job_type| format!("?status={status}&job_type={job_type}")));
    }
    let count = |query: String| {
        // A database may seem silent for a moment on a busy machine.
        let answer = until("a count is answered", || {
            let answer = get(program.public, &format!("{}{query}", count_path(project)), OPS);
            (answer.status != 503).then_some(answer)
        });
        assert_eq!(answer.status, 200, "{answer:?}");
        (query, answer.json()["count"].as_u64().unwrap())
    };
    queries.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// Asserts that of every worker all that was acknowledged is stored, and what it has not heard of whole or not at all.
pub(crate) fn assert_stored(program: &Program, workers: &[Worker], when: &str) {
    let mut projects: Vec<_> = workers.iter().map(|worker| worker.project.as_str()).collect();
    projects.sort_unstable();
    projects.dedup();
    for project in projects {
        let mut possible = vec![Counts::new()];
        for worker in workers.iter().filter(|worker| worker.project == project) {
            let each = |counts: &Counts| {
                worker
                    .possible()
                    .into_iter()
                    .map(|stored| {
                        let mut counts = counts.clone();
                        tally(&stored, &mut counts);
                        counts
                    })
                    .collect::<Vec<_>>()
            };
            possible = possible.iter().flat_map(each).collect();
        }
        let found = ask(program, project);
        assert!(possible.contains(&found), "{when}: {project} has\n{found:?}, and not one of\n{possible:?}");
    }
}
