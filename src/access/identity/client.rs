//! The HTTP client of the identity service. It reuses connections, follows no redirects, and limits time and size.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Settings;
use crate::access::Token;
use crate::http_client::{connector, error_chain, public_authorities};

/// The most bytes of a response body.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// The most idle connections in the pool.
const POOL_MAX_IDLE: usize = 8;

/// How long an idle connection stays in the pool.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call has no usable response.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The service refuses the token.
    #[error("the token was refused")]
    Refused,
    /// The service answers with another status.
    #[error("unexpected status {0}")]
    Status(StatusCode),
    /// The response is malformed or too long.
    #[error("invalid response: {0}")]
    InvalidResponse(String),
    /// The service cannot be reached.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The call takes too long.
    #[error("timed out")]
    Timeout,
}

type Http = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A client of one service.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    /// As `http`, but each call opens a new connection.
    http_without_pool: Http,
    url: Uri,
    timeout: Duration,
}

impl Client {
    /// Fails if the URL or the certificates are invalid.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = token_url(&settings.url)?;
        let connector = connector(root_certificates(settings.ca.as_deref())?, settings.timeout)
            .map_err(|error| error.to_string())?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let http_without_pool = builder.clone().pool_max_idle_per_host(0).build(connector.clone());
        let http = builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE)
            .build(connector);
        Ok(Self { http, http_without_pool, url, timeout: settings.timeout })
    }

    /// Asks about a token and returns the body of the response.
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
        // The service may close an idle connection just before it is used. GET is idempotent, so it is retried once, on a new
        // connection, because the others in the pool may be closed as well.
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

/// The URL at which tokens are validated. Parts that would not be sent, or could be a secret, are refused.
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

/// The certificates of the PEM text, or the public certificate authorities.
fn root_certificates(pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let Some(pem) = pem else { return Ok(public_authorities()) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("ca_file: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca_file: {error}"))?;
    }
    if roots.is_empty() { Err("ca_file holds no certificate".into()) } else { Ok(roots) }
}

/// Whether an open connection was closed or reset before the head of a response.
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
