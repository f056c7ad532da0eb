//! Workers' reports: `POST /v1/{project_id}/app-server-sub-jobs/actions/report`.
//!
//! The order of decisions is that of the public API. The inputs of a report are its media type and content coding (415), its size
//! (413) and its records (400), in this order.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::{HeaderMap, StatusCode};

use super::Internal;
use super::fair_queue::Turn;
use super::replay_cache::{Attempt, LookUp};
use super::report_limits::ReportLimits;
use super::store_quotas::QuotaPermit;
use crate::access::{Action, Principal};
use crate::api::{Api, check_is_loaded};
use crate::domain::{JobTypes, ProjectId, SubJob};
use crate::metrics::Metrics;
use crate::priority;
use crate::record;
use crate::store::{Deferred, Outcome, Submitted};
use crate::web::body::Payload;
use crate::web::budget::{HeldBytes, Owner};
use crate::web::call::UnauthorizedRequest;
use crate::web::coding::ContentCoding;
use crate::web::concurrency::Permit;
use crate::web::error::Error;
use crate::web::media_type;

/// The template of its path.
pub(super) const PATH: &str = "/v1/{project_id}/app-server-sub-jobs/actions/report";

/// What a worker needs permission for.
pub(super) const ACTION: Action = Action::ReportSubJobs;

/// The most bytes of one report, decoded if it is coded.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// The most bytes of one report that is coded, as it is sent: a coding makes what it cannot compress a little longer.
const MAX_CODED: usize = MAX_BODY + 1024 * 1024;

/// The most bytes of a report that is parsed without a turn and without another thread: some 50 records, in some 20 microseconds.
const MAX_SMALL: usize = 8 * 1024;

/// The most records that are submitted to the store within a turn. With more, the turn ends first.
const MAX_RECORDS_IN_TURN: usize = 1000;

/// The two formats of a report.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Ndjson,
}

impl Format {
    /// Calls `pause` now and then.
    fn parse(
        self,
        body: &[u8],
        project: &ProjectId,
        job_types: &JobTypes,
        pause: &mut dyn FnMut(),
    ) -> Result<Vec<SubJob>, Error> {
        let batch = match self {
            Self::Json => record::from_json_in_slices(body, project, job_types, pause),
            Self::Ndjson => record::from_ndjson_in_slices(body, project, job_types, pause),
        };
        batch.map_err(|refused| Error::input("body", refused.to_string()))
    }
}

/// Stores all of a report or nothing. Once the response is sent, every count includes it.
pub(super) async fn report(State(internal): State<Arc<Internal>>, request: Request) -> Result<Json<Outcome>, Error> {
    // Counted before the phase is checked, so that the shutdown waits for each report that passes the check.
    let _running = internal.reports.begin();
    let mut metric = ReportMetric { metrics: &internal.metrics, with: StatusCode::SERVICE_UNAVAILABLE };
    let outcome = ingest(&internal, request).await;
    metric.with = match &outcome {
        Ok(_) => StatusCode::OK,
        // The worker is not to blame: its connection was lost.
        Err(Error::IncompleteBody) => StatusCode::SERVICE_UNAVAILABLE,
        Err(error) => error.status(),
    };
    outcome.map(Json)
}

/// Counts the report when dropped: as failed if there is no response, as after a time-out.
struct ReportMetric<'a> {
    metrics: &'a Metrics,
    with: StatusCode,
}

impl Drop for ReportMetric<'_> {
    fn drop(&mut self) {
        self.metrics.count_report(self.with);
    }
}

