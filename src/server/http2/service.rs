//! The application as the service of one HTTP/2 connection.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::Either;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::super::tracked_body::TrackedBody;
use super::StreamExecutor;
use super::request_body::RequestBody;
use super::streams::{StreamGuard, Streams};
use crate::web::instrument::{App, ResponseFuture};

/// The most headers of a request, as in HTTP/1.
const MAX_HEADERS: usize = 100;

pub(super) struct Http2Service {
    app: App,
    streams: Arc<Streams>,
    executor: StreamExecutor,
}

impl Http2Service {
    pub(super) fn new(app: App, streams: Arc<Streams>, executor: StreamExecutor) -> Self {
        Self { app, streams, executor }
    }
}

impl hyper::service::Service<Request<Incoming>> for Http2Service {
    type Response = Response<TrackedBody<StreamGuard>>;
    type Error = Infallible;
    type Future = StreamFuture;

    fn call(&self, request: Request<Incoming>) -> StreamFuture {
        let mut request = request.map(|body| RequestBody::new(body, &self.executor));
        let (guard, is_head) = (Some(self.streams.begin()), *request.method() == Method::HEAD);
        let response = if request.headers().len() > MAX_HEADERS {
            Either::Right(ready(too_many_headers()))
        } else {
            add_host(&mut request);
            // A fragment does not reach the server: the HTTP layer has removed it.
            Either::Left(self.app.call(request, false))
        };
        StreamFuture { response, guard, is_head }
    }
}

/// As the HTTP layer answers a head that is too large.
fn too_many_headers() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

/// Adds the authority as `Host`, which signatures and checks read. One that differs is then given twice, and refused.
fn add_host<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority().map(|authority| authority.as_str()) else { return };
    let is_given = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    if request.headers().get(HOST).is_some_and(is_given) {
        return;
    }
    // An authority has visible ASCII characters only.
    if let Ok(host) = HeaderValue::from_str(authority) {
        request.headers_mut().append(HOST, host);
    }
}

/// Says of an empty body that it is empty, as with HTTP/1, where the HTTP layer does so.
fn add_zero_length(response: &mut Response<Body>) {
    let (status, is_empty) = (response.status(), response.body().size_hint().exact() == Some(0));
    if is_empty && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
}

pin_project! {
    pub(super) struct StreamFuture {
        #[pin]
        response: Either<ResponseFuture, Ready<Response<Body>>>,
        guard: Option<StreamGuard>,
        is_head: bool,
    }
}

impl Future for StreamFuture {
    type Output = Result<Response<TrackedBody<StreamGuard>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = std::task::ready!(this.response.poll(cx));
        if !*this.is_head {
            add_zero_length(&mut response);
        }
        let guard = this.guard.take().map(StreamGuard::answered);
        Poll::Ready(Ok(response.map(|body| TrackedBody::new(body, guard))))
    }
}
