//! BatchDeleteAppSubJobs: `POST /v1/{project_id}/app-server-sub-jobs/actions/batch-delete`.

use std::sync::Arc;

use http::StatusCode;

use super::{Api, sub_job_ids};
use crate::domain::{Family, JobTypeSet, ProjectId};
use crate::store::NotDeletable;
use crate::web::call::Call;
use crate::web::error::Error;
use crate::web::media_type;

/// Deletes app subtasks of the project, all that are named or none.
pub(super) async fn batch_delete_app_sub_jobs(api: Arc<Api>, call: Call<ProjectId>) -> Result<StatusCode, Error> {
    batch_delete(api, call, Family::App).await
}

/// Deletes subtasks of a family. Those that the project does not have, or that are of the other family, are passed over.
pub(super) async fn batch_delete(
    api: Arc<Api>,
    mut call: Call<ProjectId>,
    family: Family,
) -> Result<StatusCode, Error> {
    if !media_type::is(call.headers(), "application/json") {
        return Err(Error::MediaType("application/json"));
    }
    let ids = sub_job_ids::parse(call.read_body().await?)?;
    call.project_exists()?;
    let (store, project) = (api.store.clone(), call.project.clone());
    // A thread that may be held up, since the store's queue may be full.
    let submit = tokio::task::spawn_blocking(move || store.delete(project, ids, JobTypeSet::of_family(family)));
    let deleted = submit.await.map_err(|error| Error::Internal(error.to_string()))?;
    match deleted.outcome().await? {
        Ok(_) => Ok(StatusCode::OK),
        Err(NotDeletable { position, status }) => {
            let position = position + 1;
            Err(Error::input("item", format!("{position} is in {status}: only SUCCESS and FAILED can be deleted")))
        }
    }
}
