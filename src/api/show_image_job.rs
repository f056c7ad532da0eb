//! ShowImageJob: `GET /v1/{project_id}/image-server-jobs/{job_id}`.

use std::sync::Arc;

use axum::response::Response;

use super::Api;
use super::show_job_detail::show;
use crate::domain::{Family, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// A job of image subtasks, with its first subtasks.
pub(super) async fn show_image_job(api: Arc<Api>, call: Call<ProjectId>) -> Result<Response, Error> {
    show(api, call, Family::Image).await
}
