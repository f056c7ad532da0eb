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
use super::replay_cache::LookUp;
use super::report_limits::ReportLimits;
use super::store_quotas::QuotaPermit;
use crate::access::{Action, Principal};
use crate::api::{Api, check_is_loaded};
use crate::domain::{ProjectId, SubJob};
use crate::metrics::Metrics;
use crate::priority;
use crate::record;
use crate::store::{Outcome, Submitted};
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

/// The most records that are submitted to the store within a turn. With more, the turn ends first.
const MAX_RECORDS_IN_TURN: usize = 1000;

/// The two formats of a report.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Ndjson,
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
    let call = received.authorize(ACTION).await?;
    let exists = call.project_exists();
    let format = format(call.headers());
    let (caller, project, mut payload) = call.into_payload();
    payload.set_owner(|| Owner::Principal(caller.principal.name().into()))?;
    let format = format?;
    let coding = coding?;
    payload.read_all().await?;
    let (body, held) = payload.into_bytes();
    let attempt = match caller.signature {
        None => None,
        Some(signature) => match report_limits.replay_cache.look_up(signature).await {
            LookUp::Accepted(outcome) => return exists.map(|()| outcome),
            LookUp::New(attempt) => Some(attempt),
        },
    };
    let turn = report_limits.turns.acquire(caller.principal.name()).await;
    let received_report =
        ReceivedReport { api, report_limits, principal: caller.principal, project, exists, format, coding, body, held };
    // A task of its own: the bytes are held until the report is stored, even if the connection is lost.
    let taken = tokio::spawn(async move {
        let outcome = received_report.run(turn).await?;
        if let Some(attempt) = attempt {
            attempt.succeed(outcome);
        }
        Ok(outcome)
    });
    taken.await.map_err(fault)?
}

/// A report whose body is complete.
struct ReceivedReport {
    api: Arc<Api>,
    report_limits: Arc<ReportLimits>,
    principal: Arc<Principal>,
    project: ProjectId,
    exists: Result<(), Error>,
    format: Format,
    coding: Option<ContentCoding>,
    body: Vec<u8>,
    held: Option<HeldBytes>,
}

impl ReceivedReport {
    /// Parses the records and submits them to the store when the principal's quota allows it, on threads that may block. Then waits
    /// for the outcome without a thread.
    async fn run(self, mut turn: Turn) -> Result<Outcome, Error> {
        let Self { api, report_limits, principal, project, exists, format, coding, body, held } = self;
        let (store, store_quotas, name) = (api.store.clone(), report_limits.store_quotas.clone(), principal.clone());
        let bytes = report_limits.bytes.clone();
        let read = tokio::task::spawn_blocking(move || {
            priority::lower();
            let mut pause = || turn.yield_to_others();
            // The bytes that were sent are held until they are decoded, the decoded ones until they are stored.
            let (body, held) = match coding {
                None => (body, held),
                Some(coding) => {
                    let mut held_decoded = HeldBytes::of(&bytes, Owner::Principal(name.name().into()));
                    let decoded = coding.decode(&body, MAX_BODY, &mut held_decoded, &mut pause)?;
                    drop((body, held));
                    (decoded, Some(held_decoded))
                }
            };
            let batch = match format {
                Format::Json => record::from_json_in_slices(&body, &project, &api.job_types, &mut pause),
                Format::Ndjson => record::from_ndjson_in_slices(&body, &project, &api.job_types, &mut pause),
            };
            drop(body);
            let batch = batch.map_err(|refused| Error::input("body", refused.to_string()))?;
            exists?;
            if batch.len() > MAX_RECORDS_IN_TURN {
                drop(turn);
            }
            let read = match store_quotas.try_acquire(name.name(), batch.len()) {
                Some(permit) => ParsedReport::Submitted(permit, api.store.submit(project, batch)),
                None => ParsedReport::Waits(project, batch),
            };
            Ok::<_, Error>((read, held))
        });
        let (read, _held) = read.await.map_err(fault)??;
        let (permit, submitted) = match read {
            ParsedReport::Submitted(permit, submitted) => (permit, submitted),
            ParsedReport::Waits(project, batch) => {
                let permit = report_limits.store_quotas.acquire(principal.name(), batch.len()).await;
                let submit = tokio::task::spawn_blocking(move || {
                    priority::lower();
                    store.submit(project, batch)
                });
                (permit, submit.await.map_err(fault)?)
            }
        };
        let outcome = submitted.outcome().await;
        drop(permit);
        Ok(outcome?)
    }
}

/// A report whose records have been parsed.
enum ParsedReport {
    Submitted(QuotaPermit, Submitted),
    /// The principal's other reports have used up its quota.
    Waits(ProjectId, Vec<SubJob>),
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
