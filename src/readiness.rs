//! Whether the server takes requests: loading, then ready, then draining, then ending, and never back.
//!
//! An end that is asked for while loading skips ready for good: what is half loaded is never served.

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
    /// The public listener has ended; what runs may end, and nothing more is taken in.
    Ending,
    /// The end has been asked for before everything had been taken in; no count would be true.
    Abandoned,
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
            2 => Phase::Draining,
            3 => Phase::Ending,
            _ => Phase::Abandoned,
        }
    }

    /// Moves on to a phase; one that has passed already changes nothing.
    pub fn enter(&self, phase: Phase) {
        let next = |now| match (now, phase as u8) {
            (LOADING, DRAINING) => Some(Phase::Abandoned as u8),
            (now, next) => (now < next).then_some(next),
        };
        // That nothing is to be done is no failure.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

const LOADING: u8 = Phase::Loading as u8;
const DRAINING: u8 = Phase::Draining as u8;

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
        readiness.enter(Phase::Ending);
        readiness.enter(Phase::Draining);
        assert_eq!(readiness.phase(), Phase::Ending);
    }

    #[test]
    fn what_was_never_loaded_never_opens() {
        let readiness = Readiness::default();
        readiness.enter(Phase::Draining);
        assert_eq!(readiness.phase(), Phase::Abandoned);
        for phase in [Phase::Loading, Phase::Ready, Phase::Draining, Phase::Ending] {
            readiness.enter(phase);
            assert_eq!(readiness.phase(), Phase::Abandoned);
        }
    }
}
