//! CountSubJobs: `GET /v1/{project_id}/app-server-sub-jobs/actions/count`.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};

use super::json::APPLICATION_JSON;
use super::{Api, query};
use crate::domain::{Family, MAX_COUNT, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;
use crate::web::etag::is_in_if_none_match;

/// Counts the app subtasks of the project that match the filter.
pub(super) fn count_sub_jobs(api: Arc<Api>, call: Call<ProjectId>) -> impl Future<Output = Result<Response, Error>> {
    count(api, call, Family::App)
}

/// Counts the subtasks of a family that match the filter. A number above the published maximum is reported as the maximum.
pub(super) async fn count(api: Arc<Api>, call: Call<ProjectId>, family: Family) -> Result<Response, Error> {
    let call = call.with_input(|call| query::count(call.query(), family, &api.job_types))?;
    let (mut call, filter) = call.in_existing_project()?;
    call.ignore_body().await?;
    let count = api.store.count(&call.project, &filter).await?.min(MAX_COUNT);
    // A pass over some headers costs less than the hash of a name.
    if call.headers().keys().any(|name| *name == IF_NONE_MATCH) {
        return Ok(answer_condition(call.headers(), count));
    }
    Ok(call.into_response(APPLICATION_JSON, json_body(count)))
}

/// The answer to a caller that may have it already. The tag is the number, so a caller can write it himself.
#[cold]
fn answer_condition(headers: &HeaderMap, count: u64) -> Response {
    let tag = format!("\"{count}\"");
    if is_in_if_none_match(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    ([(CONTENT_TYPE, APPLICATION_JSON)], [(ETAG, tag)], json_body(count)).into_response()
}

/// Makes `{"count":N}` in one allocation.
fn json_body(count: u64) -> Bytes {
    const START: &[u8] = b"{\"count\":";
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(count).as_bytes();
    // A vector without spare capacity becomes `Bytes` without another allocation.
    let mut body = Vec::with_capacity(START.len() + digits.len() + 1);
    body.extend_from_slice(START);
    body.extend_from_slice(digits);
    body.push(b'}');
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json() {
        for (count, text) in [(0, r#"{"count":0}"#), (MAX_COUNT, r#"{"count":2147483647}"#)] {
            assert_eq!(json_body(count), text);
        }
    }
}
