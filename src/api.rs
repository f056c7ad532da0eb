//! The public API: every operation in one table.

mod batch_delete_app_sub_jobs;
mod batch_delete_image_sub_jobs;
mod count_image_sub_jobs;
mod count_sub_jobs;
mod job;
mod json;
mod list_image_jobs;
mod list_image_sub_jobs;
mod list_projects;
mod list_sub_jobs;
pub mod query;
mod show_image_job;
mod show_job;
mod show_job_detail;
pub mod sub_job_ids;
mod sub_job_info;
pub mod summary;
mod wait;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::{Method, Uri};

use self::batch_delete_app_sub_jobs::batch_delete_app_sub_jobs;
use self::batch_delete_image_sub_jobs::batch_delete_image_sub_jobs;
use self::count_image_sub_jobs::count_image_sub_jobs;
use self::count_sub_jobs::count_sub_jobs;
use self::list_image_jobs::list_image_jobs;
use self::list_image_sub_jobs::list_image_sub_jobs;
use self::list_projects::list_projects;
use self::list_sub_jobs::list_sub_jobs;
use self::show_image_job::show_image_job;
use self::show_job::show_job;
use self::show_job_detail::show_job_detail;
use self::summary::get_summary;
use self::wait::wait_for_count;
use crate::access::{AccessHandle, Action, Principal};
use crate::domain::{JobTypes, ProjectId};
use crate::overview::Overview;
use crate::readiness::Readiness;
use crate::store::Store;
use crate::web::body::Payload;
use crate::web::call::{Call, UnauthorizedRequest};
pub use crate::web::concurrency::{ConcurrencyLimit, check_is_loaded};
use crate::web::error::{Error, Unavailable};
use crate::web::operation::Operation;
use crate::web::waiters::Waiters;

/// The most bytes of a request's body, of an operation that has one.
const MAX_BODY: usize = 64 * 1024;

/// The state that all public operations share.
#[derive(Clone)]
pub struct Api {
    /// The stored subtasks.
    pub store: Arc<Store>,
    /// Authentication and authorization.
    pub access: Arc<AccessHandle>,
    /// All known job types.
    pub job_types: Arc<JobTypes>,
    /// The phase of the server.
    pub readiness: Arc<Readiness>,
    /// The limit of requests that are processed at once.
    pub limit: Arc<ConcurrencyLimit>,
    /// The limit of requests that wait for changes.
    pub waiters: Arc<Waiters>,
    /// What the page shows.
    pub overview: Arc<Overview>,
}

/// Every operation of the public listener. Each checks in this order: path (404), method (405), limit (503), credential
/// (401), permission (403), inputs (400), project (404).
pub fn operations() -> Vec<Operation<Arc<Api>>> {
    vec![
        in_project(
            "CountSubJobs",
            Method::GET,
            "/v1/{project_id}/app-server-sub-jobs/actions/count",
            Action::CountSubJobs,
            count_sub_jobs,
        ),
        in_project(
            "ListSubJobs",
            Method::GET,
            "/v1/{project_id}/app-server-sub-jobs",
            Action::ListSubJobs,
            list_sub_jobs,
        )
        .compressed(),
        in_project(
            "CountImageSubJobs",
            Method::GET,
            "/v1/{project_id}/image-server-sub-jobs/actions/count",
            Action::CountImageSubJobs,
            count_image_sub_jobs,
        ),
        in_project(
            "ListImageSubJobs",
            Method::GET,
            "/v1/{project_id}/image-server-sub-jobs",
            Action::ListImageSubJobs,
            list_image_sub_jobs,
        )
        .compressed(),
        in_project_with_body(
            "BatchDeleteAppSubJobs",
            Method::POST,
            "/v1/{project_id}/app-server-sub-jobs/actions/batch-delete",
            Action::BatchDeleteSubJobs,
            batch_delete_app_sub_jobs,
        ),
        in_project_with_body(
            "BatchDeleteImageSubJobs",
            Method::PATCH,
            "/v1/{project_id}/image-server-sub-jobs/actions/batch-delete",
            Action::BatchDeleteImageSubJobs,
            batch_delete_image_sub_jobs,
        ),
        in_project_by_family("GetSummary", Method::GET, "/subjobs/v1/{project_id}/summary", get_summary),
        Operation {
            is_long_poll: true,
            ..in_project_by_family("WaitForCount", Method::GET, "/subjobs/v1/{project_id}/wait", wait_for_count)
        },
        in_project("ShowJobDetail", Method::GET, "/v2/{project_id}/job/{job_id}", Action::GetJob, show_job_detail)
            .compressed(),
        in_project("ShowJob", Method::GET, "/v1/{project_id}/job/{job_id}", Action::GetJob, show_job).compressed(),
        in_project(
            "ShowImageJob",
            Method::GET,
            "/v1/{project_id}/image-server-jobs/{job_id}",
            Action::GetImageJob,
            show_image_job,
        )
        .compressed(),
        in_project(
            "ListImageJobs",
            Method::GET,
            "/v1/{project_id}/image-server-jobs",
            Action::ListImageJobs,
            list_image_jobs,
        )
        .compressed(),
        for_any_caller("ListProjects", Method::GET, "/v3/projects", list_projects),
    ]
}

