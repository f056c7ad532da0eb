//! Workers' reports: `POST /v1/{project_id}/app-server-sub-jobs/actions/report`.
//!
//! Decided in the order of the public API; what a report adds to the inputs is its media type (415), its size (413) and its
//! records (400).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Internal;
use crate::access::Action;
use crate::api::loaded;
use crate::metrics::Metrics;
use crate::record;
use crate::store::Outcome;
use crate::web::admit::{admit, project_exists};
use crate::web::error::{Error, Unavailable};

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
    turns: Semaphore,
}

impl Default for Intake {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { bytes: Arc::new(Semaphore::new(MAX_HELD)), turns: Semaphore::new(cores) }
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
    let (project, exists) = {
        let access = api.access.load();
        let project = admit(&access, &parts, Action::ReportSubJobs)?;
        let exists = project_exists(&access, &project);
        (project, exists)
    };
    let form = form(&parts.headers)?;
    let body = Held::read(body, &internal.intake.bytes).await?;
    // The semaphore is never closed.
    let _turn = internal.intake.turns.acquire().await.map_err(|error| Error::Fault(error.to_string()))?;
    let work = tokio::task::spawn_blocking(move || {
        let batch = match form {
            Form::Json => record::from_json(&body.bytes, &project, &api.job_types),
            Form::Ndjson => record::from_ndjson(&body.bytes, &project, &api.job_types),
        };
        let batch = batch.map_err(|refused| Error::input("body", refused.to_string()))?;
        drop(body);
        exists?;
        Ok(api.store.report(&project, batch)?)
    });
    work.await.unwrap_or_else(|panic| Err(Error::Fault(panic.to_string())))
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

/// A body in memory, with the permits for its bytes.
struct Held {
    bytes: Vec<u8>,
    _permits: Option<OwnedSemaphorePermit>,
}

impl Held {
    async fn read(mut body: Body, budget: &Arc<Semaphore>) -> Result<Self, Error> {
        let announced = body.size_hint().exact().unwrap_or(0);
        if announced > MAX_BODY as u64 {
            return Err(Error::TooLarge(MAX_BODY));
        }
        // What was announced is not held until it comes: untouched capacity takes no memory.
        let mut bytes = Vec::with_capacity(announced as usize);
        let mut permits: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::input("body", format!("cannot be read: {error}")))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > MAX_BODY {
                return Err(Error::TooLarge(MAX_BODY));
            }
            // At most `MAX_BODY`, as just checked, so it fits.
            let more =
                budget.clone().try_acquire_many_owned(data.len() as u32).map_err(|_| Unavailable::ReportsHeld)?;
            match &mut permits {
                Some(permits) => permits.merge(more),
                None => permits = Some(more),
            }
            bytes.extend_from_slice(data);
        }
        Ok(Self { bytes, _permits: permits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(size: usize, budget: &Arc<Semaphore>) -> Result<Held, Error> {
        Held::read(Body::from(vec![b'x'; size]), budget).await
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_and_given_back() {
        let budget = Arc::new(Semaphore::new(100));
        let first = read(60, &budget).await.unwrap();
        assert_eq!(budget.available_permits(), 40);
        assert!(matches!(read(41, &budget).await, Err(Error::Unavailable(Unavailable::ReportsHeld))));
        assert_eq!(read(40, &budget).await.unwrap().bytes.len(), 40);
        drop(first);
        assert_eq!(budget.available_permits(), 100);
        assert!(read(0, &budget).await.unwrap().bytes.is_empty());
    }

    #[tokio::test]
    async fn a_body_may_have_16_mib() {
        let budget = Arc::new(Semaphore::new(MAX_HELD));
        assert!(read(MAX_BODY, &budget).await.is_ok());
        assert!(matches!(read(MAX_BODY + 1, &budget).await, Err(Error::TooLarge(MAX_BODY))));
        let chunks = (0..17).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024 * 1024]));
        let unannounced = Body::from_stream(futures_util::stream::iter(chunks));
        assert!(matches!(Held::read(unannounced, &budget).await, Err(Error::TooLarge(_))));
        assert_eq!(budget.available_permits(), MAX_HELD);
    }

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
