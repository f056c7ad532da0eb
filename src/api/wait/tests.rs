//! Compares the responses of WaitForCount with a plain list of states, for random changes and queries, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt as _;

use crate::access::{AccessHandle, AccessSource, Token};
use crate::api::{Api, ConcurrencyLimit, operations};
use crate::domain::{Family, JobId, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::readiness::{Phase, Readiness};
use crate::store::Store;
use crate::web::authorize::X_AUTH_TOKEN;
use crate::web::operation::router;
use crate::web::waiters::Waiters;

const TOKEN: &str = "a token of the test";

/// Requests wait for changes of the first project only.
const PROJECTS: [&str; 2] = ["watched", "other"];

/// Two job types of each family. Both families have the name CREATE_SERVER.
const TYPES: [(Family, &str); 4] = [
    (Family::App, "CREATE_SERVER"),
    (Family::App, "DELETE_SERVER"),
    (Family::Image, "CREATE_SERVER"),
    (Family::Image, "BUILD_IMAGE"),
];

const OPERATORS: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];

/// The longest time from a change to the response. The store wakes the waiters of a project once in 25 ms.
const MAX_DELAY: Duration = Duration::from_millis(30);

#[derive(Debug, Clone)]
enum Change {
    Report(Vec<SubJob>),
    Reset,
}

/// Changes at one moment. The state after them lasts for the 100 ms of the contract or longer, so that each wait must see it.
#[derive(Debug, Clone)]
struct Step {
    project: usize,
    changes: Vec<Change>,
    lasts: Duration,
}

/// The parameter `revision` of a request.
#[derive(Debug, Clone, Copy)]
enum Known {
    Zero,
    Current,
    Next,
}

#[derive(Debug, Clone)]
struct Wait {
    start: Duration,
    timeout: Duration,
    family: Family,
    job_type: Option<usize>,
    job: Option<u8>,
    /// None means every status.
    statuses: Vec<Status>,
    until: Option<(&'static str, usize)>,
    known: Option<Known>,
}

/// The subtasks of the first project from a moment on, counted from the start of the test.
#[derive(Debug, Clone)]
struct State {
    since: Duration,
    sub_jobs: Vec<SubJob>,
    revision: u64,
}

fn arbitrary_sub_job() -> impl Strategy<Value = SubJob> {
    (0..6u8, 0..2u8, select(&TYPES[..]), select(&Status::ALL[..]), 0..3u64).prop_map(
        |(id, job, (family, name), status, version)| SubJob {
            id: SubJobId::parse(&format!("s{id}")).unwrap(),
            job_id: JobId::parse(&format!("j{job}")).unwrap(),
            job_type: JobTypes::default().parse(family, name).unwrap(),
            status,
            version: Version::try_from(version).unwrap(),
            details: None,
        },
    )
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        8 => proptest::collection::vec(arbitrary_sub_job(), 0..4).prop_map(Change::Report),
        1 => Just(Change::Reset),
    ];
    // Mostly changes of the watched project.
    let project = prop_oneof![4 => Just(0), 1 => Just(1usize)];
    let lasts = prop_oneof![3 => 10..15u64, 1 => 15..1000u64].prop_map(|tens| Duration::from_millis(10 * tens));
    (project, proptest::collection::vec(change, 1..4), lasts).prop_map(|(project, changes, lasts)| Step {
        project,
        changes,
        lasts,
    })
}

fn arbitrary_wait() -> impl Strategy<Value = Wait> {
    let until = || (select(&OPERATORS[..]), 0..5usize);
    let known = || prop_oneof![1 => Just(Known::Zero), 4 => Just(Known::Current), 1 => Just(Known::Next)];
    let condition = prop_oneof![
        4 => until().prop_map(|until| (Some(until), None)),
        2 => known().prop_map(|known| (None, Some(known))),
        1 => (until(), known()).prop_map(|(until, known)| (Some(until), Some(known))),
    ];
    let scope = (select(&Family::ALL[..]), proptest::option::of(0..2usize), proptest::option::of(0..3u8));
    (0..1000u64, 1..=55u64, scope, subsequence(&Status::ALL[..], 0..=4), condition).prop_map(
        |(tens, timeout, (family, job_type, job), statuses, (until, known))| Wait {
            // Changes come at multiples of 10 ms, so that no wait starts or ends at the moment of a change.
            start: Duration::from_millis(10 * tens + 5),
            timeout: Duration::from_secs(timeout),
            family,
            job_type,
            job,
            statuses,
            until,
            known,
        },
    )
}

