//! CountSubJobs: `GET /v1/{project_id}/app-server-sub-jobs/actions/count`.

use std::io::Write as _;
use std::sync::Arc;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::json::APPLICATION_JSON;
use super::{Api, query};
use crate::domain::{Family, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;

/// The published maximum of `count`.
pub(super) const MAX_COUNT: u64 = i32::MAX as u64;

/// Counts the app subtasks of the project that match the filter.
pub(super) fn count_sub_jobs(
    api: Arc<Api>,
    call: Call<ProjectId>,
) -> impl Future<Output = Result<impl IntoResponse, Error>> {
    count(api, call, Family::App)
}

/// Counts the subtasks of a family that match the filter. A number above the published maximum is reported as the maximum.
pub(super) async fn count(
    api: Arc<Api>,
    call: Call<ProjectId>,
    family: Family,
) -> Result<impl IntoResponse + use<>, Error> {
    let call = call.with_input(|call| query::count(call.query(), family, &api.job_types))?;
    let (mut call, filter) = call.in_existing_project()?;
    call.ignore_body().await?;
    let count = api.store.count(&call.project, &filter).await?;
    Ok(([(CONTENT_TYPE, APPLICATION_JSON)], json_body(count.min(MAX_COUNT))))
}

/// Makes `{"count":N}` in one allocation. A growing buffer would take three.
fn json_body(count: u64) -> Bytes {
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    // At most 10 + 20 bytes, so it fits.
    let _ = write!(rest, "{{\"count\":{count}}}");
    let unused = rest.len();
    Bytes::copy_from_slice(&text[..text.len() - unused])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json() {
        for (count, text) in [(0, r#"{"count":0}"#), (MAX_COUNT, r#"{"count":2147483647}"#)] {
            assert_eq!(json_body(count), text);
        }
        assert_eq!(json_body(u64::MAX).len(), 30);
    }
}
