//! The one layer around each listener's router: request id, panics, timeout, metrics, the log of errors and the access log.
//!
//! It is one layer instead of the usual stack of small ones, most of which box a future or start a timer for each request.
//! `docs/performance.md` says what a request costs.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, Request};
use pin_project_lite::pin_project;
use tokio::time::{Timeout, timeout};
use tower::Service as _;

use super::access_log::{AccessLog, Answered, CallerSlot};
use super::authorize::X_AUTH_TOKEN;
use super::error::{Error, ErrorReport, Unavailable};
use super::operation::RouteLabels;
use super::request_id::{RequestIds, X_REQUEST_ID};
use crate::metrics::{MethodLabel, Metrics};

/// A listener's application: its router with instrumentation.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    router: Router,
    /// Answers requests whose path matches no template.
    not_found: Router,
    /// Answers requests whose target has a fragment.
    reject_fragment: Router,
    labels: RouteLabels,
    metrics: Arc<Metrics>,
    ids: RequestIds,
    timeout: Duration,
    access_log: Option<AccessLog>,
}

impl App {
    /// Instruments a router. A request that has no response after `timeout` is answered with 503.
    pub fn new(
        router: Router,
        labels: RouteLabels,
        metrics: Arc<Metrics>,
        ids: RequestIds,
        timeout: Duration,
        access_log: Option<AccessLog>,
    ) -> Self {
        let reject_fragment =
            Router::new().fallback(async || Error::input("the request target", "must not have a #: write %23"));
        let not_found = Router::new().fallback(async || Error::Path);
        Self(Arc::new(Shared { router, not_found, reject_fragment, labels, metrics, ids, timeout, access_log }))
    }

    /// Answers one request. There is always a response. A request whose target has a fragment, which its URI does not show, is
    /// refused before anything else is checked.
    pub fn call<B>(&self, mut request: Request<B>, has_fragment: bool) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let start = Instant::now();
        mark_credentials(request.headers_mut());
        let request_id = self.0.ids.identify(request.headers());
        let label = if has_fragment { None } else { self.0.labels.find(request.uri().path()) };
        let router = match label {
            Some(_) => &self.0.router,
            None if has_fragment => &self.0.reject_fragment,
            None => &self.0.not_found,
        };
        let caller = self.0.access_log.as_ref().map(|_| CallerSlot::default());
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        let context = RequestContext { start, request_id, label, method: request.method().into(), caller };
        // Unwind safe: the future is dropped after a panic, and a store that a panic interrupted is poisoned.
        let response = AssertUnwindSafe(router.clone().call(request)).catch_unwind();
        // A long poll has a time of its own, and tokio takes the longest duration for none.
        let limit = if self.0.labels.has_timeout(label) { self.0.timeout } else { Duration::MAX };
        ResponseFuture { inner: timeout(limit, response), shared: self.0.clone(), context }
    }
}

pin_project! {
    /// The response to one request, as a future. Its timer is registered at the first wait, so a count that never waits
    /// registers none.
    pub struct ResponseFuture {
        #[pin]
        inner: Timeout<CatchUnwind<AssertUnwindSafe<RouteFuture<Infallible>>>>,
        shared: Arc<Shared>,
        context: RequestContext,
    }
}

/// What metrics and log need of a request.
struct RequestContext {
    start: Instant,
    request_id: HeaderValue,
    /// The index of its path template.
    label: Option<usize>,
    method: MethodLabel,
    /// For the access log, if there is one.
    caller: Option<CallerSlot>,
}

impl Future for ResponseFuture {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(cx)) {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(panic)) => Error::Internal(panic_message(&*panic)).into_response(),
            Err(_) => Error::from(Unavailable::TimedOut).into_response(),
        };
        Poll::Ready(this.shared.complete(response, this.context))
    }
}

