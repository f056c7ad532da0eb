//! One connection: HTTP/1.1 by hyper, closed by whichever clock runs out, by the drain, or by the peer.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::clock::{Busy, Clock, Limits, Timed};
use super::drain::Drain;
use crate::web::observe::{Answer, Observed};

/// The most bytes of a request's head; past it the HTTP layer answers 431.
const MAX_HEAD: usize = 256 * 1024;

/// Serves a connection until it ends; whether the drain had to cut a running request.
pub(super) async fn serve(socket: TcpStream, app: Observed, limits: Limits, drain: Arc<Drain>) -> bool {
    // Small answers should leave at once; a socket that cannot promise that still works.
    let _ = socket.set_nodelay(true);
    let clock = Clock::new(limits);
    let service = Service { app, clock: clock.clone() };
    // More than 100 headers are answered with 431 too; saying so here would cost an allocation a request.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Timed::new(socket, clock.clone())), service);
    let mut connection = pin!(connection);
    let mut drain_begins = pin!(drain.begun());
    let mut cut_at: Option<Instant> = None;
    let mut is_first_poll = true;
    // Fires within the shorter limit from whenever it is set, so before any deadline that comes up meanwhile.
    let tick = limits.head.min(limits.idle);
    let mut timer = pin!(sleep(tick));
    let mut is_closing = false;
    std::future::poll_fn(|cx| {
        // The first poll leaves the task's waker with the drain; later ones only look at a flag, which takes no lock.
        let look = std::mem::take(&mut is_first_poll) || (cut_at.is_none() && drain.deadline().is_some());
        if look && drain_begins.as_mut().poll(cx).is_ready() {
            cut_at = drain.deadline();
            connection.as_mut().graceful_shutdown();
            timer.as_mut().reset(Instant::now());
        }
        // How it ended is the peer's doing and nobody's error.
        if connection.as_mut().poll(cx).is_ready() || (cut_at.is_some() && !clock.is_busy()) {
            return Poll::Ready(false);
        }
        clock.settle();
        if !is_closing && clock.is_closing() {
            is_closing = true;
            timer.as_mut().reset(Instant::now());
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if cut_at.is_some_and(|at| at <= now) {
                return Poll::Ready(true);
            }
            let next = clock.deadline().unwrap_or(now + tick).min(now + tick);
            if next <= now {
                return Poll::Ready(false);
            }
            let next = cut_at.map_or(next, |at| at.min(next));
            timer.as_mut().reset(next);
        }
    })
    .await
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
        Answering { answer: self.app.call(request), busy: Some(busy) }
    }
}

pin_project! {
    struct Answering {
        #[pin]
        answer: Answer,
        busy: Option<Busy>,
    }
}

impl Future for Answering {
    type Output = Result<Response<Watched>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx));
        let busy = this.busy.take();
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
