//! The state machine of a connection, with a timeout for each phase.
//!
//! Phases: new until the first byte, idle between requests, reading a head, busy until the HTTP layer has the whole response,
//! lingering once the server has closed its side. Idle connections and heads have different timeouts. With one for both,
//! a short one would close a gateway's pooled connections, and a long one would let a slow sender hold a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::drain::Drain;
use super::fragment::FragmentDetector;

/// How long the server waits for a peer to read the last response and close the connection.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most requests of a pipeline that are answered before the connection's task yields. It is below 16, since after 16 the
/// HTTP layer wakes its own task, and the runtime would poll that task again before it polls for input on other connections.
pub(super) const REQUESTS_PER_TURN: u32 = 12;

/// In place of a start time: the phase began in this turn of the connection's task. Most phases end within the same turn, and
/// the clock is never read for those.
const UNSTAMPED: u64 = u64::MAX;

/// How long a connection may stay in a phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// From accepting it to its first byte.
    pub(super) first_byte: Duration,
    /// From a request's first byte to the end of its head.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Whether it is closed after its first response.
    pub(super) is_single_request: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ConnectionPhase {
    /// No byte has been read yet.
    New,
    /// Between two requests.
    Idle,
    /// A part of a request's head has been read.
    ReadingHead,
    /// A request is processed or its response is written.
    Busy,
    /// The server has shut down its side and waits for the peer to close.
    Lingering,
}

/// A connection's phase and when it began. The socket, the service and the response bodies share it. All of them run in the
/// connection's task, so relaxed atomics are enough.
#[derive(Debug)]
pub(super) struct ConnectionState {
    timeouts: Timeouts,
    start: Instant,
    phase: AtomicU8,
    /// When the phase began, in microseconds from `start`, or [`UNSTAMPED`].
    since: AtomicU64,
    /// The last four bytes read, the newest lowest.
    tail: AtomicU32,
    /// Whether bytes of the next request were read together with the current one.
    has_next_begun: AtomicBool,
    /// Whether the last write is pending, since the peer's receive window is full.
    pub(super) has_unsent: AtomicBool,
    /// How many requests began in this turn of the task.
    requests_in_turn: AtomicU32,
    drain: Arc<Drain>,
    /// Finds fragments in request targets.
    pub(super) fragment_detector: FragmentDetector,
}

impl ConnectionState {
    pub(super) fn new(timeouts: Timeouts, drain: Arc<Drain>) -> Arc<Self> {
        Arc::new(Self {
            timeouts,
            drain,
            requests_in_turn: AtomicU32::new(0),
            start: Instant::now(),
            phase: AtomicU8::new(ConnectionPhase::New as u8),
            since: AtomicU64::new(0),
            tail: AtomicU32::new(0),
            has_next_begun: AtomicBool::new(false),
            has_unsent: AtomicBool::new(false),
            fragment_detector: FragmentDetector::default(),
        })
    }

    /// Whether a request is processed, or a response waits for the peer to read it.
    pub(super) fn is_busy(&self) -> bool {
        self.phase() == ConnectionPhase::Busy || self.has_unsent.load(Relaxed)
    }

    /// Begins a turn of the connection's task. A request that the last turn postponed counts in this one.
    pub(super) fn begin_turn(&self) {
        self.requests_in_turn.store(u32::from(self.phase() == ConnectionPhase::Busy), Relaxed);
    }

