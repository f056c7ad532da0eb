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

use super::clock::{Busy, Clock, LINGER, Timed};
use super::drain::Drain;
use crate::web::instrument::{App, ResponseFuture};

/// The most bytes of a request's head; past it the HTTP layer answers 431.
const MAX_HEAD: usize = 256 * 1024;

/// How long a connection without a request stays open once the drain has begun: a request that had arrived by then is answered.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// How long a peer has to close a connection that the drain ends, so that neither its last answer nor the news is lost in a
/// reset.
const LAST_LINGER: Duration = Duration::from_millis(100);

/// The answer to a peer that begins to speak HTTP/2, which the HTTP layer leaves without one.
const VERSION_NOT_SUPPORTED: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// How a turn of a connection's task ended.
enum Turn {
    /// Others are to have theirs.
    Yield,
    /// The connection has ended.
    End(End),
}

/// How a connection ended.
enum End {
    /// The peer closed it, or a clock has run out.
    Over,
    /// The peer speaks HTTP/2.
    Http2,
    /// The drain found no request on it.
    Idle,
    /// The drain's deadline came before the answer.
    Cut,
}

/// Serves a connection until it ends; whether the drain had to cut a running request.
pub(super) async fn serve<S>(socket: S, app: App, clock: Arc<Clock>, drain: Arc<Drain>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
    let mut take_turn = |cx: &mut Context<'_>| {
        // The first poll leaves the task's waker with the drain; later ones only look at a flag, which takes no lock.
        let look = std::mem::take(&mut is_first_poll) || (ends.is_none() && drain.deadline().is_some());
        if look && drain_begins.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let cut_at = drain.deadline().unwrap_or(now);
            ends = Some(((now + LAST_LOOK).min(cut_at), cut_at));
            timer.as_mut().reset(now);
        }
        clock.begin_turn();
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Err(error)) if error.is_parse_version_h2() => return Poll::Ready(Turn::End(End::Http2)),
            // How it ended is the peer's doing and nobody's error.
            Poll::Ready(_) => return Poll::Ready(Turn::End(End::Over)),
            Poll::Pending => {}
        }
        clock.settle();
        if clock.is_turn_over() {
            return Poll::Ready(Turn::Yield);
        }
        if !is_closing && clock.is_closing() {
            is_closing = true;
            timer.as_mut().reset(Instant::now());
        }
        if let Some((idle_at, _)) = ends.filter(|_| !clock.is_busy()) {
            if idle_at <= Instant::now() {
                return Poll::Ready(Turn::End(End::Idle));
            }
            timer.as_mut().reset(idle_at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let next = clock.deadline().unwrap_or(now + tick).min(now + tick);
            if next <= now {
                return Poll::Ready(Turn::End(End::Over));
            }
            let next = match ends {
                None => next,
                Some((idle_at, _)) if !clock.is_busy() && idle_at <= now => return Poll::Ready(Turn::End(End::Idle)),
                Some((_, cut_at)) if clock.is_busy() && cut_at <= now => return Poll::Ready(Turn::End(End::Cut)),
                Some((idle_at, cut_at)) => next.min(if clock.is_busy() { cut_at } else { idle_at }),
            };
            timer.as_mut().reset(next);
        }
    };
    let end = loop {
        match poll_fn(&mut take_turn).await {
            Turn::End(end) => break end,
            // Unlike a task that only wakes itself, this lets the runtime look at what has come on other connections.
            Turn::Yield => yield_now().await,
        }
    };
    let (last_words, linger) = match end {
        End::Idle => (&b""[..], LAST_LINGER),
        End::Http2 => (VERSION_NOT_SUPPORTED, LINGER),
        End::Over => return false,
        End::Cut => return true,
    };
    let mut socket = connection.into_parts().io.into_inner();
    let closing = async {
        if !last_words.is_empty() {
            // At most a few answers were written before, so the system has space for all of it.
            poll_fn(|cx| Pin::new(&mut socket).poll_write(cx, last_words)).await?;
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
        answer: ResponseFuture,
        busy: Option<Busy>,
        version: Version,
    }
}

impl Future for Answering {
    type Output = Result<Response<Watched>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.busy.as_ref().is_some_and(Busy::must_wait) {
            // Nothing has to wake this: the connection's next turn comes by itself.
            return Poll::Pending;
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::get;
    use http::Method;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::clock::{Limits, REQUESTS_PER_TURN};
    use super::*;
    use crate::metrics::{Listener, Metrics};
    use crate::web::operation::{Operation, RouteLabels, router};
    use crate::web::request_id::RequestIds;

    const LIMITS: Limits = Limits {
        first_byte: Duration::from_secs(10),
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        is_for_one_request: false,
    };

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
        let mut served = pin!(serve(near, app(), Clock::new(LIMITS, drain.clone()), drain));
        let (mut answered, mut turns, mut unread) = (0, 0, Vec::new());
        while answered < REQUESTS {
            poll_fn(|cx| {
                assert!(served.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            unread.clear();
            while tokio::time::timeout(Duration::ZERO, far.read_buf(&mut unread)).await.is_ok() {}
            let in_turn = String::from_utf8_lossy(&unread).matches("HTTP/1.1 200 OK").count();
            assert!(in_turn <= REQUESTS_PER_TURN as usize, "{in_turn} in one turn");
            answered += in_turn;
            turns += 1;
        }
        // Nor does it take many more turns than that makes.
        assert!(turns <= 3 * REQUESTS / REQUESTS_PER_TURN as usize, "{turns} turns");
    }
}
