//! The one layer around each listener's router: request id, panics, timeout, metrics, the log of errors, the access log and spans.
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
use futures_util::future::{BoxFuture, CatchUnwind, Either};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::Service as _;

use super::answered::Answered;
use super::authorize::X_AUTH_TOKEN;
use super::error::{Error, ErrorReport, Unavailable};
use super::observers::{Observed, Observers};
use super::request_id::{RequestIds, X_REQUEST_ID};
use super::routes::Routes;
use crate::metrics::{MethodLabel, Metrics};

/// What is left of a request's id once its response has it.
const NO_REQUEST_ID: HeaderValue = HeaderValue::from_static("");

/// A listener's application: its router with instrumentation.
pub struct App(Arc<Handle>);

/// A connection's own: each request counts a reference to it, and a number that requests of other connections change too would move
/// between cores.
struct Handle(Arc<Shared>);

struct Shared {
    routes: Routes,
    /// Answers requests whose path matches no template.
    not_found: Router,
    /// Answers requests whose target has a fragment.
    reject_fragment: Router,
    metrics: Arc<Metrics>,
    ids: RequestIds,
    timeout: Duration,
    observers: Observers,
}

impl App {
    /// Instruments the operations of a listener. A request that has no response after `timeout` is answered with 503.
    pub fn new(
        routes: Routes,
        metrics: Arc<Metrics>,
        ids: RequestIds,
        timeout: Duration,
        observers: Observers,
    ) -> Self {
        let reject_fragment =
            Router::new().fallback(async || Error::input("the request target", "must not have a #: write %23"));
        let not_found = Router::new().fallback(async || Error::Path);
        let shared = Shared { routes, not_found, reject_fragment, metrics, ids, timeout, observers };
        Self(Arc::new(Handle(Arc::new(shared))))
    }

    /// The same application, with a handle of its own for one connection.
    pub fn for_connection(&self) -> Self {
        Self(Arc::new(Handle(self.0.0.clone())))
    }

    /// Answers one request. There is always a response. A request whose target has a fragment, which its URI does not show, is
    /// refused before anything else is checked. Inlined, because a call would move the request.
    #[inline(always)]
    pub fn call<B>(&self, mut request: Request<B>, has_fragment: bool) -> ResponseFuture
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let start = Instant::now();
        mark_credentials(request.headers_mut());
        let (shared, method) = (&*self.0.0, request.method().into());
        let request_id = shared.ids.identify(request.headers());
        let label = if has_fragment { None } else { shared.routes.find(request.uri().path()) };
        let observed = shared.observers.begin(request.headers());
        if let Some(observed) = &observed {
            request.extensions_mut().insert(observed.caller.clone());
        }
        let context = RequestContext { start, request_id, label, method, observed };
        let answer = match shared.routes.direct(label, request.method()) {
            Some(call) => Either::Left(call(request.map(into_body))),
            None => {
                let router = match label {
                    Some(_) => &shared.routes.router,
                    None if has_fragment => &shared.reject_fragment,
                    None => &shared.not_found,
                };
                Either::Right(router.clone().call(request))
            }
        };
        // Unwind safe: the future is dropped after a panic, and a store that a panic interrupted is poisoned.
        let answer = AssertUnwindSafe(answer).catch_unwind();
        ResponseFuture { answer, timeout: None, handle: self.0.clone(), context }
    }
}

/// The response of an operation that the router did not call.
type DirectFuture = BoxFuture<'static, Result<Response, Infallible>>;

/// A request's body. That of a request without one needs no allocation.
fn into_body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    if body.is_end_stream() { Body::empty() } else { Body::new(body) }
}

pin_project! {
    /// The response to one request, as a future. Its timer begins at the first wait, so a count that never waits has none; it is boxed,
    /// because the future is moved before.
    pub struct ResponseFuture {
        #[pin]
        answer: CatchUnwind<AssertUnwindSafe<Either<DirectFuture, RouteFuture<Infallible>>>>,
        timeout: Option<Pin<Box<Sleep>>>,
        handle: Arc<Handle>,
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
    /// For the access log and the traces, if there are any.
    observed: Option<Box<Observed>>,
}

impl Future for ResponseFuture {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let shared = &this.handle.0;
        let response = match this.answer.poll(cx) {
            Poll::Ready(Ok(Ok(response))) => response,
            Poll::Ready(Err(panic)) => Error::Internal(panic_message(&*panic)).into_response(),
            // A long poll has a time of its own.
            Poll::Pending if !shared.routes.has_timeout(this.context.label) => return Poll::Pending,
            Poll::Pending => {
                let timeout = this.timeout.get_or_insert_with(|| Box::pin(sleep(shared.timeout)));
                ready!(timeout.as_mut().poll(cx));
                Error::from(Unavailable::TimedOut).into_response()
            }
        };
        Poll::Ready(shared.complete(response, this.context))
    }
}

impl Shared {
    fn complete(&self, mut response: Response, context: &mut RequestContext) -> Response {
        let RequestContext { start, request_id, label, method, observed } = &*context;
        let (status, duration, metrics) = (response.status(), start.elapsed(), self.routes.metrics(*label));
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
        if let Some(observed) = observed {
            let (request_id, listener) = (text(request_id), metrics.listener());
            let reason = response.extensions().get().map(|report: &ErrorReport| report.reason);
            let trace_id = observed.trace_id();
            let answered = Answered { request_id, listener, method, route, status, duration, reason, trace_id };
            self.observers.tell(observed, &answered);
        }
        let headers = response.headers_mut();
        if status == StatusCode::NOT_MODIFIED.as_u16() {
            // The router gives a HEAD the length of the empty body; a GET has none, since the 200 would have another.
            headers.remove(CONTENT_LENGTH);
        }
        // Moved, because a clone would allocate.
        headers.insert(X_REQUEST_ID, std::mem::replace(&mut context.request_id, NO_REQUEST_ID));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    #[cold]
    fn record_error(&self, response: &Response, context: &RequestContext) {
        let Some(report) = response.extensions().get::<ErrorReport>() else { return };
        self.metrics.count_error(report.reason);
        if let Some(internal_error) = &report.internal_error {
            let (route, method) = (self.routes.metrics(context.label).route(), context.method.as_str());
            let request_id = text(&context.request_id);
            let trace_id =
                context.observed.as_ref().and_then(|observed| observed.trace_id()).map(tracing::field::display);
            tracing::error!(request_id, trace_id, method, route, error = internal_error, "internal server error");
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
    use crate::web::operation::Operation;

    fn app(handler: MethodRouter) -> App {
        let metrics = Arc::new(Metrics::new().unwrap());
        let handler = handler.with_state(());
        let table = vec![Operation::routed("", Method::GET, "/", None, handler)];
        let routes = Routes::new(table, &(), Listener::Public, &metrics);
        App::new(routes, metrics, RequestIds::new().unwrap(), Duration::from_secs(10), Observers::default())
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
