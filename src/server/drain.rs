//! The signal to a listener and its connections that the end has come, and by when.

use std::pin::pin;
use std::sync::OnceLock;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Begins once, for everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Drain {
    deadline: OnceLock<Instant>,
    notify: Notify,
}

impl Drain {
    /// Begins; what still runs at `deadline` will be cut.
    pub(super) fn begin(&self, deadline: Instant) {
        self.deadline.get_or_init(|| deadline);
        self.notify.notify_waiters();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Waits for the beginning; returns the deadline.
    pub(super) async fn begun(&self) -> Instant {
        let mut notified = pin!(self.notify.notified());
        // Registered before the look, so that a beginning between the two is not missed.
        notified.as_mut().enable();
        loop {
            if let Some(deadline) = self.deadline.get() {
                return *deadline;
            }
            notified.as_mut().await;
            notified.set(self.notify.notified());
        }
    }
}