/// Makes an operation on the project of its path, which needs a permission.
fn in_project<F, R>(
    id: &'static str,
    method: Method,
    path: &'static str,
    action: Action,
    operation: fn(Arc<Api>, Call<ProjectId>) -> F,
) -> Operation<Arc<Api>>
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    in_project_with(Payload::ignored, id, method, path, move |_| action, operation)
}

/// The same, of an operation of our own, whose permission is that of the count of the family that its query names.
fn in_project_by_family<F, R>(
    id: &'static str,
    method: Method,
    path: &'static str,
    operation: fn(Arc<Api>, Call<ProjectId>) -> F,
) -> Operation<Arc<Api>>
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    in_project_with(Payload::ignored, id, method, path, query::scope_action, operation)
}

/// The same, of an operation whose request has a body of at most [`MAX_BODY`].
fn in_project_with_body<F, R>(
    id: &'static str,
    method: Method,
    path: &'static str,
    action: Action,
    operation: fn(Arc<Api>, Call<ProjectId>) -> F,
) -> Operation<Arc<Api>>
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    in_project_with(|body| Payload::small(body, MAX_BODY), id, method, path, move |_| action, operation)
}

fn in_project_with<F, R>(
    payload: fn(Body) -> Payload,
    id: &'static str,
    method: Method,
    path: &'static str,
    action: impl Fn(&Uri) -> Action + Copy + Send + Sync + 'static,
    operation: fn(Arc<Api>, Call<ProjectId>) -> F,
) -> Operation<Arc<Api>>
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    let answer = move |api: Arc<Api>, request: Request| {
        // Before the future, which then holds a pointer in place of the request.
        let (action, received) = (action(request.uri()), api.receive(path, request, payload));
        async move {
            let call = received?.authorize(action).await?;
            operation(api, call).await
        }
    };
    Operation::new(id, method, path, Some(action(&Uri::default())), answer)
}

/// Makes an operation that needs a valid credential and no permission.
fn for_any_caller<F, R>(
    id: &'static str,
    method: Method,
    path: &'static str,
    operation: fn(Call<()>, Arc<Principal>) -> F,
) -> Operation<Arc<Api>>
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoResponse + 'static,
{
    let answer = move |api: Arc<Api>, request: Request| async move {
        let (call, principal) = api.receive(path, request, Payload::ignored)?.authenticate().await?;
        operation(call, principal).await
    };
    Operation::new(id, method, path, None, answer)
}

impl Api {
    /// Acquires a permit for a request. Inlined, because a call would move the request.
    #[inline(always)]
    fn receive(
        &self,
        template: &'static str,
        request: Request,
        payload: fn(Body) -> Payload,
    ) -> Result<Box<UnauthorizedRequest>, Unavailable> {
        let permit = self.limit.try_acquire(&self.readiness)?;
        let (parts, body) = request.into_parts();
        let (payload, access) = (payload(body), self.access.load());
        Ok(Box::new(UnauthorizedRequest { template, parts, payload, permit, access }))
    }
}
