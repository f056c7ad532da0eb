//! The phase of the server: loading, ready, draining, ending. It only moves forward.
//!
//! A stop signal while loading leads to [`Phase::Abandoned`], so that a partly loaded store is never served.

use std::sync::atomic::{AtomicU8, Ordering};

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
    /// The public listener is closed; running reports finish and new ones are refused.
    Ending,
    /// A stop signal came while loading; counts would be wrong.
    Abandoned,
}

/// The current phase. Only the server changes it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
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
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
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
