//! ShowJobDetail: `GET /v2/{project_id}/job/{job_id}`.

use std::sync::Arc;

use axum::response::Response;

use super::Api;
use super::job::{JobDetail, find, respond};
use super::json::json;
use crate::domain::{Family, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// A job of app subtasks, with its first subtasks.
pub(super) async fn show_job_detail(api: Arc<Api>, call: Call<ProjectId>) -> Result<Response, Error> {
    show(api, call, Family::App).await
}

/// A job of a family's subtasks, with its first subtasks.
pub(super) async fn show(api: Arc<Api>, call: Call<ProjectId>, family: Family) -> Result<Response, Error> {
    let found = find(&api, call, family).await?;
    respond(found, move |found| json(&JobDetail::new(found, &api.job_types))).await
}
