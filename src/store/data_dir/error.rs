//! Why a data directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::log::LogError;
use crate::store::types::StoreError;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be a data directory, or has a format that this program does not know.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The reason, as the rest of a sentence.
        reason: String,
    },
    /// Another process uses it.
    #[error("{}: another process is using it", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Something that was acknowledged is missing or not intact.
    #[error("{}: damaged: {reason}", file.display())]
    Damaged {
        /// The file, as far as it is known.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The operating system has refused a call.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its error.
        cause: io::Error,
    },
    /// The database is not one that this program can use.
    #[error("{0}")]
    Database(String),
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The store in memory has failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller has cancelled it.
    #[error("cancelled")]
    Cancelled,
}

impl OpenError {
    pub(super) fn damaged(file: &Path, reason: &str) -> Self {
        Self::Damaged { file: file.into(), reason: reason.into() }
    }

    pub(super) fn of_log(path: &Path, error: LogError) -> Self {
        match error {
            LogError::Corrupt { name, reason } => Self::damaged(&path.join(name), reason),
            LogError::Io { name, cause } => Self::Io { path: path.join(name), cause },
        }
    }
}
