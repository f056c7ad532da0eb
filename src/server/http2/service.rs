//! The application as the service of one HTTP/2 connection.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::Either;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::super::tracked_body::TrackedBody;
use super::streams::{StreamGuard, Streams};
use crate::web::instrument::{App, ResponseFuture};

/// The most headers of a request, as in HTTP/1.
const MAX_HEADERS: usize = 100;

pub(super) struct Http2Service {
    app: App,
    streams: Arc<Streams>,
}

impl Http2Service {
    pub(super) fn new(app: App, streams: Arc<Streams>) -> Self {
        Self { app, streams }
    }
}

impl hyper::service::Service<Request<Incoming>> for Http2Service {
    type Response = Response<TrackedBody<StreamGuard>>;
    type Error = Infallible;
    type Future = StreamFuture;

    fn call(&self, mut request: Request<Incoming>) -> StreamFuture {
        let guard = Some(self.streams.begin());
        if request.headers().len() > MAX_HEADERS {
            return StreamFuture { response: Either::Right(ready(too_many_headers())), guard };
        }
        add_host(&mut request);
        // A fragment does not reach the server: the HTTP layer has removed it.
        StreamFuture { response: Either::Left(self.app.call(request, false)), guard }
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

pin_project! {
    pub(super) struct StreamFuture {
        #[pin]
        response: Either<ResponseFuture, Ready<Response<Body>>>,
        guard: Option<StreamGuard>,
    }
}

impl Future for StreamFuture {
    type Output = Result<Response<TrackedBody<StreamGuard>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = std::task::ready!(this.response.poll(cx));
        let guard = this.guard.take().map(StreamGuard::answered);
        Poll::Ready(Ok(response.map(|body| TrackedBody::new(body, guard))))
    }
}
