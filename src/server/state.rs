//! The two clocks of a connection, and the socket that sets them.
//!
//! A connection is new until its first byte, idle between requests, in a head until the end of that head, busy until the response is
//! handed over, and closing once the server has said its last. Idle and head have a clock each: with one for both, either
//! a gateway's pooled connections would be closed under it or a slow sender would hold a connection for a minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::drain::Drain;
use super::fragment::FragmentDetector;

/// How long the server waits for a peer to take the last answer and close.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many requests of a pipeline are answered before others get their turn. Less than the 16 after which the HTTP layer asks
/// for a next turn at once, without letting the runtime look at other connections first.
pub(super) const REQUESTS_PER_TURN: u32 = 12;

/// A state that has begun since the connection's task last looked. Most states begin and end within one turn of the task,
/// and the system is not asked for the time of those.
const UNSTAMPED: u64 = u64::MAX;

/// How long a connection may be in a state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Until its first byte.
    pub(super) first_byte: Duration,
    /// From a request's first byte to the end of its head.
    pub(super) head: Duration,
    /// Between requests.
    pub(super) idle: Duration,
    /// Whether it is closed after its first answer.
    pub(super) is_single_request: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ConnectionPhase {
    /// No byte has come yet.
    New,
    Idle,
    ReadingHead,
    Busy,
    Lingering,
}

/// Where a connection stands and since when. Its socket, its service and its response bodies share it, and all of them run
/// in the connection's task, so that relaxed atomics do.
#[derive(Debug)]
pub(super) struct ConnectionState {
    timeouts: Timeouts,
    start: Instant,
    phase: AtomicU8,
    /// Microseconds from `start` to when the state began, or [`UNSTAMPED`].
    since: AtomicU64,
    /// The last four bytes read, the newest lowest.
    tail: AtomicU32,
    /// Whether bytes of a next request have come while this one is worked on.
    has_next_begun: AtomicBool,
    /// Whether the peer has yet to make room for what was last written.
    pub(super) has_unsent: AtomicBool,
    /// How many requests have begun in this turn of the task.
    requests_in_turn: AtomicU32,
    drain: Arc<Drain>,
    /// Where a request target may have a fragment.
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

    /// Whether a request is being worked on, or its answer waits for the peer to take it.
    pub(super) fn is_busy(&self) -> bool {
        self.phase() == ConnectionPhase::Busy || self.has_unsent.load(Relaxed)
    }

    /// A turn of the connection's task begins, with the request that waited for it if there is one.
    pub(super) fn begin_turn(&self) {
        self.requests_in_turn.store(u32::from(self.phase() == ConnectionPhase::Busy), Relaxed);
    }

    /// Whether as many requests as a turn may answer have been, and another waits.
    pub(super) fn is_turn_over(&self) -> bool {
        self.requests_in_turn.load(Relaxed) > REQUESTS_PER_TURN
    }

    /// The shortest limit: a timer that is set to it fires before any deadline that comes up meanwhile.
    pub(super) fn tick(&self) -> Duration {
        self.timeouts.first_byte.min(self.timeouts.head).min(self.timeouts.idle)
    }

    /// Whether the answer that is being made is the connection's last.
    pub(super) fn is_last_response(&self) -> bool {
        self.timeouts.is_single_request || self.drain.is_announced()
    }

    /// Whether the server has said its last.
    pub(super) fn is_lingering(&self) -> bool {
        self.phase() == ConnectionPhase::Lingering
    }

    /// When the connection must be closed if nothing changes before. A request that is worked on has its own time-out.
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

    /// Lets the state begin now, if it has begun since the last look; returns when it did. To be called at the end of each
    /// turn of the task.
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

    /// A request's head has been read whole.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> RequestGuard {
        // What follows a head without a body is a next request, and white space before one is nothing. Where a body ends
        // cannot be told from here; half a request behind one falls under the idle clock.
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
        // Empty lines before a request are no part of it (RFC 9112, section 2.2), and so begin no head.
        if matches!(self.phase(), ConnectionPhase::New | ConnectionPhase::Idle)
            && bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
        {
            self.set_phase(ConnectionPhase::ReadingHead);
        }
    }
}

/// A request that is worked on; dropped when its response has been handed over.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl RequestGuard {
    /// Whether the request has to wait for the next turn.
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
    async fn a_new_connection_a_head_and_an_idle_connection_have_a_time_each() {
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
    async fn empty_lines_are_no_head_and_gain_no_time() {
        let state = ConnectionState::new(TIMEOUTS, Arc::default());
        tokio::time::advance(Duration::from_secs(5)).await;
        state.has_read(b"\r\n");
        state.has_read(b"\n");
        assert_eq!(seconds_left(&state), Some(3));
        state.has_read(b"\r\nGET");
        assert_eq!(seconds_left(&state), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_behind_another_is_a_head() {
        for (read, has_body, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\nGET"[..], false, 10),
            (b"GET / HTTP/1.1\r\n\r\n\r\n", false, 75),
            (b"GET / HTTP/1.1\n\n", false, 75),
            (b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", true, 75),
        ] {
            let state = ConnectionState::new(TIMEOUTS, Arc::default());
            // Byte by byte, as the worst sender does.
            read.iter().for_each(|byte| state.has_read(std::slice::from_ref(byte)));
            drop(state.begin(has_body));
            assert_eq!(seconds_left(&state), Some(expected), "{}", String::from_utf8_lossy(read));
        }
    }
}
