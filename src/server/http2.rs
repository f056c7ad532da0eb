//! One HTTP/2 connection: streams by hyper, closed by a timeout, by the drain, or by the peer.
//!
//! Each request runs in a task of its own, which ends with the connection. The connection has the timeouts of one with HTTP/1
//! (`state.rs`), which [`Streams`] measures: hyper tells neither when a head begins nor when the last stream ends.

mod frames;
mod request_body;
mod service;
mod socket;
mod streams;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::service::Http2Service;
use self::socket::Http2Socket;
use self::streams::{Next, Streams};
use super::drain::Drain;
use super::state::ConnectionState;
use crate::web::instrument::App;

/// The most requests of one connection that run at once.
const MAX_CONCURRENT_STREAMS: u32 = 100;

/// The most bytes of a request's head, as HTTP/2 counts them: 64 KiB in HTTP/1, and 32 bytes for each of 100 headers.
const MAX_HEADER_LIST_BYTES: u32 = 68 * 1024;

/// The most bytes of a body that the peer may send before the request reads them, of one request and of all.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The most bytes of a response that wait for the peer's window, in addition to one frame of the body.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// After which silence the server asks whether the peer still answers, and for how long it waits.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The most streams that the peer has opened and reset, and that are not processed yet.
const MAX_PENDING_RESETS: usize = 20;

/// The most streams that the server resets because of their errors, in the life of a connection.
const MAX_ERROR_RESETS: usize = 1024;

/// Serves a connection until it ends. Returns how many running requests the drain aborted.
pub(super) async fn serve<S>(socket: S, app: App, state: Arc<ConnectionState>, drain: Arc<Drain>) -> usize
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let streams = Streams::new(state.clone());
    // Dropped at the end of the connection, which aborts the tasks.
    let tasks = Arc::<Mutex<JoinSet<()>>>::default();
    let executor = StreamExecutor(Arc::downgrade(&tasks));
    let builder = builder(executor.clone(), state.timeouts().is_single_request);
    let io = TokioIo::new(Http2Socket::new(socket, streams.clone()));
    let mut connection = pin!(builder.serve_connection(io, Http2Service::new(app, streams.clone(), executor)));
    let mut drain_begun = pin!(drain.wait_until_begun());
    let (mut is_first_poll, mut is_draining) = (true, false);
    // Since when the peer knows that the server accepts no further requests.
    let mut closing_since: Option<Instant> = None;
    let mut timer = pin!(sleep(state.tick()));
    poll_fn(|cx: &mut Context<'_>| {
        // The first poll registers the task's waker with the drain. Later polls only read a flag.
        let look = std::mem::take(&mut is_first_poll) || drain.deadline().is_some();
        is_draining = is_draining || (look && drain_begun.as_mut().poll(cx).is_ready());
        loop {
            // An error here is the peer's, so it is not logged.
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(0);
            }
            let now = Instant::now();
            let abort_at = if is_draining { drain.deadline() } else { None };
            let next = if closing_since.is_none() && (is_draining || streams.has_last_request()) {
                Next::Close
            } else {
                streams.next(now, closing_since, abort_at)
            };
            match next {
                Next::End { aborted } => return Poll::Ready(aborted),
                // Requests that are on their way are answered: the first GOAWAY refuses none.
                Next::Close => {
                    connection.as_mut().graceful_shutdown();
                    closing_since = Some(now);
                }
                Next::Wait(until) => {
                    if until < timer.deadline() || timer.is_elapsed() {
                        timer.as_mut().reset(until);
                    }
                    ready!(timer.as_mut().poll(cx));
                }
            }
        }
    })
    .await
}

fn builder(executor: StreamExecutor, is_single_request: bool) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(if is_single_request { 1 } else { MAX_CONCURRENT_STREAMS })
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Runs each request of a connection in a task. The tasks do not keep their set alive, so that it ends with the connection.
#[derive(Clone)]
struct StreamExecutor(Weak<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        // A panic cannot leave the set inconsistent.
        let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(stream);
    }
}
