//! The open streams of a connection, and when the connection ends for lack of progress.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::state::{ConnectionPhase, ConnectionState, LINGER_TIMEOUT};
use super::frames::Progress;

/// The most requests that the peer may cancel before their response within [`CANCEL_WINDOW`]. A peer that opens and resets
/// streams all the time has more requests begun than the limit of open streams allows.
const MAX_CANCELLED: u32 = 500;
const CANCEL_WINDOW: Duration = Duration::from_secs(10);

/// In place of a time: none.
const NEVER: u64 = u64::MAX;

/// What the task of a connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for input, until this time at most.
    Wait(Instant),
    /// Tells the peer that no further request is accepted.
    Close,
    /// Closes the socket.
    End {
        /// How many requests still run, at the end of the drain.
        aborted: usize,
    },
}

/// What the tasks of the streams and the socket tell the task of the connection.
#[derive(Debug)]
pub(super) struct Streams {
    connection: Arc<ConnectionState>,
    start: Instant,
    activity: Mutex<Activity>,
    /// Times in microseconds from `start`, or [`NEVER`]: when the head began that is being read, when bytes were last written, and
    /// when the server closed its side.
    head_began: AtomicU64,
    last_written: AtomicU64,
    lingering_since: AtomicU64,
    /// Whether the last write is pending, since the peer's receive window is full.
    has_unsent: AtomicBool,
}

/// The requests.
#[derive(Debug)]
struct Activity {
    open: usize,
    has_begun: bool,
    /// When the last open request ended, or the connection began.
    idle_since: Instant,
    /// The cancelled requests of the current window, and when it began.
    cancelled: u32,
    window_began: Instant,
}

impl Streams {
    pub(super) fn new(connection: Arc<ConnectionState>) -> Arc<Self> {
        let start = Instant::now();
        let activity = Activity { open: 0, has_begun: false, idle_since: start, cancelled: 0, window_began: start };
        Arc::new(Self {
            connection,
            start,
            activity: Mutex::new(activity),
            // The preface has the time of a head.
            head_began: AtomicU64::new(0),
            last_written: AtomicU64::new(0),
            lingering_since: AtomicU64::new(NEVER),
            has_unsent: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        // Each change under the lock is one step.
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request.
    pub(super) fn begin(self: &Arc<Self>) -> StreamGuard {
        let mut activity = self.lock();
        activity.open += 1;
        activity.has_begun = true;
        self.connection.set_phase(ConnectionPhase::Busy);
        StreamGuard { streams: self.clone(), is_answered: false }
    }

    fn end(&self, is_answered: bool) {
        let (mut activity, now) = (self.lock(), Instant::now());
        activity.open -= 1;
        if activity.open == 0 {
            activity.idle_since = now;
            self.connection.set_phase(ConnectionPhase::Idle);
        }
        if !is_answered {
            if activity.window_began + CANCEL_WINDOW <= now {
                (activity.cancelled, activity.window_began) = (0, now);
            }
            activity.cancelled += 1;
        }
    }

    /// Whether a request has begun after which the connection accepts no more.
    pub(super) fn has_last_request(&self) -> bool {
        self.connection.is_last_response() && self.lock().has_begun
    }

    /// What follows at this time.
    pub(super) fn next(&self, now: Instant, closing_since: Option<Instant>, abort_at: Option<Instant>) -> Next {
        let (activity, timeouts) = (self.lock(), self.connection.timeouts());
        let has_unsent = self.has_unsent.load(Relaxed);
        if abort_at.is_some_and(|at| at <= now) {
            return Next::End { aborted: activity.open.max(usize::from(has_unsent)) };
        }
        if activity.cancelled > MAX_CANCELLED {
            return Next::End { aborted: 0 };
        }
        let idle_until = (activity.open == 0).then_some(activity.idle_since + timeouts.idle);
        // While it closes: until the peer has read the last bytes and says that it knows.
        let answered_until = closing_since.filter(|_| activity.open == 0 && !has_unsent).map(|since| {
            let written = self.time(&self.last_written).unwrap_or(since);
            since.max(written).max(activity.idle_since) + LINGER_TIMEOUT
        });
        let end_at = [
            self.time(&self.lingering_since).map(|since| since + LINGER_TIMEOUT),
            self.time(&self.head_began).map(|began| began + timeouts.head),
            answered_until,
            // A peer that does not read has the time of an idle connection.
            idle_until.filter(|_| closing_since.is_some() && has_unsent),
        ];
        let end_at = end_at.into_iter().flatten().min();
        if end_at.is_some_and(|at| at <= now) {
            return Next::End { aborted: 0 };
        }
        let close_at = idle_until.filter(|_| closing_since.is_none());
        if close_at.is_some_and(|at| at <= now) {
            return Next::Close;
        }
        // No later phase has a shorter timeout than the tick, except those that begin in the task itself.
        let tick = now + self.connection.tick();
        Next::Wait([end_at, close_at, abort_at].into_iter().flatten().fold(tick, Instant::min))
    }

    pub(super) fn has_read(&self, Progress { has_completed, is_incomplete }: Progress) {
        if !is_incomplete {
            self.head_began.store(NEVER, Relaxed);
        } else if has_completed || self.head_began.load(Relaxed) == NEVER {
            self.head_began.store(self.now(), Relaxed);
        }
    }

    pub(super) fn has_written(&self, is_pending: bool) {
        self.has_unsent.store(is_pending, Relaxed);
        if !is_pending {
            self.last_written.store(self.now(), Relaxed);
        }
    }

    pub(super) fn has_flushed(&self, is_pending: bool) {
        self.has_unsent.store(is_pending, Relaxed);
    }

    /// The server has closed its side.
    pub(super) fn linger(&self) {
        self.lingering_since.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn time(&self, micros: &AtomicU64) -> Option<Instant> {
        let micros = micros.load(Relaxed);
        (micros != NEVER).then(|| self.start + Duration::from_micros(micros))
    }
}

/// Keeps a request open. Dropped when the HTTP layer has the whole response, or when the peer has reset the stream.
#[derive(Debug)]
pub(super) struct StreamGuard {
    streams: Arc<Streams>,
    is_answered: bool,
}

impl StreamGuard {
    /// There is a response.
    pub(super) fn answered(mut self) -> Self {
        self.is_answered = true;
        self
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.end(self.is_answered);
    }
}
