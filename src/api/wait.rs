//! WaitForCount, an operation of our own: `GET /subjobs/v1/{project_id}/wait`, answered once a count or a revision is as asked.

use std::sync::Arc;

use axum::Json;
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::query::{WaitQuery, scope_action};
use crate::domain::{MAX_COUNT, ProjectId, WaitCondition};
use crate::store::StoreError;
use crate::web::call::Call;
use crate::web::error::Error;

/// The answer.
#[derive(Debug, serde::Serialize)]
pub(super) struct Waited {
    satisfied: bool,
    count: u64,
    revision: u64,
}

/// Answers as soon as what the caller waits for is true, or with `"satisfied":false` when its time is over or the server drains.
pub(super) async fn wait_for_count(api: Arc<Api>, call: Call<ProjectId>) -> Result<Json<Waited>, Error> {
    let call = call.with_input(|call| WaitQuery::parse(call.query(), &api.job_types))?;
    let (mut call, query) = call.in_existing_project()?;
    call.ignore_body().await?;
    let mut waiter = None;
    let deadline = Instant::now() + query.timeout;
    // Before the first look, so that no change falls between the two.
    let mut watch = api.store.watch(&call.project, Some(query.condition.clone()));
    let mut is_over = false;
    loop {
        let waited = look(&api, &call.project, &query.condition).await?;
        if waited.satisfied || is_over {
            let access = api.access.load();
            if !call.is_decided_by(&access) {
                call.authorize_again(Arc::clone(&access), scope_action(call.uri())).await?;
            }
            return Ok(Json(waited));
        }
        if waiter.is_none() {
            waiter = Some(api.waiters.try_acquire()?);
            call.prepare_to_wait();
        }
        // The end of the time or of all watches; then the last state is the answer.
        is_over = !matches!(timeout_at(deadline, watch.changed()).await, Ok(Ok(())));
    }
}

async fn look(api: &Api, project: &ProjectId, condition: &WaitCondition) -> Result<Waited, StoreError> {
    let (count, revision) = api.store.count_at_revision(project, &condition.filter, condition.statuses).await?;
    Ok(Waited { satisfied: condition.holds(count, revision), count: count.min(MAX_COUNT), revision })
}

#[cfg(test)]
mod tests;
