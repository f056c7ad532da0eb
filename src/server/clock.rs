//! The two clocks of a connection, and the socket that sets them.
//!
//! A connection is new until its first byte, idle between requests, in a head until the end of that head, busy until the response is
//! handed over, and closing once the server has said its last. Idle and head have a clock each: with one for both, either
//! a gateway's pooled connections would be closed under it or a slow sender would hold a connection for a minute.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::drain::Drain;
use super::fragment::Fragments;

/// How long the server waits for a peer to take the last answer and close.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How much of what a peer still sends after the last answer is read, so that the answer is not lost in a reset.
const LINGER_BYTES: usize = 1024 * 1024;

/// How many requests of a pipeline are answered before others get their turn. Less than the 16 after which the HTTP layer asks
/// for a next turn at once, without letting the runtime look at other connections first.
pub(super) const REQUESTS_PER_TURN: u32 = 12;

/// A state that has begun since the connection's task last looked. Most states begin and end within one turn of the task,
/// and the system is not asked for the time of those.
const UNSETTLED: u64 = u64::MAX;

/// How long a connection may be in a state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Until its first byte.
    pub(super) first_byte: Duration,
    /// From a request's first byte to the end of its head.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Whether it is closed after its first answer.
    pub(super) is_for_one_request: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// No byte has come yet.
    New,
    Idle,
    Head,
    Busy,
    Closing,
}

/// Where a connection stands and since when. Its socket, its service and its response bodies share it, and all of them run
/// in the connection's task, so that relaxed atomics do.
#[derive(Debug)]
pub(super) struct Clock {
    limits: Limits,
    start: Instant,
    state: AtomicU8,
    /// Microseconds from `start` to when the state began, or [`UNSETTLED`].
    since: AtomicU64,
    /// The last four bytes read, the newest lowest.
    tail: AtomicU32,
    /// Whether bytes of a next request have come while this one is worked on.
    next_begun: AtomicBool,
    /// Whether the peer has yet to make room for what was last written.
    unsent: AtomicBool,
    /// How many requests have begun in this turn of the task.
    in_turn: AtomicU32,
    drain: Arc<Drain>,
    /// Where a request target may have a fragment.
    pub(super) fragments: Fragments,
}

impl Clock {
    pub(super) fn new(limits: Limits, drain: Arc<Drain>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            drain,
            in_turn: AtomicU32::new(0),
            start: Instant::now(),
            state: AtomicU8::new(State::New as u8),
            since: AtomicU64::new(0),
            tail: AtomicU32::new(0),
            next_begun: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            fragments: Fragments::default(),
        })
    }

    /// Whether a request is being worked on, or its answer waits for the peer to take it.
    pub(super) fn is_busy(&self) -> bool {
        self.state() == State::Busy || self.unsent.load(Relaxed)
    }

    /// A turn of the connection's task begins, with the request that waited for it if there is one.
    pub(super) fn begin_turn(&self) {
        self.in_turn.store(u32::from(self.state() == State::Busy), Relaxed);
    }

    /// Whether as many requests as a turn may answer have been, and another waits.
    pub(super) fn is_turn_over(&self) -> bool {
        self.in_turn.load(Relaxed) > REQUESTS_PER_TURN
    }

    /// The shortest limit: a timer that is set to it fires before any deadline that comes up meanwhile.
    pub(super) fn tick(&self) -> Duration {
        self.limits.first_byte.min(self.limits.head).min(self.limits.idle)
    }

    /// Whether the answer that is being made is the connection's last.
    pub(super) fn is_last_answer(&self) -> bool {
        self.limits.is_for_one_request || self.drain.is_announced()
    }

    /// Whether the server has said its last.
    pub(super) fn is_closing(&self) -> bool {
        self.state() == State::Closing
    }

    /// When the connection must be closed if nothing changes before. A request that is worked on has its own time-out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let limit = match self.state() {
            State::New => self.limits.first_byte,
            State::Idle => self.limits.idle,
            State::Head => self.limits.head,
            State::Closing => LINGER,
            State::Busy => return None,
        };
        Some(self.start + Duration::from_micros(self.settle()) + limit)
    }

    /// Lets the state begin now, if it has begun since the last look; returns when it did. To be called at the end of each
    /// turn of the task.
    pub(super) fn settle(&self) -> u64 {
        match self.since.load(Relaxed) {
            UNSETTLED => {
                let now = self.start.elapsed().as_micros() as u64;
                self.since.store(now, Relaxed);
                now
            }
            since => since,
        }
    }

    /// A request's head has been read whole.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> Busy {
        // What follows a head without a body is a next request, and white space before one is nothing. Where a body ends
        // cannot be told from here; half a request behind one falls under the idle clock.
        let tail = self.tail.load(Relaxed);
        let at_end = tail & 0x00ff_ffff == 0x000a_0d0a || tail & 0xffff == 0x0a0a;
        self.next_begun.store(!has_body && !at_end, Relaxed);
        self.in_turn.store(self.in_turn.load(Relaxed) + 1, Relaxed);
        self.enter(State::Busy);
        Busy(self.clone())
    }

    fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::New,
            1 => State::Idle,
            2 => State::Head,
            3 => State::Busy,
            _ => State::Closing,
        }
    }

    fn enter(&self, state: State) {
        self.since.store(UNSETTLED, Relaxed);
        self.state.store(state as u8, Relaxed);
    }

    fn has_read(&self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(4)..];
        self.tail.store(last.iter().fold(self.tail.load(Relaxed), |tail, byte| tail << 8 | u32::from(*byte)), Relaxed);
        // Empty lines before a request are no part of it (RFC 9112, section 2.2), and so begin no head.
        if matches!(self.state(), State::New | State::Idle) && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            self.enter(State::Head);
        }
    }
}

