//! Certificates of a test, and clients that use TLS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use subjobs::tls::TlsFiles;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::connection::Connection;
use crate::support::postgres::Authority;

/// An authority, and a directory of the certificates that it has signed.
pub(crate) struct Certificates {
    authority: Authority,
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        Self { authority: Authority::new("a test"), dir: TempDir::new().unwrap() }
    }

    /// The certificate of the authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.authority.path()
    }

    /// Signs a new certificate for 127.0.0.1 and localhost. Replaces one of the same name.
    pub(crate) fn issue(&self, name: &str) -> TlsFiles {
        let [certificate, key] = ["pem", "key"].map(|extension| self.dir.path().join(format!("{name}.{extension}")));
        let signed = self.authority.sign("IP:127.0.0.1,IP:::1,DNS:localhost");
        for (path, text) in [&certificate, &key].into_iter().zip(signed) {
            std::fs::write(path, text).unwrap();
        }
        TlsFiles { certificate, key, client_ca: None }
    }

    /// The same as [`Certificates::issue`], of a server whose clients need a certificate of this authority.
    pub(crate) fn issue_for_mutual(&self, name: &str) -> TlsFiles {
        TlsFiles { client_ca: Some(self.authority()), ..self.issue(name) }
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self) -> Client<'_> {
        Client { certificates: self, protocols: Vec::new(), versions: rustls::ALL_VERSIONS, own: None }
    }
}

/// What a client offers.
pub(crate) struct Client<'a> {
    certificates: &'a Certificates,
    protocols: Vec<Vec<u8>>,
    versions: &'a [&'static SupportedProtocolVersion],
    own: Option<&'a TlsFiles>,
}

impl<'a> Client<'a> {
    /// Offers a protocol by ALPN.
    pub(crate) fn offering(mut self, protocol: &str) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Speaks these versions of TLS only.
    pub(crate) fn speaking(self, versions: &'a [&'static SupportedProtocolVersion]) -> Self {
        Self { versions, ..self }
    }

    /// Has a certificate of its own.
    pub(crate) fn with(self, own: &'a TlsFiles) -> Self {
        Self { own: Some(own), ..self }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let read =
            |path: &PathBuf| CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        let mut roots = RootCertStore::empty();
        roots.add(read(&self.certificates.authority()).remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
                builder.with_client_auth_cert(read(&own.certificate), key).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.clone();
        Arc::new(config)
    }

    /// Connects, and performs the handshake.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        connect(&self.config(), address).await
    }

    /// A connection for HTTP/1.
    pub(crate) async fn open(&self, address: SocketAddr) -> Connection<TlsStream<TcpStream>> {
        Connection::of(self.connect(address).await.unwrap())
    }
}

/// Connects with a configuration that several connections share, and performs the handshake.
pub(crate) async fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    TlsConnector::from(config.clone()).connect(address.ip().into(), socket).await
}

/// The options of the public listener's certificate.
pub(crate) fn options(files: &TlsFiles) -> Vec<String> {
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let mut options = vec!["--tls-cert".into(), path(&files.certificate), "--tls-key".into(), path(&files.key)];
    if let Some(client_ca) = &files.client_ca {
        options.extend(["--tls-client-ca".into(), path(client_ca)]);
    }
    options
}

/// The options of the internal listener's certificate.
pub(crate) fn internal_options(files: &TlsFiles) -> Vec<String> {
    options(files).into_iter().map(|option| option.replace("--tls-", "--internal-tls-")).collect()
}