impl Shared {
    fn complete(&self, mut response: Response, context: &RequestContext) -> Response {
        let RequestContext { start, request_id, label, method, caller } = context;
        let (status, duration, metrics) = (response.status(), start.elapsed(), self.labels.metrics(*label));
        metrics.observe(*method, status, duration);
        if status.as_u16() >= 400 {
            self.record_error(&response, context);
        }
        let (route, method, status) = (metrics.route(), method.as_str(), status.as_u16());
        tracing::debug!(
            request_id = text(request_id),
            method,
            route,
            status,
            duration_seconds = duration.as_secs_f64(),
            "answered"
        );
        if let (Some(log), Some(caller)) = (&self.access_log, caller) {
            let (request_id, listener) = (text(request_id), metrics.listener());
            log.record(&Answered { request_id, listener, method, route, status, duration }, caller);
        }
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, request_id.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    #[cold]
    fn record_error(&self, response: &Response, context: &RequestContext) {
        let Some(report) = response.extensions().get::<ErrorReport>() else { return };
        self.metrics.count_error(report.reason);
        if let Some(internal_error) = &report.internal_error {
            let (route, method) = (self.labels.metrics(context.label).route(), context.method.as_str());
            let request_id = text(&context.request_id);
            tracing::error!(request_id, method, route, error = internal_error, "internal server error");
        }
    }
}

/// Marks credentials as sensitive, so that the debug text of a request does not show them. The layer of tower-http for this
/// looks headers up in a way that may allocate.
fn mark_credentials(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if *name == X_AUTH_TOKEN || *name == AUTHORIZATION {
            value.set_sensitive(true);
        }
    }
}

/// A request id as text. All ids consist of visible ASCII characters.
fn text(request_id: &HeaderValue) -> &str {
    request_id.to_str().unwrap_or_default()
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a text"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::extract::Request as AxumRequest;
    use axum::routing::{MethodRouter, get};
    use http::{HeaderName, Method};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::metrics::Listener;
    use crate::web::operation::{Operation, router};

    fn app(handler: MethodRouter) -> App {
        let table = || {
            vec![Operation {
                id: "",
                method: Method::GET,
                path: "/",
                action: None,
                is_long_poll: false,
                handler: handler.clone(),
            }]
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let labels = RouteLabels::new(&table(), Listener::Public, &metrics);
        App::new(router(table(), ()), labels, metrics, RequestIds::new().unwrap(), Duration::from_secs(10), None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_response_is_answered_with_503_after_the_timeout() {
        let (app, start) = (app(get(pending::<()>)), tokio::time::Instant::now());
        let response = app.call(Request::get("/").body(Body::empty()).unwrap(), false).await;
        assert_eq!((response.status().as_u16(), start.elapsed().as_secs()), (503, 10));
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_500() {
        async fn panics() -> &'static str {
            tokio::task::yield_now().await;
            panic!("on purpose")
        }
        let response = app(get(panics)).call(Request::get("/").body(Body::empty()).unwrap(), false).await;
        let report = response.extensions().get::<ErrorReport>().unwrap();
        assert_eq!((response.status().as_u16(), report.internal_error.as_deref()), (500, Some("panic: on purpose")));
    }

    #[tokio::test]
    async fn credentials_are_not_in_the_debug_text_of_a_request() {
        let handler = get(async |request: AxumRequest| format!("{request:?} {:?}", request.headers()));
        let app = app(handler);
        let mut request = Request::get("/").body(Body::empty()).unwrap();
        for (name, value) in [
            (X_AUTH_TOKEN, "secret-1"),
            (X_AUTH_TOKEN, "secret-2"),
            (AUTHORIZATION, "Bearer secret-3"),
            (AUTHORIZATION, "SDK-HMAC-SHA256 Access=AK, SignedHeaders=x-sdk-date, Signature=secret-4"),
            (HeaderName::from_static("x-sdk-date"), "20220307T104043Z"),
        ] {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let response = app.call(request, false).await;
        let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap();
        assert_eq!(text.matches("Sensitive").count(), 8, "{text}");
        assert!(!text.contains("secret") && text.contains("20220307T104043Z"), "{text}");
    }
}
