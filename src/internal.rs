//! The internal listener, for operators and workers. The public gateway must not forward to it.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 when loaded and serving, else 503 |
//! | `GET /metrics` | Prometheus text format |
//! | `GET /`, `/page/{file}`, `/overview`, `/overview/events` | the page, see [`crate::page`] |
//! | `GET /openapi.json` | every operation as OpenAPI 3.1, with the job types of this server |
//! | `POST /v1/{project_id}/app-server-sub-jobs/actions/report` | takes workers' reports |
//! | `GET /subjobs/v1/{project_id}/summary` | GetSummary, as on the public listener |
//! | `GET /subjobs/v1/{project_id}/events` | the summary of a project, now and after changes |
//! | `POST /subjobs/v1/{project_id}/reset` | deletes all subtasks of a project; with `--allow-reset` only |
//! | `POST /reset`; `/faults`; `/clock` | controls a test; with `--ephemeral` only |

mod events;
mod fair_queue;
mod health;
mod openapi;
mod replay_cache;
mod report;
mod report_limits;
mod reset;
mod running_reports;
mod store_quotas;
mod summary;
mod test_control;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use http::Method;

use crate::access::Action;
use crate::api::Api;
use crate::metrics::{InFlight, Listener, Metrics};
use crate::page;
use crate::web::error::{Error, Unavailable};
use crate::web::operation::Operation;
pub use report_limits::ReportLimits;
pub use running_reports::RunningReports;
pub use test_control::TestControl;

/// The id of the operation for workers' reports.
pub const REPORT: &str = "ReportSubJobs";

/// The state that the handlers share.
#[derive(Clone)]
pub struct Internal {
    /// The state of the public API, which reports change.
    pub api: Arc<Api>,
    /// The metrics that `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What bounds the reports that are being processed.
    pub report_limits: Arc<ReportLimits>,
    /// The reports that are being processed.
    pub reports: Arc<RunningReports>,
}

/// Which of the operations for tests there are.
#[derive(Debug, Clone)]
pub enum TestOperations {
    /// None of them.
    None,
    /// The reset of a project, for `--allow-reset`.
    ResetOfProject,
    /// All of them, for `--ephemeral`.
    All(Arc<TestControl>),
}

/// Every operation of the internal listener.
pub fn operations(tests: &TestOperations) -> Vec<Operation<Arc<Internal>>> {
    let mut operations = with_report(post(report::report), tests);
    operations.extend(page::operations(Listener::Internal, api));
    let counts = |id, path, handler| Operation::routed(id, Method::GET, path, Some(Action::CountSubJobs), handler);
    operations.push(counts("GetSummary", summary::PATH, get(summary::summary)));
    operations.push(counts("StreamSummary", events::PATH, get(events::events)));
    if !matches!(tests, TestOperations::None) {
        let reset = post(reset::reset);
        operations.push(Operation::routed("ResetSubJobs", Method::POST, reset::PATH, Some(reset::ACTION), reset));
    }
    if let TestOperations::All(control) = tests {
        operations.extend(test_control::operations(control));
    }
    operations
}

/// The operations on connections above `--max-connections`: reports are refused there. The document is that of [`operations`].
pub fn reserve_operations(tests: &TestOperations) -> Vec<Operation<Arc<Internal>>> {
    let mut operations = with_report(post(refuse_report), tests);
    operations.extend(page::reserve_operations(Listener::Internal, api));
    operations
}

/// The state of the public API.
fn api(internal: &Arc<Internal>) -> &Arc<Api> {
    &internal.api
}

fn with_report(report: MethodRouter<Arc<Internal>>, tests: &TestOperations) -> Vec<Operation<Arc<Internal>>> {
    let absent_tags = openapi::absent_tags(tests);
    let openapi = move |internal| openapi::openapi(internal, absent_tags);
    let without_credential = |id, path, handler| Operation::routed(id, Method::GET, path, None, handler);
    vec![
        without_credential("Healthz", "/healthz", get(health::healthz)),
        without_credential("Readyz", "/readyz", get(health::readyz)),
        without_credential("Metrics", "/metrics", get(metrics)).compressed(),
        without_credential("OpenApi", "/openapi.json", get(openapi)).compressed(),
        Operation::routed(REPORT, Method::POST, report::PATH, Some(report::ACTION), report),
    ]
}

async fn refuse_report(State(internal): State<Arc<Internal>>) -> Error {
    let refused = Error::from(Unavailable::Overloaded);
    internal.metrics.count_report(refused.status());
    refused
}

async fn metrics(State(internal): State<Arc<Internal>>) -> Result<impl IntoResponse, Error> {
    let api = &internal.api;
    let in_flight = InFlight {
        all: api.limit.in_flight(),
        awaiting_body: api.limit.waiting_for_bodies(),
        awaiting_identity: api.limit.waiting_for_identity(),
        awaiting_change: api.waiters.waiting(),
    };
    api.store.refresh_totals().await;
    let text = internal.metrics.render(&api.store, &api.job_types, health::is_ready(api), in_flight);
    let text = text.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}
