//! CountImageSubJobs: `GET /v1/{project_id}/image-server-sub-jobs/actions/count`.

use std::sync::Arc;

use axum::response::IntoResponse;

use super::Api;
use super::count_sub_jobs::count;
use crate::domain::{Family, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// How many of the project's image subtasks match.
pub(super) fn count_image_sub_jobs(
    api: Arc<Api>,
    call: Call<ProjectId>,
) -> impl Future<Output = Result<impl IntoResponse, Error>> {
    count(api, call, Family::Image)
}
