//! The phase of the server: loading, ready, draining, ending. It only moves forward.
//!
//! A stop signal while loading leads to [`Phase::Abandoned`], so that a partly loaded store is never served.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// A phase of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Subtasks are being loaded; counts would be wrong.
    Loading,
    /// Every request is answered.
    Ready,
    /// A stop signal has come; load balancers should use another server.
    Draining,
    /// The public listener is closed and its requests have ended; running reports finish and new ones are refused.
    Ending,
    /// A stop signal came while loading; counts would be wrong.
    Abandoned,
}

/// The current phase. Only the server changes it.
#[derive(Debug, Default)]
pub struct Readiness {
    phase: AtomicU8,
    changed: Notify,
}

impl Readiness {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Ready,
            2 => Phase::Draining,
            3 => Phase::Ending,
            _ => Phase::Abandoned,
        }
    }

    /// Moves forward to a phase. An earlier phase changes nothing.
    pub fn enter(&self, phase: Phase) {
        let next = |now| match (now, phase as u8) {
            (LOADING, DRAINING) => Some(Phase::Abandoned as u8),
            (now, next) => (now < next).then_some(next),
        };
        // An error means that the phase was reached before.
        let _ = self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        self.changed.notify_waiters();
    }

    /// Waits until the phase is another one, and returns that.
    pub async fn wait_while(&self, phase: Phase) -> Phase {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the check, so that a change between the two is not missed.
            changed.as_mut().enable();
            let now = self.phase();
            if now != phase {
                return now;
            }
            changed.await;
        }
    }
}

const LOADING: u8 = Phase::Loading as u8;
const DRAINING: u8 = Phase::Draining as u8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_move_forward() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Loading);
        readiness.enter(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.enter(Phase::Draining);
        readiness.enter(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Draining);
        readiness.enter(Phase::Ending);
        readiness.enter(Phase::Draining);
        assert_eq!(readiness.phase(), Phase::Ending);
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_phase() {
        let readiness = std::sync::Arc::new(Readiness::default());
        let waiting = readiness.clone();
        let wait = tokio::spawn(async move {
            let first = waiting.wait_while(Phase::Loading).await;
            (first, waiting.wait_while(first).await)
        });
        tokio::task::yield_now().await;
        readiness.enter(Phase::Ready);
        tokio::task::yield_now().await;
        readiness.enter(Phase::Draining);
        assert_eq!(wait.await.unwrap(), (Phase::Ready, Phase::Draining));
        assert_eq!(readiness.wait_while(Phase::Loading).await, Phase::Draining);
    }

    #[test]
    fn a_stop_while_loading_cancels_the_start() {
        let readiness = Readiness::default();
        readiness.enter(Phase::Draining);
        assert_eq!(readiness.phase(), Phase::Abandoned);
        for phase in [Phase::Loading, Phase::Ready, Phase::Draining, Phase::Ending] {
            readiness.enter(phase);
            assert_eq!(readiness.phase(), Phase::Abandoned);
        }
    }
}
