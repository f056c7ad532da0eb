//! One connection: HTTP/1.1 by hyper, closed by whichever clock runs out, by the drain, or by the peer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::drain::Drain;
use super::socket::TrackedSocket;
use super::state::{ConnectionState, LINGER_TIMEOUT, RequestGuard};
use crate::web::instrument::{App, ResponseFuture};

/// The most bytes of a request's head; past it the HTTP layer answers 431.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// How long a connection without a request stays open once the drain has begun: a request that had arrived by then is answered.
const IDLE_DRAIN_GRACE: Duration = Duration::from_millis(20);

/// How long a peer has to close a connection that the drain ends, so that neither its last answer nor the news is lost in a
/// reset.
const DRAIN_LINGER_TIMEOUT: Duration = Duration::from_millis(100);

/// The answer to a peer that begins to speak HTTP/2, which the HTTP layer leaves without one.
const VERSION_NOT_SUPPORTED: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// How a turn of a connection's task ended.
enum Turn {
    /// Others are to have theirs.
    Yield,
    /// The connection has ended.
    Outcome(Outcome),
}

/// How a connection ended.
enum Outcome {
    /// The peer closed it, or a clock has run out.
    Closed,
    /// The peer speaks HTTP/2.
    Http2,
    /// The drain found no request on it.
    IdleAtDrain,
    /// The drain's deadline came before the answer.
    Aborted,
}

/// Serves a connection until it ends; whether the drain had to cut a running request.
pub(super) async fn serve<S>(socket: S, app: App, state: Arc<ConnectionState>, drain: Arc<Drain>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = Service { app, state: state.clone() };
    // More than 100 headers are answered with 431 too; saying so here would cost an allocation a request.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(TrackedSocket::new(socket, state.clone())), service);
    let mut drain_begun = pin!(drain.wait_until_begun());
    // When the drain closes what is idle, and when it cuts what runs.
    let mut drain_deadlines: Option<(Instant, Instant)> = None;
    let mut is_first_poll = true;
    let tick = state.tick();
    let mut timer = pin!(sleep(tick));
    let mut is_lingering = false;
    let mut poll_turn = |cx: &mut Context<'_>| {
        // The first poll leaves the task's waker with the drain; later ones only look at a flag, which takes no lock.
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
            // How it ended is the peer's doing and nobody's error.
            Poll::Ready(_) => return Poll::Ready(Turn::Outcome(Outcome::Closed)),
            Poll::Pending => {}
        }
        state.stamp_phase();
        if state.is_turn_over() {
            return Poll::Ready(Turn::Yield);
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
            // Unlike a task that only wakes itself, this lets the runtime look at what has come on other connections.
            Turn::Yield => yield_now().await,
        }
    };
    let (final_bytes, linger) = match outcome {
        Outcome::IdleAtDrain => (&b""[..], DRAIN_LINGER_TIMEOUT),
        Outcome::Http2 => (VERSION_NOT_SUPPORTED, LINGER_TIMEOUT),
        Outcome::Closed => return false,
        Outcome::Aborted => return true,
    };
    let mut socket = connection.into_parts().io.into_inner();
    let closing = async {
        if !final_bytes.is_empty() {
            // At most a few answers were written before, so the system has space for all of it.
            poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, final_bytes)).await?;
        }
        poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx)).await
    };
    // A peer that has gone or does not close is closed all the same.
    let _ = timeout(linger, closing).await;
    false
}

/// The application as one connection calls it.
struct Service {
    app: App,
    state: Arc<ConnectionState>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<TrackedBody>;
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
    type Output = Result<Response<TrackedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.guard.as_ref().is_some_and(RequestGuard::must_yield) {
            // Nothing has to wake this: the connection's next turn comes by itself.
            return Poll::Pending;
        }
        let mut response = ready!(this.response.poll(cx));
        let guard = this.guard.take();
        if guard.as_ref().is_some_and(RequestGuard::is_last_response) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            // To an answer of a later version the HTTP layer adds that the connection stays, if an old caller wants that.
            *response.version_mut() = *this.version;
        }
        Poll::Ready(Ok(response.map(|body| TrackedBody { body, _guard: guard })))
    }
}

pin_project! {
    /// A response's body, which keeps the connection busy until it has been handed over.
    struct TrackedBody {
        #[pin]
        body: Body,
        _guard: Option<RequestGuard>,
    }
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::get;
    use http::Method;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::state::{REQUESTS_PER_TURN, tests::TIMEOUTS};
    use super::*;
    use crate::metrics::{Listener, Metrics};
    use crate::web::operation::{Operation, RouteLabels, router};
    use crate::web::request_id::RequestIds;

    fn app() -> App {
        let root = || Operation { id: "", method: Method::GET, path: "/", action: None, handler: get(async || "") };
        let table = || vec![root()];
        let (metrics, ids) = (Arc::new(Metrics::new().unwrap()), RequestIds::new().unwrap());
        let names = RouteLabels::new(&table(), Listener::Public, &metrics);
        App::new(router(table(), ()), names, metrics, ids, Duration::from_secs(10))
    }

    #[tokio::test]
    async fn a_pipeline_is_answered_in_turns_of_bounded_length() {
        const REQUESTS: usize = 1000;
        let (mut far, near) = duplex(1024 * 1024);
        far.write_all("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(REQUESTS).as_bytes()).await.unwrap();
        let drain = Arc::<Drain>::default();
        let mut served = pin!(serve(near, app(), ConnectionState::new(TIMEOUTS, drain.clone()), drain));
        let (mut answered, mut turns, mut unread) = (0, 0, Vec::new());
        while answered < REQUESTS {
            poll_fn(|cx| {
                assert!(served.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            unread.clear();
            while tokio::time::timeout(Duration::ZERO, far.read_buf(&mut unread)).await.is_ok() {}
            let requests_in_turn = String::from_utf8_lossy(&unread).matches("HTTP/1.1 200 OK").count();
            assert!(requests_in_turn <= REQUESTS_PER_TURN as usize, "{requests_in_turn} in one turn");
            answered += requests_in_turn;
            turns += 1;
        }
        // Nor does it take many more turns than that makes.
        assert!(turns <= 3 * REQUESTS / REQUESTS_PER_TURN as usize, "{turns} turns");
    }
}
