//! The metrics of TLS. Their series exist for the listeners that use TLS.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::register::metrics;
use super::{Listener, unix_time};

metrics! {
    /// Certificates and handshakes, of both listeners.
    pub(super) struct TlsFamilies {
        reload_success: IntGaugeVec = "subjobs_tls_reload_success" ["listener"]
            "1 if the last reading of the certificate files succeeded, the start's included, else 0.",
        last_reload: IntGaugeVec = "subjobs_tls_last_reload_timestamp_seconds" ["listener"]
            "When the certificate files were last read with success, in Unix time.",
        expiry: IntGaugeVec = "subjobs_tls_certificate_expiry_timestamp_seconds" ["listener"]
            "When the certificate in use expires, in Unix time.",
        handshakes: IntCounterVec = "subjobs_tls_handshakes_total" ["listener", "result"]
            "TLS handshakes: completed (ok), or why they failed.",
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HandshakeResult {
    /// It was completed.
    Completed,
    /// The client gave no certificate, or one that is not accepted.
    ClientCertificate,
    /// The client refused, for example because it does not trust the server's certificate.
    RefusedByClient,
    /// The client sent a request without TLS.
    Plaintext,
    /// Client and server have no version or cipher in common, or the client sent anything else that is invalid.
    Protocol,
    /// The client closed the connection.
    Closed,
    /// It took too long.
    TimedOut,
}

impl HandshakeResult {
    const ALL: [Self; 7] = [
        Self::Completed,
        Self::ClientCertificate,
        Self::RefusedByClient,
        Self::Plaintext,
        Self::Protocol,
        Self::Closed,
        Self::TimedOut,
    ];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "ok",
            Self::ClientCertificate => "client_certificate",
            Self::RefusedByClient => "refused_by_client",
            Self::Plaintext => "plaintext",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The metrics of one listener's TLS.
#[derive(Debug, Clone)]
pub struct TlsMetrics {
    reload_success: IntGauge,
    last_reload: IntGauge,
    expiry: IntGauge,
    /// In the order of [`HandshakeResult::ALL`].
    handshakes: [IntCounter; HandshakeResult::ALL.len()],
}

impl TlsMetrics {
    pub(super) fn new(families: &TlsFamilies, listener: Listener) -> Self {
        let gauge = |family: &IntGaugeVec| family.with_label_values(&[listener.as_str()]);
        Self {
            reload_success: gauge(&families.reload_success),
            last_reload: gauge(&families.last_reload),
            expiry: gauge(&families.expiry),
            handshakes: HandshakeResult::ALL
                .map(|result| families.handshakes.with_label_values(&[listener.as_str(), result.as_str()])),
        }
    }

    /// Records that the files were read, and when the certificate expires, in Unix time.
    pub fn reloaded(&self, expiry: i64) {
        self.reload_success.set(1);
        self.last_reload.set(unix_time());
        self.expiry.set(expiry);
    }

    /// Records that the files could not be read or used.
    pub fn reload_failed(&self) {
        self.reload_success.set(0);
    }

    /// Counts a handshake.
    pub fn count(&self, result: HandshakeResult) {
        self.handshakes[result as usize].inc();
    }
}
