//! TLS of the listeners: certificate files -> the configuration of new connections, which a reload replaces as a whole.

mod load;
mod probe;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use self::load::Loaded;
pub use self::probe::probe_config;
use crate::domain::Timestamp;
use crate::metrics::{HandshakeResult, Listener, TlsMetrics};
use crate::reload::{Reload, ReloadOrder};

/// What ALPN offers, in the order of preference.
const PROTOCOLS: [&[u8]; 3] = [HTTP_2, b"http/1.1", b"http/1.0"];

/// HTTP/2 in ALPN.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// The files of a listener's certificate. All are in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the server, then those that lead to an authority that clients trust.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// Certificates of the authorities that sign certificates of clients. With it every client needs one.
    pub client_ca: Option<PathBuf>,
}

/// Why a file cannot be used: its name and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}", name = path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.into(), reason: reason.to_string() }
    }

    /// The files were not read within this time.
    pub(crate) fn slow(path: &Path, limit: Duration) -> Self {
        Self::new(path, format!("reading it and its key took longer than {} s", limit.as_secs()))
    }
}

/// Reads and checks the files of a certificate, as a listener does, and returns what they have. Blocks.
///
/// # Errors
///
/// A file cannot be read or used, the key is not that of the certificate, or the certificate has expired.
pub fn check(files: &TlsFiles) -> Result<TlsSummary, TlsError> {
    let Loaded { not_after, .. } = load::load(files)?;
    if has_expired(not_after) {
        return Err(TlsError::new(&files.certificate, "the certificate has expired"));
    }
    Ok(TlsSummary { not_after, needs_client_certificate: files.client_ca.is_some() })
}

/// What the files of a certificate have.
#[derive(Debug, Clone, Copy)]
pub struct TlsSummary {
    not_after: i64,
    needs_client_certificate: bool,
}

impl fmt::Display for TlsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a certificate and its key")?;
        if let Ok(end) = jiff::Timestamp::from_second(self.not_after) {
            write!(f, ", valid until {end}")?;
        }
        if self.needs_client_certificate {
            write!(f, "; clients need a certificate")?;
        }
        Ok(())
    }
}

fn has_expired(not_after: i64) -> bool {
    not_after <= Timestamp::now().as_seconds_rounded_up()
}

/// The TLS of one listener. A connection keeps the configuration that it began with.
pub struct TlsHandle {
    listener: Listener,
    files: TlsFiles,
    metrics: TlsMetrics,
    current: ArcSwap<ServerConfig>,
    order: ReloadOrder,
}

impl TlsHandle {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    ///
    /// A file cannot be read or used, or the key is not that of the certificate.
    pub fn open(listener: Listener, files: TlsFiles, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let loaded = load::load(&files)?;
        let current = ArcSwap::new(loaded.config.clone());
        let handle = Self { listener, files, metrics, current, order: ReloadOrder::default() };
        handle.record(&loaded);
        Ok(handle)
    }

    /// The configuration of a connection that begins now.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The listener.
    pub(crate) fn listener(&self) -> Listener {
        self.listener
    }

    /// Counts a handshake.
    pub(crate) fn count(&self, result: HandshakeResult) {
        self.metrics.count(result);
    }

    /// Records files that were loaded. Warns if the certificate has expired.
    fn record(&self, loaded: &Loaded) {
        self.metrics.reloaded(loaded.not_after);
        if has_expired(loaded.not_after) {
            tracing::warn!(listener = self.listener.as_str(), "the TLS certificate has expired");
        }
    }
}

impl Reload for TlsHandle {
    fn name(&self) -> &'static str {
        match self.listener {
            Listener::Public => "public TLS certificate",
            Listener::Internal => "internal TLS certificate",
        }
    }

    fn reload(&self) -> Result<bool, String> {
        let number = self.order.begin();
        let activated = load::load(&self.files).and_then(|loaded| {
            self.order.activate(number, || {
                self.current.store(loaded.config.clone());
                self.record(&loaded);
                Ok(())
            })
        });
        activated.map_err(|error| {
            self.record_failure();
            error.to_string()
        })
    }

    fn record_failure(&self) {
        self.metrics.reload_failed();
    }
}

impl fmt::Debug for TlsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsHandle")
            .field("listener", &self.listener)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
