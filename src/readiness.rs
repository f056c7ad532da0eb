//! Whether the server takes requests: loading, then ready, then draining, and never back.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where the server stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Subtasks are still being taken in; no count would be true.
    Loading,
    /// Everything is answered.
    Ready,
    /// The end has been asked for; balancers should look elsewhere.
    Draining,
}

/// A latch that all rooms read and only the server moves on.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Where the server stands now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Moves on to a phase; one that has passed already changes nothing.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Loading);
        readiness.enter(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.enter(Phase::Draining);
        readiness.enter(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