async fn ingest(internal: &Internal, request: Request) -> Result<Outcome, Error> {
    let (api, report_limits) = (internal.api.clone(), internal.report_limits.clone());
    check_is_loaded(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let coding = ContentCoding::of(&parts.headers);
    let max = if matches!(coding, Ok(Some(_))) { MAX_CODED } else { MAX_BODY };
    let payload = Payload::buffered(body, max, HeldBytes::new(&report_limits.bytes));
    let access = api.access.load();
    let received =
        Box::new(UnauthorizedRequest { template: PATH, parts, payload, permit: Permit::unbounded(), access });
    let (call, principal, signature) = received.authorize_caller(ACTION).await?;
    let exists = call.project_exists();
    let format = format(call.headers());
    let (project, mut payload) = call.into_payload();
    payload.set_owner(|| Owner::Principal(principal.name().into()))?;
    let format = format?;
    let coding = coding?;
    payload.read_all().await?;
    let (body, held) = payload.into_bytes();
    let attempt = match signature {
        None => None,
        Some(signature) => match report_limits.replay_cache.look_up(signature).await {
            LookUp::Accepted(outcome) => return exists.map(|()| outcome),
            LookUp::New(attempt) => Some(attempt),
        },
    };
    let received = ReceivedReport { principal, project, exists, format, coding, body, held };
    let context = Context { api, report_limits };
    if received.is_small() {
        let submitted = received.submit_at_once(&context)?;
        return match (submitted, attempt) {
            // If the connection is lost, the store makes the change nevertheless.
            (Submission { step: Step::Submitted(_, submitted), .. }, None) => Ok(submitted.outcome().await?),
            (submission, attempt) => run_to_the_end(submission.outcome(context), attempt).await,
        };
    }
    let turn = context.report_limits.turns.acquire(received.principal.name()).await;
    let outcome = async move { received.submit_in_turn(turn, &context).await?.outcome(context).await };
    run_to_the_end(outcome, attempt).await
}

/// Runs in a task of its own: the bytes are held until the report is stored, even if the connection is lost.
async fn run_to_the_end(
    outcome: impl Future<Output = Result<Outcome, Error>> + Send + 'static,
    attempt: Option<Attempt>,
) -> Result<Outcome, Error> {
    let task = tokio::spawn(async move {
        let outcome = outcome.await?;
        if let Some(attempt) = attempt {
            attempt.succeed(outcome);
        }
        Ok(outcome)
    });
    task.await.map_err(fault)?
}

/// What all reports share.
#[derive(Clone)]
struct Context {
    api: Arc<Api>,
    report_limits: Arc<ReportLimits>,
}

/// A report whose body is complete.
struct ReceivedReport {
    principal: Arc<Principal>,
    project: ProjectId,
    exists: Result<(), Error>,
    format: Format,
    coding: Option<ContentCoding>,
    body: Vec<u8>,
    held: Option<HeldBytes>,
}

impl ReceivedReport {
    /// Whether parsing it takes less time than the change to another thread.
    fn is_small(&self) -> bool {
        self.coding.is_none() && self.body.len() <= MAX_SMALL
    }

    /// Parses the records and submits them to the store, without blocking.
    fn submit_at_once(self, context: &Context) -> Result<Submission, Error> {
        let Self { principal, project, exists, format, coding: _, body, held } = self;
        let (api, store_quotas) = (&context.api, &context.report_limits.store_quotas);
        let batch = format.parse(&body, &project, &api.job_types, &mut || ())?;
        exists?;
        let step = match store_quotas.try_acquire(principal.name(), batch.len()) {
            Some(permit) => match api.store.try_submit(project, batch) {
                Ok(submitted) => Step::Submitted(permit, submitted),
                Err(deferred) => Step::Deferred(permit, deferred),
            },
            None => Step::Waits(project, batch),
        };
        Ok(Submission { step, principal, _held: held })
    }

    /// Parses the records and submits them to the store when the principal's quota allows it, on a thread that may block.
    async fn submit_in_turn(self, mut turn: Turn, context: &Context) -> Result<Submission, Error> {
        let Self { principal, project, exists, format, coding, body, held } = self;
        let Context { api, report_limits } = context.clone();
        let parse_and_submit = move || {
            priority::lower();
            let mut pause = || turn.yield_to_others();
            // The bytes that were sent are held until they are decoded, the decoded ones until they are stored.
            let (body, held) = match coding {
                None => (body, held),
                Some(coding) => {
                    let owner = Owner::Principal(principal.name().into());
                    let mut held_decoded = HeldBytes::of(&report_limits.bytes, owner);
                    let decoded = coding.decode(&body, MAX_BODY, &mut held_decoded, &mut pause)?;
                    drop((body, held));
                    (decoded, Some(held_decoded))
                }
            };
            let batch = format.parse(&body, &project, &api.job_types, &mut pause);
            drop(body);
            let batch = batch?;
            exists?;
            if batch.len() > MAX_RECORDS_IN_TURN {
                drop(turn);
            }
            let step = match report_limits.store_quotas.try_acquire(principal.name(), batch.len()) {
                Some(permit) => Step::Submitted(permit, api.store.submit(project, batch)),
                None => Step::Waits(project, batch),
            };
            Ok(Submission { step, principal, _held: held })
        };
        tokio::task::spawn_blocking(parse_and_submit).await.map_err(fault)?
    }
}

/// A report whose records have been parsed.
struct Submission {
    step: Step,
    principal: Arc<Principal>,
    _held: Option<HeldBytes>,
}

/// How far a submission has come.
enum Step {
    Submitted(QuotaPermit, Submitted),
    /// The store cannot accept it without blocking.
    Deferred(QuotaPermit, Deferred),
    /// The principal's other reports have used up its quota.
    Waits(ProjectId, Vec<SubJob>),
}

impl Submission {
    /// Submits it if that is still to be done, on a thread that may block. Then waits for the outcome without a thread.
    async fn outcome(self, Context { api, report_limits }: Context) -> Result<Outcome, Error> {
        let Self { step, principal, _held } = self;
        let store = api.store.clone();
        let (_permit, submitted) = match step {
            Step::Submitted(permit, submitted) => (permit, submitted),
            Step::Deferred(permit, deferred) => {
                (permit, on_a_blocking_thread(move || store.submit_deferred(deferred)).await?)
            }
            Step::Waits(project, batch) => {
                let permit = report_limits.store_quotas.acquire(principal.name(), batch.len()).await;
                (permit, on_a_blocking_thread(move || store.submit(project, batch)).await?)
            }
        };
        Ok(submitted.outcome().await?)
    }
}

async fn on_a_blocking_thread(submit: impl FnOnce() -> Submitted + Send + 'static) -> Result<Submitted, Error> {
    let submit = || {
        priority::lower();
        submit()
    };
    tokio::task::spawn_blocking(submit).await.map_err(fault)
}

fn fault(error: impl ToString) -> Error {
    Error::Internal(error.to_string())
}

fn format(headers: &HeaderMap) -> Result<Format, Error> {
    if media_type::is(headers, "application/json") {
        Ok(Format::Json)
    } else if media_type::is(headers, "application/x-ndjson") {
        Ok(Format::Ndjson)
    } else {
        Err(Error::MediaType("application/json or application/x-ndjson"))
    }
}
