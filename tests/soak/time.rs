//! When the server may drop a subtask that has ended, and when it must. Server and soak read the same clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The server's `--retain-finished`.
pub(crate) const RETENTION: Duration = Duration::from_secs(5);

/// How late the server may drop a subtask: it looks every half second, and a busy machine delays it.
pub(crate) const EXPIRY_GRACE: Duration = Duration::from_secs(5);

const RETENTION_MS: u64 = RETENTION.as_millis() as u64;
const EXPIRY_GRACE_MS: u64 = EXPIRY_GRACE.as_millis() as u64;

/// Milliseconds since 1970.
pub(crate) type UnixMillis = u64;

pub(crate) fn now() -> UnixMillis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The time of an event: between `from` and `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from: UnixMillis,
    pub(crate) to: UnixMillis,
}

/// The end time of a subtask, between `from` and `to`, in whole seconds, rounded up like the server's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndTime {
    from: u32,
    to: u32,
    /// The latest moment at which the server learned of it.
    known_at: UnixMillis,
}

impl EndTime {
    /// The end time that a record states.
    pub(crate) fn stated(seconds: u32, reported: Window) -> Self {
        Self { from: seconds, to: seconds, known_at: reported.to }
    }

    /// The time of the report, for a record without an end time.
    pub(crate) fn inferred(reported: Window) -> Self {
        // Our milliseconds are rounded down.
        Self { from: seconds(reported.from), to: seconds(reported.to + 1), known_at: reported.to }
    }

    /// One of the two.
    pub(crate) fn union(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to), known_at: self.known_at.max(other.known_at) }
    }

    /// Until when the server must hold the subtask.
    pub(crate) fn retained_until(self) -> UnixMillis {
        1000 * u64::from(self.from) + RETENTION_MS
    }

    /// Whether the server must have dropped the subtask, given its uptime.
    pub(crate) fn is_expired(self, at: UnixMillis, up: Uptime) -> bool {
        let at = up.stopping.map_or(at, |stopping| at.min(stopping));
        (1000 * u64::from(self.to) + RETENTION_MS).max(self.known_at).max(up.ready) + EXPIRY_GRACE_MS <= at
    }
}

fn seconds(moment: UnixMillis) -> u32 {
    moment.div_ceil(1000) as u32
}

/// From when and until when an instance drops what ended long ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uptime {
    pub(crate) ready: UnixMillis,
    pub(crate) stopping: Option<UnixMillis>,
}
