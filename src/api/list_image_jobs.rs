//! ListImageJobs: `GET /v1/{project_id}/image-server-jobs`.

use std::sync::Arc;

use axum::response::Response;
use serde::Serialize;

use super::job::JobSummary;
use super::json::json;
use super::{Api, query};
use crate::domain::{MAX_COUNT, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// The most subtasks of a job whose times are shown in a list: a page has 100 jobs.
const MOST_TIMED: u64 = 100;

/// The image jobs that match, in the order of their first subtasks, a page at a time; and how many match in all.
#[derive(Serialize)]
struct JobList<'a> {
    count: u64,
    items: Vec<JobSummary<'a>>,
}

/// A page of the project's jobs of image subtasks.
pub(super) async fn list_image_jobs(api: Arc<Api>, call: Call<ProjectId>) -> Result<Response, Error> {
    let call = call.with_input(|call| query::list_image_jobs(call.query(), &api.job_types))?;
    let (mut call, query::JobListQuery { filter, offset, limit }) = call.in_existing_project()?;
    call.ignore_body().await?;
    let page = api.store.image_jobs(&call.project, filter, offset.into(), limit as usize, MOST_TIMED).await?;
    let items = page.jobs.iter().map(|job| {
        JobSummary::new(
            &job.id,
            api.job_types.name(job.job_type),
            &job.counts,
            job.times.of_job(job.counts.job_status()),
        )
    });
    json(&JobList { count: page.total.min(MAX_COUNT), items: items.collect() })
}
