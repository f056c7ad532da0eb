//! GetOverview: `GET /overview`, the numbers of the page as JSON.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, ETAG, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};

use crate::api::Api;
use crate::web::etag::is_in_if_none_match;

/// Answers with the overview, or with 304 if the caller has it.
pub(super) async fn overview(api: Arc<Api>, headers: HeaderMap) -> Response {
    let reading = api.overview.read().await;
    let json = api.overview.to_json(&reading);
    let tag = format!("\"{:016x}\"", json.tag());
    // Weak, since the moment of the reading differs.
    let weak = [(ETAG, format!("W/{tag}"))];
    if is_in_if_none_match(&headers, &tag) {
        // As the 200 has it, whose coding the caller chooses.
        return (StatusCode::NOT_MODIFIED, weak, [(VARY, "accept-encoding")]).into_response();
    }
    let media_type = [(CONTENT_TYPE, "application/json"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (media_type, weak, json.to_bytes()).into_response()
}
