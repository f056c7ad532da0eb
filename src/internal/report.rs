//! Workers' reports: `POST /v1/{project_id}/app-server-sub-jobs/actions/report`.
//!
//! Decided in the order of the public API; what a report adds to the inputs is its media type and coding (415), its size (413) and its
//! records (400).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::Internal;
use super::intake::Intake;
use super::replays::Known;
use super::shares::Share;
use super::turns::Turn;
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

/// The template of its path.
pub(super) const PATH: &str = "/v1/{project_id}/app-server-sub-jobs/actions/report";

/// What a worker needs permission for.
pub(super) const ACTION: Action = Action::ReportSubJobs;

/// The most bytes of one report, decoded if it is coded.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// The most bytes of one report that is coded, as it is sent: a coding makes what it cannot compress a little longer.
const MAX_CODED: usize = MAX_BODY + 1024 * 1024;

/// The most records that are handed over to the store within a turn; with more, others' turns come before.
const MAX_IN_TURN: usize = 1000;

/// The two forms of a report.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Ndjson,
}

/// Takes a report whole or not at all; once this is answered, every count sees it.
pub(super) async fn report(State(internal): State<Arc<Internal>>, request: Request) -> Result<Json<Outcome>, Error> {
    // Before the look at whether reports are still taken, so that the end waits for each that is.
    let _running = internal.reports.begin();
    let mut answered = Answered { metrics: &internal.metrics, with: StatusCode::SERVICE_UNAVAILABLE };
    let outcome = take(&internal, request).await;
    answered.with = match &outcome {
        Ok(_) => StatusCode::OK,
        // The worker is not to blame: its connection was lost.
        Err(Error::IncompleteBody) => StatusCode::SERVICE_UNAVAILABLE,
        Err(error) => error.status(),
    };
    outcome.map(Json)
}

/// Counts the report when dropped: as failed if no answer was reached, as when it times out.
struct Answered<'a> {
    metrics: &'a Metrics,
    with: StatusCode,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.metrics.count_report(self.with);
    }
}

async fn take(internal: &Internal, request: Request) -> Result<Outcome, Error> {
    let (api, intake) = (internal.api.clone(), internal.intake.clone());
    check_is_loaded(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let coding = ContentCoding::of(&parts.headers);
    let max = if matches!(coding, Ok(Some(_))) { MAX_CODED } else { MAX_BODY };
    let payload = Payload::kept(body, max, HeldBytes::new(&intake.bytes));
    let access = api.access.load();
    let received =
        Box::new(UnauthorizedRequest { template: PATH, parts, payload, permit: Permit::unbounded(), access });
    let call = received.authorize(ACTION).await?;
    let exists = call.project_exists();
    let form = form(call.headers());
    let (caller, project, mut payload) = call.into_payload();
    payload.give_to(|| Owner::Principal(caller.principal.name().into()))?;
    let form = form?;
    let coding = coding?;
    payload.whole().await?;
    let (body, held) = payload.into_held();
    let attempt = match caller.signature {
        None => None,
        Some(signature) => match intake.replays.look_up(signature).await {
            Known::Taken(outcome) => return exists.map(|()| outcome),
            Known::New(attempt) => Some(attempt),
        },
    };
    let turn = intake.turns.acquire(caller.principal.name()).await;
    let work = Work { api, intake, principal: caller.principal, project, exists, form, coding, body, held };
    // A task of its own, since what is held of a report is held until it is stored, whether the caller waits for it or not.
    let taken = tokio::spawn(async move {
        let outcome = work.run(turn).await?;
        if let Some(attempt) = attempt {
            attempt.succeed(outcome);
        }
        Ok(outcome)
    });
    taken.await.map_err(fault)?
}

/// A report whose body is there.
struct Work {
    api: Arc<Api>,
    intake: Arc<Intake>,
    principal: Arc<Principal>,
    project: ProjectId,
    exists: Result<(), Error>,
    form: Form,
    coding: Option<ContentCoding>,
    body: Vec<u8>,
    held: Option<HeldBytes>,
}

impl Work {
    /// Reads the records and hands them over to the store, when the principal's share of it is free, on threads that may be
    /// held up; then waits without one.
    async fn run(self, mut turn: Turn) -> Result<Outcome, Error> {
        let Self { api, intake, principal, project, exists, form, coding, body, held } = self;
        let (store, shares, name) = (api.store.clone(), intake.shares.clone(), principal.clone());
        let bytes = intake.bytes.clone();
        let read = tokio::task::spawn_blocking(move || {
            priority::lower();
            let mut pause = || turn.yield_to_others();
            // What is sent is held until it is decoded, what is decoded until it is stored.
            let (body, held) = match coding {
                None => (body, held),
                Some(coding) => {
                    let mut held = HeldBytes::of(&bytes, Owner::Principal(name.name().into()));
                    (coding.decode(&body, MAX_BODY, &mut held, &mut pause)?, Some(held))
                }
            };
            let batch = match form {
                Form::Json => record::from_json_in_slices(&body, &project, &api.job_types, &mut pause),
                Form::Ndjson => record::from_ndjson_in_slices(&body, &project, &api.job_types, &mut pause),
            };
            drop(body);
            let batch = batch.map_err(|refused| Error::input("body", refused.to_string()))?;
            exists?;
            if batch.len() > MAX_IN_TURN {
                drop(turn);
            }
            let read = match shares.try_take(name.name(), batch.len()) {
                Some(share) => Read::Submitted(share, api.store.submit(project, batch)),
                None => Read::Waits(project, batch),
            };
            Ok::<_, Error>((read, held))
        });
        let (read, _held) = read.await.map_err(fault)??;
        let (share, submitted) = match read {
            Read::Submitted(share, submitted) => (share, submitted),
            Read::Waits(project, batch) => {
                let share = intake.shares.take(principal.name(), batch.len()).await;
                let submit = tokio::task::spawn_blocking(move || {
                    priority::lower();
                    store.submit(project, batch)
                });
                (share, submit.await.map_err(fault)?)
            }
        };
        let outcome = submitted.outcome().await;
        drop(share);
        Ok(outcome?)
    }
}

/// A report whose records have been read.
enum Read {
    Submitted(Share, Submitted),
    /// What the principal's other reports take of its share is too much.
    Waits(ProjectId, Vec<SubJob>),
}

fn fault(error: impl ToString) -> Error {
    Error::Internal(error.to_string())
}

fn form(headers: &HeaderMap) -> Result<Form, Error> {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return Err(Error::MediaType) };
    let essence = only.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(Form::Json)
    } else if essence.eq_ignore_ascii_case("application/x-ndjson") {
        Ok(Form::Ndjson)
    } else {
        Err(Error::MediaType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let form = |values: &[&str]| {
            form(&values.iter().map(|value| (CONTENT_TYPE, value.parse().unwrap())).collect()).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/x-ndjson ;a=b"] {
            assert!(form(&[good]), "{good}");
        }
        for bad in [&[][..], &[""], &["text/plain"], &["application/jsonx"], &["application/json", "application/json"]]
        {
            assert!(!form(bad), "{bad:?}");
        }
    }
}
