//! BatchDeleteImageSubJobs: `PATCH /v1/{project_id}/image-server-sub-jobs/actions/batch-delete`.

use std::sync::Arc;

use http::StatusCode;

use super::Api;
use super::batch_delete_app_sub_jobs::batch_delete;
use crate::domain::{Family, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// Deletes image subtasks of the project, all that are named or none.
pub(super) async fn batch_delete_image_sub_jobs(api: Arc<Api>, call: Call<ProjectId>) -> Result<StatusCode, Error> {
    batch_delete(api, call, Family::Image).await
}
