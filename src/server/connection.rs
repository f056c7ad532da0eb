//! One connection: HTTP/1.1 by hyper, closed by whichever clock runs out, by the drain, or by the peer.

use std::convert::Infallible;
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
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::clock::{Busy, Clock, Timed};
use super::drain::Drain;
use crate::web::observe::{Answer, Observed};

/// The most bytes of a request's head; past it the HTTP layer answers 431.
const MAX_HEAD: usize = 256 * 1024;

/// How long a connection without a request stays open once the drain has begun: a request that had arrived by then is answered.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// How long a peer has to close a connection that the drain ends, so that neither its last answer nor the news is lost in a
/// reset.
const LAST_LINGER: Duration = Duration::from_millis(100);

/// How a connection ended.
enum End {
    /// The peer closed it, or a clock has run out.
    Over,
    /// The drain found no request on it.
    Idle,
    /// The drain's deadline came before the answer.
    Cut,
}

/// Serves a connection until it ends; whether the drain had to cut a running request.
pub(super) async fn serve(socket: TcpStream, app: Observed, clock: Arc<Clock>, drain: Arc<Drain>) -> bool {
    let service = Service { app, clock: clock.clone() };
    // More than 100 headers are answered with 431 too; saying so here would cost an allocation a request.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Timed::new(socket, clock.clone())), service);
    let mut drain_begins = pin!(drain.begun());
    // When the drain closes what is idle, and when it cuts what runs.
    let mut ends: Option<(Instant, Instant)> = None;
    let mut is_first_poll = true;
    let tick = clock.tick();
    let mut timer = pin!(sleep(tick));
    let mut is_closing = false;
    let end = std::future::poll_fn(|cx| {
        // The first poll leaves the task's waker with the drain; later ones only look at a flag, which takes no lock.
        let look = std::mem::take(&mut is_first_poll) || (ends.is_none() && drain.deadline().is_some());
        if look && drain_begins.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let cut_at = drain.deadline().unwrap_or(now);
            ends = Some(((now + LAST_LOOK).min(cut_at), cut_at));
            timer.as_mut().reset(now);
        }
        // How it ended is the peer's doing and nobody's error.
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(End::Over);
        }
        clock.settle();
        if !is_closing && clock.is_closing() {
            is_closing = true;
            timer.as_mut().reset(Instant::now());
        }
        if let Some((idle_at, _)) = ends.filter(|_| !clock.is_busy()) {
            if idle_at <= Instant::now() {
                return Poll::Ready(End::Idle);
            }
            timer.as_mut().reset(idle_at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let next = clock.deadline().unwrap_or(now + tick).min(now + tick);
            if next <= now {
                return Poll::Ready(End::Over);
            }
            let next = match ends {
                None => next,
                Some((idle_at, _)) if !clock.is_busy() && idle_at <= now => return Poll::Ready(End::Idle),
                Some((_, cut_at)) if clock.is_busy() && cut_at <= now => return Poll::Ready(End::Cut),
                Some((idle_at, cut_at)) => next.min(if clock.is_busy() { cut_at } else { idle_at }),
            };
            timer.as_mut().reset(next);
        }
    })
    .await;
    if matches!(end, End::Idle) {
        let mut socket = connection.into_parts().io.into_inner();
        let shut_down = std::future::poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx));
        // A peer that has gone or does not close is closed all the same.
        let _ = timeout(LAST_LINGER, shut_down).await;
    }
    matches!(end, End::Cut)
}

/// The application as one connection calls it.
struct Service {
    app: Observed,
    clock: Arc<Clock>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Watched>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let busy = self.clock.begin(!request.body().is_end_stream());
        let version = request.version();
        let has_fragment = self.clock.fragments.follows(request.uri());
        Answering { answer: self.app.call(request, has_fragment), busy: Some(busy), version }
    }
}

pin_project! {
    struct Answering {
        #[pin]
        answer: Answer,
        busy: Option<Busy>,
        version: Version,
    }
}

impl Future for Answering {
    type Output = Result<Response<Watched>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx));
        let busy = this.busy.take();
        if busy.as_ref().is_some_and(Busy::is_last_answer) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            // To an answer of a later version the HTTP layer adds that the connection stays, if an old caller wants that.
            *response.version_mut() = *this.version;
        }
        Poll::Ready(Ok(response.map(|body| Watched { body, _busy: busy })))
    }
}

pin_project! {
    /// A response's body, which keeps the connection busy until it has been handed over.
    struct Watched {
        #[pin]
        body: Body,
        _busy: Option<Busy>,
    }
}

impl http_body::Body for Watched {
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
