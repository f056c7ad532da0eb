//! The options of TLS.

use std::path::PathBuf;

use clap::Args;

use crate::config::ConfigError;
use crate::tls::TlsFiles;

/// TLS of the public listener.
#[derive(Debug, Clone, Args)]
pub struct TlsFlags {
    /// Certificate of the public listener, in PEM, followed by those of its authorities; SIGHUP reloads it. With it the listener
    /// speaks TLS only
    #[arg(long, env = "SUBJOBS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, in PEM
    #[arg(long, env = "SUBJOBS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Certificates, in PEM, of the authorities that sign clients' certificates; every client of the public listener then needs
    /// one
    #[arg(long, env = "SUBJOBS_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
}

/// TLS of the internal listener.
#[derive(Debug, Clone, Args)]
pub struct InternalTlsFlags {
    /// Certificate of the internal listener, in PEM, followed by those of its authorities; SIGHUP reloads it. With it the
    /// listener speaks TLS only
    #[arg(long, env = "SUBJOBS_INTERNAL_TLS_CERT", value_name = "FILE")]
    pub internal_tls_cert: Option<PathBuf>,

    /// Private key of --internal-tls-cert, in PEM
    #[arg(long, env = "SUBJOBS_INTERNAL_TLS_KEY", value_name = "FILE")]
    pub internal_tls_key: Option<PathBuf>,

    /// Certificates, in PEM, of the authorities that sign clients' certificates; every client of the internal listener then needs
    /// one, health checks and Prometheus too
    #[arg(long, env = "SUBJOBS_INTERNAL_TLS_CLIENT_CA", value_name = "FILE")]
    pub internal_tls_client_ca: Option<PathBuf>,
}

impl TlsFlags {
    /// The files, if TLS is configured.
    ///
    /// # Errors
    ///
    /// An option is given without one that it needs.
    pub fn files(self) -> Result<Option<TlsFiles>, ConfigError> {
        let names =
            ["--tls-cert (SUBJOBS_TLS_CERT)", "--tls-key (SUBJOBS_TLS_KEY)", "--tls-client-ca (SUBJOBS_TLS_CLIENT_CA)"];
        files(self.tls_cert, self.tls_key, self.tls_client_ca, names)
    }
}

impl InternalTlsFlags {
    /// The files, if TLS is configured.
    ///
    /// # Errors
    ///
    /// An option is given without one that it needs.
    pub fn files(self) -> Result<Option<TlsFiles>, ConfigError> {
        let names = [
            "--internal-tls-cert (SUBJOBS_INTERNAL_TLS_CERT)",
            "--internal-tls-key (SUBJOBS_INTERNAL_TLS_KEY)",
            "--internal-tls-client-ca (SUBJOBS_INTERNAL_TLS_CLIENT_CA)",
        ];
        files(self.internal_tls_cert, self.internal_tls_key, self.internal_tls_client_ca, names)
    }
}

fn files(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    [certificate_option, key_option, client_ca_option]: [&str; 3],
) -> Result<Option<TlsFiles>, ConfigError> {
    let needs = |given: &str, needed: &str| Err(ConfigError(format!("{given} needs {needed}: give both")));
    match (certificate, key, client_ca) {
        (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles { certificate, key, client_ca })),
        (Some(_), None, _) => needs(certificate_option, key_option),
        (None, Some(_), _) => needs(key_option, certificate_option),
        (None, None, Some(_)) => {
            Err(ConfigError(format!("{client_ca_option} needs {certificate_option} and {key_option}: give all three")))
        }
        (None, None, None) => Ok(None),
    }
}