    /// Whether this turn has answered [`REQUESTS_PER_TURN`] requests and another one waits.
    pub(super) fn is_turn_over(&self) -> bool {
        self.requests_in_turn.load(Relaxed) > REQUESTS_PER_TURN
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Begins the first phase again, when a TLS handshake has ended.
    pub(super) fn restart(&self) {
        self.set_phase(ConnectionPhase::New);
    }

    /// The shortest timeout. A timer set to it fires before any deadline that a later phase may have.
    pub(super) fn tick(&self) -> Duration {
        self.timeouts.first_byte.min(self.timeouts.head).min(self.timeouts.idle)
    }

    /// Whether the current response is the connection's last.
    pub(super) fn is_last_response(&self) -> bool {
        self.timeouts.is_single_request || self.drain.is_announced()
    }

    /// Whether the server has shut down its side.
    pub(super) fn is_lingering(&self) -> bool {
        self.phase() == ConnectionPhase::Lingering
    }

    /// When the connection is closed unless its phase changes before. A busy one has no deadline: requests have their own
    /// timeout.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let limit = match self.phase() {
            ConnectionPhase::New => self.timeouts.first_byte,
            ConnectionPhase::Idle => self.timeouts.idle,
            ConnectionPhase::ReadingHead => self.timeouts.head,
            ConnectionPhase::Lingering => LINGER_TIMEOUT,
            ConnectionPhase::Busy => return None,
        };
        Some(self.start + Duration::from_micros(self.stamp_phase()) + limit)
    }

    /// Records the current time as the start of a phase that began in this turn. Called at the end of each turn. Returns when
    /// the phase began, in microseconds from `start`.
    pub(super) fn stamp_phase(&self) -> u64 {
        match self.since.load(Relaxed) {
            UNSTAMPED => {
                let now = self.start.elapsed().as_micros() as u64;
                self.since.store(now, Relaxed);
                now
            }
            since => since,
        }
    }

    /// Enters the busy phase: a request's head is complete.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> RequestGuard {
        // Bytes after a head without a body belong to the next request, unless they are empty lines. Where a body ends is
        // unknown here, so a partial request behind a body falls under the idle timeout.
        let tail = self.tail.load(Relaxed);
        let at_end = tail & 0x00ff_ffff == 0x000a_0d0a || tail & 0xffff == 0x0a0a;
        self.has_next_begun.store(!has_body && !at_end, Relaxed);
        self.requests_in_turn.store(self.requests_in_turn.load(Relaxed) + 1, Relaxed);
        self.set_phase(ConnectionPhase::Busy);
        RequestGuard(self.clone())
    }

    fn phase(&self) -> ConnectionPhase {
        match self.phase.load(Relaxed) {
            0 => ConnectionPhase::New,
            1 => ConnectionPhase::Idle,
            2 => ConnectionPhase::ReadingHead,
            3 => ConnectionPhase::Busy,
            _ => ConnectionPhase::Lingering,
        }
    }

    pub(super) fn set_phase(&self, phase: ConnectionPhase) {
        self.since.store(UNSTAMPED, Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    pub(super) fn has_read(&self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(4)..];
        self.tail.store(last.iter().fold(self.tail.load(Relaxed), |tail, byte| tail << 8 | u32::from(*byte)), Relaxed);
        // Empty lines before a request are ignored (RFC 9112, section 2.2), so they begin no head.
        if matches!(self.phase(), ConnectionPhase::New | ConnectionPhase::Idle)
            && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
        {
            self.set_phase(ConnectionPhase::ReadingHead);
        }
    }
}

/// Keeps the connection busy. Dropped when the HTTP layer has the whole response.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl RequestGuard {
    /// Whether the request waits for the next turn of the task.
    pub(super) fn must_yield(&self) -> bool {
        self.0.is_turn_over()
    }

    pub(super) fn is_last_response(&self) -> bool {
        self.0.is_last_response()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.set_phase(if self.0.has_next_begun.load(Relaxed) {
            ConnectionPhase::ReadingHead
        } else {
            ConnectionPhase::Idle
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const TIMEOUTS: Timeouts = Timeouts {
        first_byte: Duration::from_secs(8),
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        is_single_request: false,
    };

    /// Seconds from now to the deadline.
    pub(in super::super) fn seconds_left(state: &ConnectionState) -> Option<u64> {
        state.deadline().map(|at| (at - Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn new_connections_heads_and_idle_connections_have_a_timeout_each() {
        let state = ConnectionState::new(TIMEOUTS, Arc::default());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(seconds_left(&state), Some(5));
        state.has_read(b"G");
        assert_eq!(seconds_left(&state), Some(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        state.has_read(b"ET / HTTP/1.1\r\n\r\n");
        assert_eq!(seconds_left(&state), Some(6));
        let request = state.begin(false);
        assert!(state.is_busy());
        assert_eq!(seconds_left(&state), None);
        drop(request);
        assert_eq!(seconds_left(&state), Some(75));
        tokio::time::advance(Duration::from_secs(74)).await;
        assert_eq!(seconds_left(&state), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_begin_no_head_and_extend_no_timeout() {
        let state = ConnectionState::new(TIMEOUTS, Arc::default());
        tokio::time::advance(Duration::from_secs(5)).await;
        state.has_read(b"\r\n");
        state.has_read(b"\n");
        assert_eq!(seconds_left(&state), Some(3));
        state.has_read(b"\r\nGET");
        assert_eq!(seconds_left(&state), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_request_behind_another_has_the_head_timeout() {
        for (read, has_body, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\nGET"[..], false, 10),
            (b"GET / HTTP/1.1\r\n\r\n\r\n", false, 75),
            (b"GET / HTTP/1.1\n\n", false, 75),
            (b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", true, 75),
        ] {
            let state = ConnectionState::new(TIMEOUTS, Arc::default());
            // Byte by byte: the worst case.
            read.iter().for_each(|byte| state.has_read(std::slice::from_ref(byte)));
            drop(state.begin(has_body));
            assert_eq!(seconds_left(&state), Some(expected), "{}", String::from_utf8_lossy(read));
        }
    }
}
