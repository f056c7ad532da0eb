//! A connection with TLS: the handshake with its timeouts, then HTTP/1 or HTTP/2, as client and server have agreed by ALPN.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, Error};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::connection::{self, IDLE_DRAIN_GRACE};
use super::drain::Drain;
use super::http2;
use super::listen_socket::Transport;
use super::socket::TrackedSocket;
use super::state::{ConnectionState, LINGER_TIMEOUT};
use super::tls_socket::TlsSocket;
use crate::metrics::HandshakeResult;
use crate::tls::TlsHandle;
use crate::web::instrument::App;

/// The response to a request without TLS.
const PLAINTEXT_REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 43\r\n\r\nthis port speaks TLS: use an https:// URL.\n";

/// Serves a connection until it ends. Returns how many running requests the drain aborted.
pub(super) async fn serve<S: Transport>(
    socket: S,
    tls: Arc<TlsHandle>,
    app: App,
    state: Arc<ConnectionState>,
    drain: Arc<Drain>,
) -> usize {
    let accepted = tokio::select! {
        accepted = accept(socket, &tls, &state) => accepted,
        () = idle_deadline(&drain) => None,
    };
    let Some(socket) = accepted else { return 0 };
    state.restart();
    if socket.is_http2() {
        http2::serve(socket, app, state, drain).await
    } else {
        connection::serve(socket, app, state, drain).await
    }
}

/// Waits until the drain has begun and connections without a request are closed.
async fn idle_deadline(drain: &Drain) {
    drain.wait_until_begun().await;
    let close_at = Instant::now() + IDLE_DRAIN_GRACE;
    sleep_until(drain.deadline().unwrap_or(close_at).min(close_at)).await;
}

/// Performs the handshake. Its first byte has the timeout of a connection's first byte, the rest that of a request's head.
async fn accept<S: Transport>(socket: S, tls: &TlsHandle, state: &Arc<ConnectionState>) -> Option<TlsSocket<S>> {
    // A connection without a byte is no handshake: a load balancer that checks the port makes such connections.
    let first = timeout(state.timeouts().first_byte, socket.peek_byte()).await;
    let Ok(Ok(Some(first))) = first else { return None };
    // The first byte of a method. A TLS record begins with 22.
    if first.is_ascii_uppercase() {
        record_failure(tls, HandshakeResult::Plaintext, &"the client sent a request without TLS");
        TrackedSocket::new(socket, state.clone()).close(PLAINTEXT_REFUSED, LINGER_TIMEOUT).await;
        return None;
    }
    match timeout(state.timeouts().head, TlsAcceptor::from(tls.current()).accept(socket).into_fallible()).await {
        Ok(Ok(stream)) => {
            tls.count(HandshakeResult::Completed);
            Some(TlsSocket::new(stream))
        }
        Ok(Err((error, socket))) => {
            record_failure(tls, result_of(&error), &error);
            // The alert is sent. A close with unread bytes would reset the connection, and the client may lose the alert.
            TrackedSocket::new(socket, state.clone()).close(b"", LINGER_TIMEOUT).await;
            None
        }
        Err(elapsed) => {
            record_failure(tls, HandshakeResult::TimedOut, &elapsed);
            None
        }
    }
}

fn record_failure(tls: &TlsHandle, result: HandshakeResult, error: &dyn std::fmt::Display) {
    tls.count(result);
    tracing::debug!(listener = tls.listener().as_str(), result = result.as_str(), %error, "TLS handshake failed");
}

/// Why a handshake failed.
fn result_of(error: &io::Error) -> HandshakeResult {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        None => HandshakeResult::Closed,
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => HandshakeResult::ClientCertificate,
        // What a client sends that has no version or protocol in common with the server.
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)) => {
            HandshakeResult::Protocol
        }
        Some(Error::AlertReceived(_)) => HandshakeResult::RefusedByClient,
        Some(_) => HandshakeResult::Protocol,
    }
}
