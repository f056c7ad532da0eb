//! The HTTP client of the collector. It reuses connections, follows no redirects, and limits time and size.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};

use crate::http_client::{connector, error_chain, public_authorities};

/// The most bytes of a response's body.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection stays in the pool.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The client of the exporter.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Why the last attempt failed. The exporter's own error does not say it.
    last_error: Mutex<Option<String>>,
}

impl Client {
    /// Fails if TLS cannot be configured.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let connector = connector(public_authorities(), ATTEMPT_TIMEOUT)?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let builder = builder.pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE_TIMEOUT);
        // Batches are sent one after another.
        let http = builder.pool_max_idle_per_host(1).build(connector);
        Ok(Self { http, last_error: Mutex::default() })
    }

    /// Takes the reason for which the last attempt got no response.
    pub(super) fn take_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = self.http.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl HttpClient for Client {
    fn send_bytes<'this, 'future>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'this: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let timed_out = |_| Err(HttpError::from(format!("no response after {} s", ATTEMPT_TIMEOUT.as_secs())));
            let sent = tokio::time::timeout(ATTEMPT_TIMEOUT, self.send(request)).await.unwrap_or_else(timed_out);
            let error = sent.as_ref().err().map(|error| error_chain(&**error));
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            sent
        })
    }
}
