//! The signal to a listener and its connections that the end has come.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Begins once, for everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: AtomicBool,
    notify: Notify,
}

impl Drain {
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Waits for it.
    pub(super) async fn begun(&self) {
        let mut notified = pin!(self.notify.notified());
        // Registered before the look, so that a beginning between the two is not missed.
        notified.as_mut().enable();
        if !self.has_begun() {
            notified.await;
        }
    }
}