impl Known {
    fn revision(self, current: u64) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Current => current,
            Self::Next => current + 1,
        }
    }
}

impl Wait {
    /// The name of its job type, which the family has.
    fn job_type(&self) -> Option<&'static str> {
        let mut names = TYPES.iter().filter(|(family, _)| *family == self.family).map(|(_, name)| *name);
        self.job_type.and_then(|number| names.nth(number))
    }

    fn target(&self, current: u64) -> String {
        let statuses: Vec<_> = self.statuses.iter().map(|status| status.as_str()).collect();
        let mut target = format!(
            "/subjobs/v1/{}/wait?family={}&status={}&job_type={}&timeout={}",
            PROJECTS[0],
            self.family,
            statuses.join(","),
            self.job_type().unwrap_or_default(),
            self.timeout.as_secs()
        );
        if let Some(job) = self.job {
            target += &format!("&job_id=j{job}");
        }
        if let Some((operator, number)) = self.until {
            target += &format!("&until={operator}:{number}");
        }
        if let Some(known) = self.known {
            target += &format!("&revision={}", known.revision(current));
        }
        target
    }

    fn count(&self, state: &State) -> usize {
        let types = JobTypes::default();
        let matches = |sub_job: &&SubJob| {
            sub_job.job_type.family() == self.family
                && self.job_type().is_none_or(|name| types.name(sub_job.job_type) == name)
                && self.job.is_none_or(|job| sub_job.job_id.to_string() == format!("j{job}"))
                && (self.statuses.is_empty() || self.statuses.contains(&sub_job.status))
        };
        state.sub_jobs.iter().filter(matches).count()
    }

    fn is_satisfied(&self, state: &State, current: u64) -> bool {
        let count = self.count(state);
        let has_count = self.until.is_some_and(|(operator, number)| match operator {
            "eq" => count == number,
            "ne" => count != number,
            "lt" => count < number,
            "le" => count <= number,
            "gt" => count > number,
            _ => count >= number,
        });
        has_count || self.known.is_some_and(|known| state.revision != known.revision(current))
    }

    /// The expected response and its moment: the first state that satisfies the request, or the last one before the end.
    fn expected(&self, states: &[State], drain: Option<Duration>) -> (Value, Duration) {
        let deadline = self.start + self.timeout;
        let end = drain.map_or(deadline, |drain| deadline.min(drain)).max(self.start);
        let index_at = |moment| states.iter().rposition(|state| state.since <= moment).unwrap();
        let seen = &states[index_at(self.start)..=index_at(end)];
        let current = seen[0].revision;
        let satisfied = seen.iter().find(|state| self.is_satisfied(state, current));
        let (state, moment) = match satisfied {
            Some(state) => (state, state.since.max(self.start)),
            None => (&seen[seen.len() - 1], end),
        };
        let (is_satisfied, count) = (satisfied.is_some(), self.count(state));
        (json!({ "satisfied": is_satisfied, "count": count, "revision": state.revision }), moment)
    }
}

/// Applies a change to a list of subtasks. Returns whether the change has an effect.
fn apply(change: &Change, sub_jobs: &mut Vec<SubJob>) -> bool {
    let mut is_effective = false;
    match change {
        Change::Reset => is_effective = sub_jobs.drain(..).next().is_some(),
        Change::Report(batch) => {
            for record in batch {
                match sub_jobs.iter_mut().find(|known| known.id == record.id) {
                    Some(known) if known.version > record.version || known == record => continue,
                    Some(known) => *known = record.clone(),
                    None => sub_jobs.push(record.clone()),
                }
                is_effective = true;
            }
        }
    }
    is_effective
}

