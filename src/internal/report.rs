//! Workers' reports: `POST /v1/{project_id}/app-server-sub-jobs/actions/report`.
//!
//! Decided in the order of the public API; what a report adds to the inputs is its media type and coding (415), its size (413) and its
//! records (400).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use super::Internal;
use crate::access::Action;
use crate::api::loaded;
use crate::metrics::Metrics;
use crate::priority;
use crate::record;
use crate::store::Outcome;
use crate::web::admit::{admit, project_exists};
use crate::web::body::Payload;
use crate::web::error::Error;
use crate::web::room::Place;

/// The most bytes of one report.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// The most bytes of all reports held at once.
const MAX_HELD: usize = 256 * 1024 * 1024;

/// How much of reports may be held and worked on.
#[derive(Debug)]
pub struct Intake {
    /// A permit a byte.
    bytes: Arc<Semaphore>,
    /// A permit for each report that a thread may work on: more threads than cores would only get in each other's way.
    turns: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { bytes: Arc::new(Semaphore::new(MAX_HELD)), turns: Arc::new(Semaphore::new(cores)) }
    }
}

/// The two forms of a report.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Ndjson,
}

/// Takes a report whole or not at all; once this is answered, every count sees it.
pub(super) async fn report(State(internal): State<Arc<Internal>>, request: Request) -> Result<Json<Outcome>, Error> {
    let mut answered = Answered { metrics: &internal.metrics, with: StatusCode::SERVICE_UNAVAILABLE };
    let outcome = take(&internal, request).await;
    answered.with = outcome.as_ref().map_or_else(Error::status, |_| StatusCode::OK);
    outcome.map(Json)
}

/// Counts the report when dropped: as failed if no answer was reached, as when it times out.
struct Answered<'a> {
    metrics: &'a Metrics,
    with: StatusCode,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.metrics.reported(self.with);
    }
}

async fn take(internal: &Internal, request: Request) -> Result<Outcome, Error> {
    let api = internal.api.clone();
    loaded(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let mut payload = Payload::kept(body, MAX_BODY, internal.intake.bytes.clone());
    let (project, exists) = {
        let access = api.access.load();
        let project = admit(&access, &parts, &mut payload, &mut Place::unbounded(), Action::ReportSubJobs).await?;
        let exists = project_exists(&access, &project);
        (project, exists)
    };
    let form = form(&parts.headers)?;
    is_not_coded(&parts.headers)?;
    payload.whole().await?;
    // The semaphore is never closed.
    let turn = internal.intake.turns.clone().acquire_owned().await.map_err(fault)?;
    let read = tokio::task::spawn_blocking(move || {
        priority::lower();
        let batch = match form {
            Form::Json => record::from_json(payload.read(), &project, &api.job_types),
            Form::Ndjson => record::from_ndjson(payload.read(), &project, &api.job_types),
        };
        let batch = batch.map_err(|refused| Error::input("body", refused.to_string()))?;
        let permits = payload.into_permits();
        exists?;
        let submitted = api.store.submit(project, batch);
        drop(turn);
        Ok::<_, Error>((submitted, permits))
    });
    let (submitted, permits) = read.await.map_err(fault)??;
    // A task of its own, since what is held of a report is held until it is stored, whether the caller waits for it or not.
    let stored = tokio::spawn(async move {
        let outcome = submitted.outcome().await;
        drop(permits);
        outcome
    });
    Ok(stored.await.map_err(fault)??)
}

fn fault(error: impl ToString) -> Error {
    Error::Fault(error.to_string())
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

/// Whether the body is as it was before it was sent: only then can it be read here.
fn is_not_coded(headers: &HeaderMap) -> Result<(), Error> {
    let codings = headers.get_all(CONTENT_ENCODING).iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    // A list may have empty elements (RFC 9110, section 5.6.1).
    let is_identity = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    if codings.map(<[u8]>::trim_ascii).all(is_identity) { Ok(()) } else { Err(Error::ContentCoding) }
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
