//! Which database a store is in, and how its server is authenticated.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{Endpoint, StoreUrl};

/// The longest password file, in bytes.
const MAX_PASSWORD_FILE: usize = 4096;

/// Why a database cannot be connected to as configured.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A password in the URL, and a file for it.
    #[error("the URL has a password, and --store-password-file has another: give one of them")]
    TwoPasswords,
    /// The file of the password cannot be used.
    #[error("{}: {reason}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of certificates cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A database, and all that a connection to it needs. Its `Debug` text has no password.
#[derive(Clone)]
pub struct Target {
    url: StoreUrl,
    password_file: Option<Arc<Path>>,
    tls: MakeRustlsConnect,
    /// The server that accepted the last connection, as its position in the URL.
    last_good: Arc<AtomicUsize>,
}

impl Target {
    /// A database. The password comes from the file if there is one, and is read again for each connection. The certificates of the
    /// servers are verified with those of `ca`, or with the roots that browsers trust.
    ///
    /// # Errors
    ///
    /// If there are two passwords, or a file cannot be used.
    pub fn new(url: StoreUrl, password_file: Option<&Path>, ca: Option<&Path>) -> Result<Self, TargetError> {
        if password_file.is_some() && url.has_password() {
            return Err(TargetError::TwoPasswords);
        }
        if let Some(path) = password_file {
            read_password(path)?;
        }
        let tls = MakeRustlsConnect::new(client_config(ca)?);
        Ok(Self { url, password_file: password_file.map(Arc::from), tls, last_good: Arc::default() })
    }

    /// The URL, which is printed without its password.
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// The password of the file.
    pub(super) fn password(&self) -> Result<Option<String>, TargetError> {
        self.password_file.as_deref().map(read_password).transpose()
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// The servers, with the one that accepted the last connection first.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let endpoints = self.url.endpoints();
        let first = self.last_good.load(Ordering::Relaxed);
        (0..endpoints.len()).map(move |at| (first + at) % endpoints.len()).map(|at| (at, &endpoints[at]))
    }

    /// Notes which server has accepted a connection.
    pub(super) fn set_last_good(&self, at: usize) {
        self.last_good.store(at, Ordering::Relaxed);
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, password_file, .. } = self;
        f.debug_struct("Target").field("url", url).field("password_file", password_file).finish_non_exhaustive()
    }
}

/// The first line of a file, without its end.
fn read_password(path: &Path) -> Result<String, TargetError> {
    let error = |reason: String| TargetError::Password { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(|cause| error(cause.to_string()))?;
    if bytes.len() > MAX_PASSWORD_FILE {
        return Err(error(format!("a password has at most {MAX_PASSWORD_FILE} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| error("is not UTF-8".into()))?;
    let password = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match password {
        "" => Err(error("is empty".into())),
        password if password.contains(['\n', '\0']) => Err(error("must be one line".into())),
        password => Ok(password.to_owned()),
    }
}

/// TLS that verifies the server's certificate and name.
fn client_config(ca: Option<&Path>) -> Result<ClientConfig, TargetError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let error = |reason: String| TargetError::Certificates { path: path.to_owned(), reason };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|cause| error(cause.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|cause| error(cause.to_string()))?;
                roots.add(certificate).map_err(|cause| error(cause.to_string()))?;
            }
            if roots.is_empty() {
                return Err(error("has no certificate in PEM".into()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // The provider supports both versions of TLS.
    let config = config.expect("the default versions are supported");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
