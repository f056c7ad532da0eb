//! Tests of one connection, on a pipe in memory.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::Method;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::state::{REQUESTS_PER_TURN, tests::TIMEOUTS};
use super::*;
use crate::metrics::{Listener, Metrics};
use crate::web::observers::Observers;
use crate::web::operation::Operation;
use crate::web::request_id::RequestIds;
use crate::web::routes::Routes;

/// An application that counts the requests that it has answered.
fn app(answered: Arc<AtomicUsize>) -> App {
    let answer = async |answered: Arc<Arc<AtomicUsize>>, _| {
        answered.fetch_add(1, Relaxed);
    };
    let root = Operation::new("", Method::GET, "/", None, answer);
    let (metrics, ids) = (Arc::new(Metrics::new().unwrap()), RequestIds::new().unwrap());
    let routes = Routes::new(vec![root], &answered, Listener::Public, &metrics);
    App::new(routes, metrics, ids, Duration::from_secs(10), Observers::default())
}

/// Serves a connection of [`app`].
async fn serve_app<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    answered: Arc<AtomicUsize>,
    drain: Arc<Drain>,
) -> usize {
    serve(socket, app(answered), ConnectionState::new(TIMEOUTS, drain.clone()), drain).await
}

/// Begins a drain while a connection is idle. Returns both.
struct Drained {
    far: DuplexStream,
    served: JoinHandle<usize>,
    begun: Instant,
}

impl Drained {
    async fn begin() -> Self {
        let (far, near) = duplex(64 * 1024);
        let drain = Arc::<Drain>::default();
        let served = tokio::spawn(serve_app(near, Arc::default(), drain.clone()));
        yield_now().await;
        let begun = Instant::now();
        drain.begin(begun + Duration::from_secs(10));
        Self { far, served, begun }
    }

    /// Milliseconds since the drain has begun.
    fn elapsed(&self) -> u128 {
        self.begun.elapsed().as_millis()
    }
}

/// Whether a time equals the constant. The timer of the runtime rounds up to the next millisecond.
fn is_near(elapsed: u128, expected: Duration) -> bool {
    (expected.as_millis()..expected.as_millis() + 3).contains(&elapsed)
}

#[tokio::test(start_paused = true)]
async fn the_drain_closes_an_idle_connection_after_20_milliseconds() {
    let mut drained = Drained::begin().await;
    assert_eq!(drained.far.read(&mut [0]).await.unwrap(), 0);
    assert!(is_near(drained.elapsed(), Duration::from_millis(20)), "{}", drained.elapsed());
    let elapsed = drained.elapsed();
    drop(drained.far);
    assert_eq!(drained.served.await.unwrap(), 0);
    assert_eq!(drained.begun.elapsed().as_millis(), elapsed, "it does not linger once the peer has closed");
}

#[tokio::test(start_paused = true)]
async fn the_drain_lingers_for_100_milliseconds_on_a_peer_that_does_not_close() {
    let mut drained = Drained::begin().await;
    assert_eq!((&mut drained.served).await.unwrap(), 0);
    assert!(is_near(drained.elapsed(), Duration::from_millis(120)), "{}", drained.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_just_after_the_drain_has_begun_is_answered() {
    let mut drained = Drained::begin().await;
    sleep(Duration::from_millis(15)).await;
    drained.far.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut response = String::new();
    drained.far.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("connection: close"), "{response}");
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn a_pipeline_is_answered_in_turns_of_bounded_length() {
    const REQUESTS: usize = 1000;
    let (mut far, near) = duplex(1024 * 1024);
    far.write_all(REQUEST.repeat(REQUESTS).as_bytes()).await.unwrap();
    let answered = Arc::<AtomicUsize>::default();
    let mut served = pin!(serve_app(near, answered.clone(), Arc::default()));
    let (mut before, mut turns) = (0, 0);
    while before < REQUESTS {
        poll_fn(|cx| {
            assert!(served.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let in_turn = answered.load(Relaxed) - before;
        assert!(in_turn <= REQUESTS_PER_TURN as usize, "{in_turn} in one turn");
        before += in_turn;
        turns += 1;
    }
    // A turn answers about as many requests as its limit.
    assert!(turns <= 3 * REQUESTS / REQUESTS_PER_TURN as usize, "{turns} turns");
}

/// A socket that counts its writes.
struct CountedWrites {
    socket: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for CountedWrites {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountedWrites {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Relaxed);
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What the peer gets for these requests and the bytes behind them, while it keeps the connection open, and in how many writes.
async fn answers(requests: &str, rest: &str) -> (String, usize) {
    let (mut far, socket) = duplex(1024 * 1024);
    let writes = Arc::<AtomicUsize>::default();
    far.write_all(format!("{requests}{rest}").as_bytes()).await.unwrap();
    let socket = CountedWrites { socket, writes: writes.clone() };
    let served = tokio::spawn(serve_app(socket, Arc::default(), Arc::default()));
    let (expected, mut text) = (requests.matches("GET / ").count(), String::new());
    while text.matches("\r\n\r\n").count() < expected {
        let mut bytes = [0; 64 * 1024];
        let read = far.read(&mut bytes).await.unwrap();
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    served.abort();
    (text, writes.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn sixteen_pipelined_requests_are_answered_in_one_write() {
    let (text, writes) = answers(&REQUEST.repeat(16), "").await;
    assert_eq!((text.matches("HTTP/1.1 200 OK\r\n").count(), writes), (16, 1));
}

/// With hyper's `pipeline_flush` the response waits until the rest is read: see ARCHITECTURE.md.
#[tokio::test(start_paused = true)]
async fn a_request_is_answered_at_once_whatever_follows_it() {
    for rest in ["", "\r\n", "\r", "G", "GET /", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let (text, writes) = answers(REQUEST, rest).await;
        assert_eq!((text.matches("200 OK").count(), writes), (1, 1), "{rest:?}");
    }
}

/// hyper's own option would keep the response back. If this test fails, the option may replace `Gather`.
#[tokio::test(start_paused = true)]
async fn with_pipeline_flush_hyper_keeps_a_response_back_while_a_byte_behind_the_request_is_unread() {
    for rest in ["\r", "G"] {
        let (mut far, near) = duplex(1024);
        far.write_all(format!("{REQUEST}{rest}").as_bytes()).await.unwrap();
        let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(axum::body::Body::empty())));
        let connection = http1::Builder::new().pipeline_flush(true).serve_connection(TokioIo::new(near), service);
        let served = tokio::spawn(connection);
        assert!(timeout(Duration::from_secs(60), far.read(&mut [0])).await.is_err(), "{rest:?}");
        served.abort();
    }
}
