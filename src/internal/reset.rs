//! ResetSubJobs, an operation of our own for tests: `POST /subjobs/v1/{project_id}/reset` deletes all subtasks of a project.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};

use super::Internal;
use crate::access::Action;
use crate::api::check_is_loaded;
use crate::priority;
use crate::web::body::Payload;
use crate::web::call::UnauthorizedRequest;
use crate::web::concurrency::Permit;
use crate::web::error::Error;

/// The template of its path.
pub(super) const PATH: &str = "/subjobs/v1/{project_id}/reset";

/// What its caller needs permission for.
pub(super) const ACTION: Action = Action::ResetSubJobs;

/// The answer.
#[derive(Debug, serde::Serialize)]
pub(super) struct Reset {
    pub(super) deleted: u64,
}

/// Deletes all subtasks of the project in one step, of both families and in any status.
pub(super) async fn reset(State(internal): State<Arc<Internal>>, request: Request) -> Result<Json<Reset>, Error> {
    // Before the look at whether changes are still made, so that the drain waits for each that is.
    let _running = internal.reports.begin();
    let api = internal.api.clone();
    check_is_loaded(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let (payload, permit, access) = (Payload::ignored(body), Permit::uncounted(), api.access.load());
    let received = Box::new(UnauthorizedRequest { template: PATH, parts, payload, permit, access });
    let call = received.authorize(ACTION).await?.with_input(|_| Ok(()))?;
    let (mut call, ()) = call.in_existing_project()?;
    call.ignore_body().await?;
    let (store, project) = (api.store.clone(), call.project.clone());
    let submit = tokio::task::spawn_blocking(move || {
        priority::lower();
        store.reset(project)
    });
    let submitted = submit.await.map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Json(Reset { deleted: submitted.outcome().await? }))
}
