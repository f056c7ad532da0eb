//! When a subtask that has ended may be gone, and when it must be. The server's clock and ours are one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long subtasks that have ended are kept.
pub(crate) const RETAIN: Duration = Duration::from_secs(5);

/// How much longer one may still be there: the server looks every half second, and on a busy machine takes its time.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

const RETAIN_MS: u64 = RETAIN.as_millis() as u64;
const GRACE_MS: u64 = GRACE.as_millis() as u64;

/// Milliseconds since the beginning of 1970.
pub(crate) type Moment = u64;

pub(crate) fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// When something has happened: not before the one, not after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

/// When a subtask has ended, in whole seconds rounded up as the server does: not before the one, not after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    from: u32,
    to: u32,
    /// When the server knew of it at the latest.
    known: Moment,
}

impl Ended {
    /// As a worker says who reports it in a window.
    pub(crate) fn given(seconds: u32, reported: Window) -> Self {
        Self { from: seconds, to: seconds, known: reported.to }
    }

    /// By the server's clock, when it is reported.
    pub(crate) fn when(reported: Window) -> Self {
        // Milliseconds are rounded down.
        Self { from: seconds(reported.from), to: seconds(reported.to + 1), known: reported.to }
    }

    /// Either of both.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to), known: self.known.max(other.known) }
    }

    /// Until when it is there for certain.
    pub(crate) fn stays_until(self) -> Moment {
        1000 * u64::from(self.from) + RETAIN_MS
    }

    /// Whether it must be gone, if the server has been `up` like this.
    pub(crate) fn is_gone(self, at: Moment, up: Uptime) -> bool {
        let at = up.ending.map_or(at, |ending| at.min(ending));
        (1000 * u64::from(self.to) + RETAIN_MS).max(self.known).max(up.ready) + GRACE_MS <= at
    }
}

fn seconds(moment: Moment) -> u32 {
    moment.div_ceil(1000) as u32
}

/// From when and until when a server has looked for what ended long ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uptime {
    pub(crate) ready: Moment,
    pub(crate) ending: Option<Moment>,
}