fn api() -> Arc<Api> {
    let digest = Token::new(TOKEN.as_bytes()).unwrap().digest();
    let access = format!(
        "[[principal]]\nname = \"caller\"\nkind = \"account\"\nprojects = [\"*\"]\ntokens = [{{ sha256 = \"{digest}\" }}]"
    );
    let metrics = Arc::new(Metrics::new().unwrap());
    let identity = metrics.identity().unwrap();
    let (job_types, readiness) = (Arc::new(JobTypes::default()), Arc::<Readiness>::default());
    let store = Arc::new(Store::in_memory(job_types.len()));
    let overview = Overview::new(store.clone(), metrics, readiness.clone(), job_types.clone());
    let api = Api {
        store,
        access: Arc::new(AccessHandle::open(AccessSource::Text(access), Vec::new(), identity).unwrap()),
        job_types,
        readiness,
        limit: Arc::new(ConcurrencyLimit::new(8)),
        waiters: Arc::new(Waiters::new(8)),
        overview: Arc::new(overview),
    };
    api.readiness.enter(Phase::Ready);
    Arc::new(api)
}

fn watched() -> ProjectId {
    ProjectId::parse(PROJECTS[0]).unwrap()
}

/// The revision of the watched project.
async fn revision(api: &Api) -> u64 {
    api.store.summary(&watched(), None).await.unwrap().revision
}

/// Sends a request at its start. Returns the response and its moment.
async fn send(api: Arc<Api>, router: Router, wait: Wait, begin: Instant) -> (Value, Duration) {
    sleep_until(begin + wait.start).await;
    let target = wait.target(revision(&api).await);
    let request = Request::get(target).header("Host", "localhost").header(X_AUTH_TOKEN, TOKEN);
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let moment = begin.elapsed();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    (serde_json::from_slice(&body).unwrap(), moment)
}

/// Makes the changes, each at its moment, then drains if asked. Returns the states of the watched project.
async fn change(api: &Api, steps: &[Step], drain: Option<Duration>, begin: Instant) -> Vec<State> {
    let mut states = vec![State { since: Duration::ZERO, sub_jobs: Vec::new(), revision: 0 }];
    let mut since = Duration::from_millis(10);
    for step in steps {
        if drain.is_some_and(|drain| drain < since) {
            break;
        }
        sleep_until(begin + since).await;
        let project = ProjectId::parse(PROJECTS[step.project]).unwrap();
        let mut state = State { since, ..states[states.len() - 1].clone() };
        let mut is_effective = false;
        for change in &step.changes {
            match change {
                Change::Report(batch) => {
                    api.store.submit(project.clone(), batch.clone()).outcome().await.unwrap();
                }
                Change::Reset => {
                    api.store.reset(project.clone()).outcome().await.unwrap();
                }
            }
            if step.project == 0 {
                is_effective |= apply(change, &mut state.sub_jobs);
            }
        }
        let before = std::mem::replace(&mut state.revision, revision(api).await);
        assert_eq!(state.revision > before, is_effective, "{step:?}");
        states.push(state);
        since += step.lasts;
    }
    if let Some(drain) = drain {
        sleep_until(begin + drain).await;
        api.store.end_watches();
    }
    states
}

async fn check(steps: Vec<Step>, waits: Vec<Wait>, drain: Option<Duration>) {
    let (api, begin) = (api(), Instant::now());
    let store = api.store.clone();
    let waker = tokio::spawn(async move { store.wake_watchers().await });
    let router = router(operations(), api.clone());
    let requests: Vec<_> =
        waits.iter().map(|wait| tokio::spawn(send(api.clone(), router.clone(), wait.clone(), begin))).collect();
    let states = change(&api, &steps, drain, begin).await;
    for (wait, request) in waits.iter().zip(requests) {
        let ((response, moment), (expected, earliest)) = (request.await.unwrap(), wait.expected(&states, drain));
        assert_eq!(response, expected, "{wait:?} {states:#?}");
        assert!((earliest..earliest + MAX_DELAY).contains(&moment), "{moment:?} {earliest:?} {wait:?} {states:#?}");
    }
    waker.abort();
}

proptest! {
    #[test]
    fn responses_of_waits_equal_those_of_the_model(
        steps in proptest::collection::vec(arbitrary_step(), 0..12),
        waits in proptest::collection::vec(arbitrary_wait(), 1..6),
        drain in proptest::option::weighted(0.3, 0..3000u64),
    ) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        // Apart from the moments of changes, which are multiples of 10 ms, and of the starts, 5 ms later.
        let drain = drain.map(|tens| Duration::from_millis(10 * tens + 7));
        runtime.block_on(check(steps, waits, drain));
    }
}
