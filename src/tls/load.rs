//! Reads and checks the files of a certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode as _;

use super::{PROTOCOLS, TlsError, TlsFiles};
use crate::bounded_read::read_file;

/// The most bytes of a file.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// What the files contain.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// When the certificate expires, in Unix time.
    pub(super) not_after: i64,
}

/// Reads the files. Blocks.
pub(super) fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = read_certificates(&files.certificate)?;
    let not_after = expiry(&chain[0]).map_err(|error| TlsError::new(&files.certificate, error))?;
    let certified = certified_key(files, chain, &provider)?;
    let verifier = files.client_ca.as_deref().map(|path| client_verifier(path, &provider)).transpose()?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    // The provider supports both versions of TLS.
    let builder = builder.map_err(|error| TlsError::new(&files.certificate, error))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Loaded { config: Arc::new(config), not_after })
}

/// At least one certificate.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |reason: String| TlsError::new(path, reason);
    let bytes = read_file(path, MAX_FILE_BYTES).map_err(error)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(error("it has no certificate in PEM".into())),
        Ok(certificates) => Ok(certificates),
        Err(cause) => Err(error(cause.to_string())),
    }
}

/// The certificate with its key.
pub(super) fn certified_key(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let error = |reason: String| TlsError::new(&files.key, reason);
    let bytes = read_file(&files.key, MAX_FILE_BYTES).map_err(error)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|cause| match cause {
        rustls_pki_types::pem::Error::NoItemsFound => error("it has no private key in PEM without a password".into()),
        cause => error(cause.to_string()),
    })?;
    let key = provider.key_provider.load_private_key(key).map_err(|cause| error(cause.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err(error(format!("it is not the key of the first certificate in {}", files.certificate.display())))
        }
        Err(cause) => Err(TlsError::new(&files.certificate, cause)),
    }
}

/// Accepts clients whose certificates one of the authorities has signed.
fn client_verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        authorities.add(certificate).map_err(|cause| TlsError::new(path, cause))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider.clone());
    builder.build().map_err(|cause| TlsError::new(path, cause))
}

/// When a certificate expires, in Unix time.
fn expiry(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let parsed =
        x509_cert::Certificate::from_der(certificate).map_err(|error| format!("not a certificate: {error}"))?;
    let not_after = parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    Ok(i64::try_from(not_after).unwrap_or(i64::MAX))
}
