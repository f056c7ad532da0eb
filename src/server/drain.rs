//! Tells a listener and its connections to drain: first announced, so that callers connect elsewhere, then begun.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;
use tokio::time::Instant;

/// A drain, which begins once, for all tasks that wait for it.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// When running requests are aborted; set when the drain begins.
    deadline: OnceLock<Instant>,
    is_announced: AtomicBool,
    notify: Notify,
}

impl Drain {
    /// From now on each response closes its connection, so that a gateway opens its next connection elsewhere.
    pub(super) fn announce(&self) {
        self.is_announced.store(true, Relaxed);
    }

    /// Whether the drain has been announced.
    pub(super) fn is_announced(&self) -> bool {
        self.is_announced.load(Relaxed)
    }

    /// Begins the drain. Requests that still run at `deadline` are aborted.
    pub(super) fn begin(&self, deadline: Instant) {
        self.announce();
        self.deadline.get_or_init(|| deadline);
        self.notify.notify_waiters();
    }

    /// When running requests are aborted, if the drain has begun.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// Waits until the drain has begun.
    pub(super) async fn wait_until_begun(&self) {
        let mut notified = pin!(self.notify.notified());
        // Registered before the check, so that a drain that begins between the two is not missed.
        notified.as_mut().enable();
        if self.deadline().is_none() {
            notified.await;
        }
    }
}
