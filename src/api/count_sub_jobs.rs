//! CountSubJobs: `GET /v1/{project_id}/app-server-sub-jobs/actions/count`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;

use super::{Api, query};
use crate::access::Action;
use crate::web::admit::{admit, project_exists};
use crate::web::body::Payload;
use crate::web::error::Error;

/// The published maximum of `count`.
const MAX_COUNT: u64 = i32::MAX as u64;

#[derive(Serialize)]
pub(super) struct Count {
    count: u64,
}

/// How many subtasks of the project match. A larger number than the published maximum is reported as that.
pub(super) async fn count_sub_jobs(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Count>, Error> {
    let _place = api.room.enter(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let mut payload = Payload::ignored(body);
    let access = api.access.load();
    let project = admit(&access, &parts, &mut payload, Action::CountSubJobs).await?;
    let filter = query::parse(parts.uri.query(), &api.job_types)?;
    project_exists(&access, &project)?;
    payload.ignore().await;
    let count = api.store.count(&project, &filter)?;
    Ok(Json(Count { count: count.min(MAX_COUNT) }))
}
