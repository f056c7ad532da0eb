//! ListImageSubJobs: `GET /v1/{project_id}/image-server-sub-jobs`.

use std::sync::Arc;

use axum::response::Response;

use super::Api;
use super::list_sub_jobs::list;
use crate::domain::{Family, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// A page of the project's image subtasks.
pub(super) fn list_image_sub_jobs(
    api: Arc<Api>,
    call: Call<ProjectId>,
) -> impl Future<Output = Result<Response, Error>> {
    list(api, call, Family::Image)
}
