//! The signal to a listener and its connections that the end has come: first announced, so that callers move on, then begun.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Begins once, for everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Until when running requests may go on; set when it begins.
    deadline: OnceLock<Instant>,
    is_announced: AtomicBool,
    notify: Notify,
}

impl Drain {
    /// From now on each answer is its connection's last, so that a gateway opens its next connection elsewhere.
    pub(super) fn announce(&self) {
        self.is_announced.store(true, Relaxed);
    }

    /// Whether the end has been announced.
    pub(super) fn is_announced(&self) -> bool {
        self.is_announced.load(Relaxed)
    }

    /// Begins; what still runs at `deadline` is cut.
    pub(super) fn begin(&self, deadline: Instant) {
        self.announce();
        self.deadline.get_or_init(|| deadline);
        self.notify.notify_waiters();
    }

    /// Until when running requests may go on, once it has begun.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get().copied()
    }

    /// Waits for it.
    pub(super) async fn wait_until_begun(&self) {
        let mut notified = pin!(self.notify.notified());
        // Registered before the look, so that a beginning between the two is not missed.
        notified.as_mut().enable();
        if self.deadline().is_none() {
            notified.await;
        }
    }
}
