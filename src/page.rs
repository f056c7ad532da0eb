//! The page: what the server holds and does, at one look. On the internal listener, and with `--demo` on the public one too.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /` | the page, with the numbers of now |
//! | `GET /page/{file}` | its style sheet, scripts and icon |
//! | `GET /overview` | the numbers and their history as JSON |
//! | `GET /overview/events` | the same as server-sent events |
//!
//! None of them names a project, so none needs a credential. The look-up of a project on the page calls GetSummary with a token.

mod files;
mod html;
mod overview;
mod stream;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::api::Api;
use crate::metrics::Listener;
use crate::web::error::Error;
use crate::web::operation::Operation;

/// What the page may load: its own files only. It cannot be framed, and no form of it is ever sent by the browser.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The operations of the page, for a listener whose state has the state of the public API.
pub fn operations<S: Clone + Send + Sync + 'static>(listener: Listener, api: fn(&S) -> &Arc<Api>) -> Vec<Operation<S>> {
    let mut operations = reserve_operations(listener, api);
    let events = move |State(state): State<S>| stream::events(api(&state).clone());
    operations.push(row("StreamOverview", "/overview/events", get(events)));
    operations
}

/// The same without the stream, for connections that answer one request.
pub fn reserve_operations<S: Clone + Send + Sync + 'static>(
    listener: Listener,
    api: fn(&S) -> &Arc<Api>,
) -> Vec<Operation<S>> {
    let page = move |State(state): State<S>| show_page(api(&state).clone(), listener);
    let file = async |uri: Uri| files::file(&uri).map(|(media_type, text)| with_headers(media_type, text));
    let overview = move |State(state): State<S>, headers: HeaderMap| overview::overview(api(&state).clone(), headers);
    vec![
        row("ShowPage", "/", get(page)).compressed(),
        row("GetPageFile", files::PATH, get(file)).compressed(),
        row("GetOverview", "/overview", get(overview)).compressed(),
    ]
}

fn row<S: Clone + Send + Sync + 'static>(
    id: &'static str,
    path: &'static str,
    handler: MethodRouter<S>,
) -> Operation<S> {
    Operation::routed(id, Method::GET, path, None, handler)
}

async fn show_page(api: Arc<Api>, listener: Listener) -> Result<Response, Error> {
    let reading = api.overview.read().await;
    let html = html::page(&reading, &api.overview, listener);
    Ok(with_headers("text/html; charset=utf-8", html))
}

/// A response that a browser takes for nothing but this media type, and shows on this page only.
fn with_headers(media_type: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
        (CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    ];
    (headers, body.into()).into_response()
}
