//! CountSubJobs: `GET /v1/{project_id}/app-server-sub-jobs/actions/count`.

use std::io::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::{Api, query};
use crate::access::Action;
use crate::web::authorize::{authorize_request, project_exists};
use crate::web::body::Payload;
use crate::web::error::Error;

/// The published maximum of `count`.
const MAX_COUNT: u64 = i32::MAX as u64;

/// How many subtasks of the project match. A larger number than the published maximum is reported as that.
pub(super) async fn count_sub_jobs(State(api): State<Arc<Api>>, request: Request) -> Result<impl IntoResponse, Error> {
    let mut permit = api.limit.try_acquire(&api.readiness)?;
    let (parts, body) = request.into_parts();
    let mut payload = Payload::ignored(body);
    let access = api.access.load();
    let (_, project) = authorize_request(&access, &parts, &mut payload, &mut permit, Action::CountSubJobs).await?;
    let filter = query::parse(parts.uri.query(), &api.job_types)?;
    project_exists(&access, &project)?;
    payload.ignore(&mut permit).await?;
    let count = api.store.count(&project, &filter)?;
    Ok(([(CONTENT_TYPE, JSON)], answer(count.min(MAX_COUNT))))
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `{"count":N}`, in one allocation of its own size: the usual way through a growing buffer takes three.
fn answer(count: u64) -> Bytes {
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
            assert_eq!(answer(count), text);
        }
        assert_eq!(answer(u64::MAX).len(), 30);
    }
}
