//! The public API: every route in one list.

mod count_sub_jobs;
mod list_projects;
pub mod query;

use std::sync::Arc;

use axum::routing::get;

use crate::access::AccessHandle;
use crate::domain::JobTypes;
use crate::readiness::Readiness;
use crate::store::Store;
pub use crate::web::concurrency::{ConcurrencyLimit, loaded};
use crate::web::route::Route;

/// What the operations work with.
#[derive(Clone)]
pub struct Api {
    /// Where subtasks are counted.
    pub store: Arc<Store>,
    /// Who may call.
    pub access: Arc<AccessHandle>,
    /// The types that a filter may name.
    pub job_types: Arc<JobTypes>,
    /// Whether there is anything to answer yet.
    pub readiness: Arc<Readiness>,
    /// How many requests may be worked on at once.
    pub limit: Arc<ConcurrencyLimit>,
}

/// Every route of the public listener. Decided for each, in this order: path (404), method (405), room (503), credential
/// (401), permission (403), inputs (400), project (404).
pub fn routes() -> Vec<Route<Arc<Api>>> {
    vec![
        Route {
            path: "/v1/{project_id}/app-server-sub-jobs/actions/count",
            methods: get(count_sub_jobs::count_sub_jobs),
        },
        Route { path: "/v3/projects", methods: get(list_projects::list_projects) },
    ]
}
