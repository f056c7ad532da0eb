//! One connection with HTTP/1: requests by hyper, closed by a timeout, by the drain, or by the peer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::drain::Drain;
use super::socket::TrackedSocket;
use super::state::{ConnectionState, LINGER_TIMEOUT, RequestGuard};
use super::tracked_body::TrackedBody;
use crate::web::instrument::{App, ResponseFuture};

/// The most bytes of a request's head. The HTTP layer answers a longer one with 431.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// How long an idle connection stays open after the drain begins, so that a request on its way is still answered.
pub(super) const IDLE_DRAIN_GRACE: Duration = Duration::from_millis(20);

/// How long the server lingers on an idle connection that the drain closes, so that no reset destroys the last response.
const DRAIN_LINGER_TIMEOUT: Duration = Duration::from_millis(100);

/// The response to an HTTP/2 preface. The HTTP layer sends none.
const VERSION_NOT_SUPPORTED: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// How a turn of a connection's task ends.
enum Turn {
    /// The task yields to other connections.
    Yield,
    /// The connection ends.
    Outcome(Outcome),
}

/// How a connection ends.
enum Outcome {
    /// The peer closed it, or a timeout expired.
    Closed,
    /// The peer speaks HTTP/2.
    Http2,
    /// The drain has begun and it has no request.
    IdleAtDrain,
    /// The drain's deadline passed while a request was running.
    Aborted,
}

/// Serves a connection until it ends. Returns how many running requests the drain aborted: one or none.
pub(super) async fn serve<S>(socket: S, app: App, state: Arc<ConnectionState>, drain: Arc<Drain>) -> usize
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = Service { app, state: state.clone() };
    let socket = TrackedSocket::new(socket, state.clone());
    // The HTTP layer also answers more than 100 headers with 431. Setting that limit would cost an allocation a request.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(socket.clone()), service);
    let mut drain_begun = pin!(drain.wait_until_begun());
    // When the drain closes the connection if idle, and when it aborts a running request.
    let mut drain_deadlines: Option<(Instant, Instant)> = None;
    let mut is_first_poll = true;
    let tick = state.tick();
    let mut timer = pin!(sleep(tick));
    let mut is_lingering = false;
    let mut poll_turn = |cx: &mut Context<'_>| {
        // The first poll registers the task's waker with the drain. Later turns only read a flag, which takes no lock.
        let look = std::mem::take(&mut is_first_poll) || (drain_deadlines.is_none() && drain.deadline().is_some());
        if look && drain_begun.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let abort_at = drain.deadline().unwrap_or(now);
            drain_deadlines = Some(((now + IDLE_DRAIN_GRACE).min(abort_at), abort_at));
            timer.as_mut().reset(now);
        }
        state.begin_turn();
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) if error.is_parse_version_h2() => {
                return Poll::Ready(Turn::Outcome(Outcome::Http2));
            }
            // An error here is the peer's, so it is not logged. It may follow a request that is answered already.
            Poll::Ready(_) => {
                let _ = socket.poll_send(cx);
                return Poll::Ready(Turn::Outcome(Outcome::Closed));
            }
            Poll::Pending => {}
        }
        state.stamp_phase();
        if state.is_turn_over() {
            return Poll::Ready(Turn::Yield);
        }
        // An error of the socket is the peer's.
        if let Poll::Ready(Err(_)) = socket.poll_send(cx) {
            return Poll::Ready(Turn::Outcome(Outcome::Closed));
        }
        if !is_lingering && state.is_lingering() {
            is_lingering = true;
            timer.as_mut().reset(Instant::now());
        }
        if let Some((close_idle_at, _)) = drain_deadlines.filter(|_| !state.is_busy()) {
            if close_idle_at <= Instant::now() {
                return Poll::Ready(Turn::Outcome(Outcome::IdleAtDrain));
            }
            timer.as_mut().reset(close_idle_at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let next = state.deadline().unwrap_or(now + tick).min(now + tick);
            if next <= now {
                return Poll::Ready(Turn::Outcome(Outcome::Closed));
            }
            let next = match drain_deadlines {
                None => next,
                Some((close_idle_at, _)) if !state.is_busy() && close_idle_at <= now => {
                    return Poll::Ready(Turn::Outcome(Outcome::IdleAtDrain));
                }
                Some((_, abort_at)) if state.is_busy() && abort_at <= now => {
                    return Poll::Ready(Turn::Outcome(Outcome::Aborted));
                }
                Some((close_idle_at, abort_at)) => next.min(if state.is_busy() { abort_at } else { close_idle_at }),
            };
            timer.as_mut().reset(next);
        }
    };
    let outcome = loop {
        match poll_fn(&mut poll_turn).await {
            Turn::Outcome(outcome) => break outcome,
            // A task that only wakes itself is polled again before the runtime polls for input on other connections.
            Turn::Yield => yield_now().await,
        }
    };
    let (final_bytes, linger) = match outcome {
        Outcome::IdleAtDrain => (&b""[..], DRAIN_LINGER_TIMEOUT),
        Outcome::Http2 => (VERSION_NOT_SUPPORTED, LINGER_TIMEOUT),
        Outcome::Closed => return 0,
        Outcome::Aborted => return 1,
    };
    drop(connection);
    socket.close(final_bytes, linger).await;
    0
}

/// The application as one connection's service.
struct Service {
    app: App,
    state: Arc<ConnectionState>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<TrackedBody<RequestGuard>>;
    type Error = Infallible;
    type Future = ServiceFuture;

    fn call(&self, request: Request<Incoming>) -> ServiceFuture {
        let guard = self.state.begin(!request.body().is_end_stream());
        let version = request.version();
        let has_fragment = self.state.fragment_detector.has_fragment(request.uri());
        ServiceFuture { response: self.app.call(request, has_fragment), guard: Some(guard), version }
    }
}

pin_project! {
    struct ServiceFuture {
        #[pin]
        response: ResponseFuture,
        guard: Option<RequestGuard>,
        version: Version,
    }
}

impl Future for ServiceFuture {
    type Output = Result<Response<TrackedBody<RequestGuard>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.guard.as_ref().is_some_and(RequestGuard::must_yield) {
            // No waker is needed: the connection's task polls again after it has yielded.
            return Poll::Pending;
        }
        let mut response = ready!(this.response.poll(cx));
        let guard = this.guard.take();
        if guard.as_ref().is_some_and(RequestGuard::is_last_response) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            // With a newer version than the request's, the HTTP layer would add `keep-alive` for an HTTP/1.0 client.
            *response.version_mut() = *this.version;
        }
        Poll::Ready(Ok(response.map(|body| TrackedBody::new(body, guard))))
    }
}

#[cfg(test)]
mod tests;