/// A request that is worked on; dropped when its response has been handed over.
#[derive(Debug)]
pub(super) struct Busy(Arc<Clock>);

impl Busy {
    /// Whether the request has to wait for the next turn.
    pub(super) fn must_wait(&self) -> bool {
        self.0.is_turn_over()
    }

    pub(super) fn is_last_answer(&self) -> bool {
        self.0.is_last_answer()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(if self.0.next_begun.load(Relaxed) { State::Head } else { State::Idle });
    }
}

pin_project! {
    /// A socket that tells its connection's clock what it does, and that closes without losing the last answer.
    #[derive(Debug)]
    pub(super) struct Timed<S> {
        #[pin]
        socket: S,
        clock: Arc<Clock>,
        is_shut: bool,
        discarded: usize,
    }
}

impl<S> Timed<S> {
    pub(super) fn new(socket: S, clock: Arc<Clock>) -> Self {
        Self { socket, clock, is_shut: false, discarded: 0 }
    }
}

impl<S: AsyncRead> AsyncRead for Timed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        this.clock.fragments.will_read_to(buf.filled().as_ptr().addr() + before);
        ready!(this.socket.poll_read(cx, buf))?;
        this.clock.has_read(&buf.filled()[before..]);
        this.clock.fragments.has_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Timed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.socket.poll_write(cx, buf);
        this.clock.unsent.store(written.is_pending(), Relaxed);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = this.socket.poll_write_vectored(cx, bufs);
        this.clock.unsent.store(written.is_pending(), Relaxed);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().socket.poll_flush(cx)
    }

    /// Says that nothing more will come, then reads on until the peer has closed too: a socket closed with unread bytes
    /// resets the connection, and the peer may lose the answer it was about to read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if !*this.is_shut {
            ready!(this.socket.as_mut().poll_shutdown(cx))?;
            *this.is_shut = true;
            this.clock.enter(State::Closing);
        }
        let mut scratch = [0; 4096];
        while *this.discarded < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(this.socket.as_mut().poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                more => *this.discarded += more,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        first_byte: Duration::from_secs(8),
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        is_for_one_request: false,
    };

    /// Seconds from now to the deadline.
    fn left(clock: &Clock) -> Option<u64> {
        clock.deadline().map(|at| (at - Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_a_head_and_an_idle_connection_have_a_time_each() {
        let clock = Clock::new(LIMITS, Arc::default());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(left(&clock), Some(5));
        clock.has_read(b"G");
        assert_eq!(left(&clock), Some(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        clock.has_read(b"ET / HTTP/1.1\r\n\r\n");
        assert_eq!(left(&clock), Some(6));
        let busy = clock.begin(false);
        assert!(clock.is_busy());
        assert_eq!(left(&clock), None);
        drop(busy);
        assert_eq!(left(&clock), Some(75));
        tokio::time::advance(Duration::from_secs(74)).await;
        assert_eq!(left(&clock), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_are_no_head_and_gain_no_time() {
        let clock = Clock::new(LIMITS, Arc::default());
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.has_read(b"\r\n");
        clock.has_read(b"\n");
        assert_eq!(left(&clock), Some(3));
        clock.has_read(b"\r\nGET");
        assert_eq!(left(&clock), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_behind_another_is_a_head() {
        for (read, has_body, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\nGET"[..], false, 10),
            (b"GET / HTTP/1.1\r\n\r\n\r\n", false, 75),
            (b"GET / HTTP/1.1\n\n", false, 75),
            (b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", true, 75),
        ] {
            let clock = Clock::new(LIMITS, Arc::default());
            // Byte by byte, as the worst sender does.
            read.iter().for_each(|byte| clock.has_read(std::slice::from_ref(byte)));
            drop(clock.begin(has_body));
            assert_eq!(left(&clock), Some(expected), "{}", String::from_utf8_lossy(read));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_is_waited_for_but_not_long() {
        let (near, far) = tokio::io::duplex(64);
        let clock = Clock::new(LIMITS, Arc::default());
        let mut socket = Timed::new(near, clock.clone());
        let shutdown = std::future::poll_fn(|cx| Pin::new(&mut socket).poll_shutdown(cx));
        tokio::pin!(shutdown);
        tokio::select! {
            biased;
            _ = &mut shutdown => panic!("the peer has not closed yet"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(left(&clock), Some(LINGER.as_secs()));
        drop(far);
        assert!(shutdown.await.is_ok());
    }
}
