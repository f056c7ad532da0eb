//! Why a log cannot be used.

use std::io;

/// Names the file that is concerned.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum LogError {
    /// Something that was acknowledged is missing or not intact.
    #[error("{name}: {reason}")]
    Corrupt { name: String, reason: &'static str },
    /// The operating system has refused a call.
    #[error("{name}: {cause}")]
    Io { name: String, cause: io::Error },
}

impl LogError {
    pub(in crate::store) fn corrupt(name: &str, reason: &'static str) -> Self {
        Self::Corrupt { name: name.into(), reason }
    }

    pub(super) fn io(name: &str) -> impl FnOnce(io::Error) -> Self {
        |cause| Self::Io { name: name.into(), cause }
    }
}
