//! ListSubJobs: `GET /v1/{project_id}/app-server-sub-jobs`.

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;

use super::json::json;
use super::sub_job_info::SubJobInfo;
use super::{Api, query};
use crate::domain::{Family, MAX_COUNT, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// The subtasks that match, in the order of their first reports, a page at a time; and how many match in all.
#[derive(Serialize)]
struct SubJobList<'a> {
    count: u64,
    items: Vec<SubJobInfo<'a>>,
}

/// A page of the project's app subtasks.
pub(super) fn list_sub_jobs(api: Arc<Api>, call: Call<ProjectId>) -> impl Future<Output = Result<Response, Error>> {
    list(api, call, Family::App)
}

/// A page of the project's subtasks of a family.
pub(super) async fn list(api: Arc<Api>, call: Call<ProjectId>, family: Family) -> Result<Response, Error> {
    let call = call.with_input(|call| query::list(call.query(), family, &api.job_types))?;
    let (mut call, query::ListQuery { filter, offset, limit }) = call.in_existing_project()?;
    call.ignore_body().await?;
    let page = api.store.page(&call.project, &filter, offset.into(), limit as usize).await?;
    let (project, job_types) = (&call.project, &*api.job_types);
    let items = page.sub_jobs.iter().map(|sub_job| SubJobInfo { project, sub_job, job_types }).collect();
    json(&SubJobList { count: page.total.min(MAX_COUNT), items })
}
