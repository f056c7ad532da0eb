//! One call to the identity service: connections are reused, redirects are not followed, nothing is waited for or read
//! without bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Settings;
use crate::access::Token;

/// The most bytes of an answer.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// How many unused connections are kept.
const POOL_MAX_IDLE: usize = 8;

/// The most characters of an error that are logged.
const MAX_ERROR_CHARS: usize = 300;

/// How long an unused connection is kept.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer to go by.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The service says that the token is not good.
    #[error("the token is not good")]
    Refused,
    /// The service says something else.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// What it says cannot be understood, or is too much.
    #[error("its answer cannot be read: {0}")]
    InvalidResponse(String),
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It takes too long.
    #[error("it did not answer in time")]
    Timeout,
}

type Http = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A client of one service.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    /// As `http`, but each call has a connection of its own.
    http_without_pool: Http,
    url: Uri,
    timeout: Duration,
}

impl Client {
    /// Fails if the URL or the certificates make no sense.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = token_url(&settings.url)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(root_certificates(settings.ca.as_deref())?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(settings.timeout));
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let http_without_pool = builder.clone().pool_max_idle_per_host(0).build(connector.clone());
        let http = builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE)
            .build(connector);
        Ok(Self { http, http_without_pool, url, timeout: settings.timeout })
    }

    /// The body of the service's answer about a token.
    pub(super) async fn get_token(&self, token: Token<'_>) -> Result<Vec<u8>, ClientError> {
        tokio::time::timeout(self.timeout, self.call(token)).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn call(&self, token: Token<'_>) -> Result<Vec<u8>, ClientError> {
        let mut value = HeaderValue::from_bytes(token.bytes()).map_err(|_| ClientError::Refused)?;
        value.set_sensitive(true);
        let request = Request::get(&self.url)
            .header("x-auth-token", &value)
            .header("x-subject-token", &value)
            .header("accept", "application/json")
            .body(Empty::new())
            .map_err(|error| ClientError::Unreachable(error_chain(&error)))?;
        // A service may close a kept connection at the moment of asking. The question is only a question, so it can be asked
        // again; once, and on a new connection, since others that were kept may have been closed as well.
        let response = match self.http.request(request.clone()).await {
            Err(error) if is_closed_before_response(&error) => self.http_without_pool.request(request).await,
            response => response,
        };
        let response = response.map_err(|error| ClientError::Unreachable(error_chain(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => return Err(ClientError::Refused),
            other => return Err(ClientError::Status(other)),
        }
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        Ok(body.map_err(|error| ClientError::InvalidResponse(error_chain(&*error)))?.to_bytes().into())
    }
}

/// Where tokens are asked about. What the URL may not have would be sent nowhere, or be a secret that errors repeat.
fn token_url(url: &str) -> Result<Uri, String> {
    if url.contains(['?', '#']) {
        return Err("url must have no query and no fragment".into());
    }
    let url: Uri = format!("{url}/auth/tokens?nocatalog").parse().map_err(|error| format!("url: {error}"))?;
    let authority = url.authority().filter(|authority| !authority.host().is_empty());
    match (url.scheme_str(), authority) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("url must have no user and no password".into())
        }
        (Some("http" | "https"), Some(authority))
            if authority.as_str() != authority.host() && authority.port_u16().is_none_or(|port| port == 0) =>
        {
            Err("url must have a port from 1 to 65535, or none".into())
        }
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err("url must be http:// or https:// and a host".into()),
    }
}

/// The certificates of the PEM text, or the roots that browsers trust.
fn root_certificates(pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let Some(pem) = pem else { return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("ca_file: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca_file: {error}"))?;
    }
    if roots.is_empty() { Err("ca_file holds no certificate".into()) } else { Ok(roots) }
}

/// Whether a connection that was there has been closed or reset before the head of an answer.
fn is_closed_before_response(error: &legacy::Error) -> bool {
    if error.is_connect() {
        return false;
    }
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    let is_closed = |error: &(dyn std::error::Error + 'static)| {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        }
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
            matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
        })
    };
    causes.into_iter().any(is_closed)
}

/// An error with what caused it: the outermost one of a connection says little.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    // Some of it may be the peer's words.
    text.chars().take(MAX_ERROR_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
