//! GetSummary on the internal listener, with the same authorization as on the public one: the page calls it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::Internal;
use crate::api::Api;
use crate::api::query::scope_action;
use crate::api::summary::get_summary;
use crate::domain::ProjectId;
use crate::web::body::Payload;
use crate::web::call::{Call, UnauthorizedRequest};
use crate::web::concurrency::{Permit, check_is_loaded};
use crate::web::error::Error;

/// The template of its path.
pub(super) const PATH: &str = "/subjobs/v1/{project_id}/summary";

/// Answers as the public listener does. It counts for no limit of requests, as reports do not.
pub(super) async fn summary(State(internal): State<Arc<Internal>>, request: Request) -> Result<Response, Error> {
    let api = internal.api.clone();
    let call = authorize_reader(&api, PATH, request).await?;
    get_summary(api, call).await
}

/// Authorizes a caller that reads the counts of a project, or of one of its jobs.
pub(super) async fn authorize_reader(
    api: &Api,
    template: &'static str,
    request: Request,
) -> Result<Call<ProjectId>, Error> {
    check_is_loaded(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let action = scope_action(&parts.uri);
    let (payload, permit, access) = (Payload::ignored(body), Permit::uncounted(), api.access.load());
    Box::new(UnauthorizedRequest { template, parts, payload, permit, access }).authorize(action).await
}
