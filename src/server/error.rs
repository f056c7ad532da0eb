//! Why a server could not start or has stopped.

use std::io;
use std::path::PathBuf;

use tokio::task::JoinError;

use crate::access::AccessError;
use crate::config::ListenAddress;
use crate::load::LoadError;
use crate::store::OpenError;
use crate::tls::TlsError;

/// Why a server could not start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The access file is invalid or cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A file of a certificate is invalid or cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A load file is invalid or cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("{option}: cannot listen on {address}: {cause}")]
    Bind {
        /// The option and the environment variable that set the address.
        option: &'static str,
        /// The configured address.
        address: ListenAddress,
        /// The system's error.
        cause: io::Error,
    },
    /// A socket that the parent process has passed cannot be used.
    #[error("socket activation (LISTEN_FDS): {0}")]
    PassedSockets(String),
    /// The file of `--addresses-file` cannot be written.
    #[error("--addresses-file (SUBJOBS_ADDRESSES_FILE): {}: {cause}", path.display())]
    AddressesFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The system refuses something that the server needs.
    #[error("cannot start: {0}")]
    System(String),
    /// A task of the server has panicked. The server stops, since the other tasks need it.
    #[error("a server task panicked: {0}")]
    Crashed(#[from] JoinError),
}

/// An error of the system.
pub(super) fn system_error(error: impl ToString) -> ServerError {
    ServerError::System(error.to_string())
}
