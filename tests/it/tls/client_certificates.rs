//! Certificates of clients: with `--tls-client-ca` each client needs one.

use subjobs::config::Config;

use crate::support::connection::{Connection, head, valid_count};
use crate::support::fixtures::config;
use crate::support::server::Running;
use crate::support::tls::Certificates;

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_authority() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let tls = Some(certificates.issue_for_mutual("server"));
    let server = Running::start(Config { tls, ..config() }).await;
    let (own, foreign) = (certificates.issue("client"), other.issue("client"));
    let mut refused = 0.0;
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let client = || certificates.client().speaking(&versions);
        for _ in 0..2 {
            let mut connection = client().with(&own).open(server.public).await;
            connection.send(valid_count("", &[])).await;
            assert_eq!(connection.response().await.status, 200);
        }
        for client in [client(), client().with(&foreign)] {
            // In TLS 1.3 a client learns of the refusal after the handshake, when it reads.
            if let Ok(stream) = client.connect(server.public).await {
                let mut connection = Connection::of(stream);
                let _ = connection.try_send(valid_count("", &[])).await;
                let error = connection.read_more().await.unwrap_err().to_string();
                assert!(error.contains("received fatal alert"), "{error}");
            }
            refused += 1.0;
            let series = "subjobs_tls_handshakes_total{listener=\"public\",result=\"client_certificate\"}";
            server.reaches(series, refused).await;
        }
    }
    assert_eq!(server.metric("subjobs_tls_handshakes_total{listener=\"public\",result=\"ok\"}").await, Some(4.0));
    let requests = "subjobs_http_requests_total{listener=\"public\",method=\"GET\",route=\"unknown\",status=\"404\"}";
    assert_eq!(server.metric(requests).await, None, "no request of the others was served");
}

/// The authority that signs the certificates of clients need not be that of the server.
#[tokio::test]
async fn clients_may_have_another_authority_than_the_server() {
    let (certificates, clients) = (Certificates::new(), Certificates::new());
    let files = subjobs::tls::TlsFiles { client_ca: Some(clients.authority()), ..certificates.issue("server") };
    let server = Running::start(Config { tls: Some(files), ..config() }).await;
    let own = clients.issue("client");
    let mut connection = certificates.client().with(&own).open(server.public).await;
    connection.send(valid_count("", &[])).await;
    assert_eq!(connection.response().await.status, 200);
}

#[tokio::test]
async fn the_internal_listener_asks_probes_for_a_certificate_too() {
    let certificates = Certificates::new();
    let files = certificates.issue_for_mutual("server");
    let server = Running::begin(Config { internal_tls: Some(files.clone()), ..config() }).await;
    let probe = |path: &str| head(&format!("GET {path} HTTP/1.1"), &["Host: h"]);
    let mut connection = certificates.client().with(&files).open(server.internal).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        connection.send(probe(path)).await;
        assert_eq!(connection.response().await.status, 200, "{path}");
    }
    let without = certificates.client().speaking(&[&rustls::version::TLS12]).connect(server.internal).await;
    assert!(without.is_err());
    let mut plain = Connection::open(server.internal).await;
    plain.send(probe("/healthz")).await;
    assert_eq!(plain.response().await.status, 400);
    // The public listener has no TLS.
    let mut public = Connection::open(server.public).await;
    public.send(valid_count("", &[])).await;
    assert_eq!(public.response().await.status, 200);
}
