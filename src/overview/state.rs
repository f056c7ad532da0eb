//! Whether the server should get requests, as `/readyz` says.

use crate::readiness::{Phase, Readiness};
use crate::store::{Store, StoreError};

/// Whether the server should get requests, and why it should get none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Subtasks are being loaded.
    Starting,
    /// Every request is answered.
    Ready,
    /// A stop signal has come.
    Draining,
    /// The store cannot be trusted, or its database does not answer.
    Failed(StoreError),
}

impl State {
    /// The state now.
    pub fn of(readiness: &Readiness, store: &Store) -> Self {
        match readiness.phase() {
            Phase::Loading => Self::Starting,
            Phase::Ready => store.check().map_or_else(Self::Failed, |()| Self::Ready),
            Phase::Draining | Phase::Ending | Phase::Abandoned => Self::Draining,
        }
    }

    /// The name in JSON and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it is not ready, if there is more to say than its name.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Failed(error) => Some(error.to_string()),
            Self::Starting | Self::Ready | Self::Draining => None,
        }
    }
}
