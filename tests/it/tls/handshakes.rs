//! Handshakes: versions, protocols, timeouts, and what is not a handshake.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use subjobs::config::Config;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::connection::{Connection, valid_count};
use crate::support::fixtures::config;
use crate::support::server::Running;
use crate::support::tls::Certificates;
use crate::support::wait::TEST_DEADLINE;

const LONG: Duration = Duration::from_secs(60);

async fn server(certificates: &Certificates, config: Config) -> Running {
    Running::start(Config { tls: Some(certificates.issue("server")), ..config }).await
}

/// The output of `openssl s_client`, which ends after the handshake.
async fn openssl(address: SocketAddr, certificates: &Certificates, more: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-verify_return_error", "-CAfile"]);
    command.arg(certificates.authority()).args(more).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(TEST_DEADLINE, command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

fn handshakes(result: &str) -> String {
    format!("subjobs_tls_handshakes_total{{listener=\"public\",result=\"{result}\"}}")
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_no_older_version() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    for (version, said) in [("-tls1_2", "TLSv1.2, Cipher is"), ("-tls1_3", "TLSv1.3, Cipher is")] {
        let (is_good, output) = openssl(server.public, &certificates, &[version]).await;
        assert!(is_good && output.contains(said) && output.contains("Verify return code: 0 (ok)"), "{output}");
    }
    server.reaches(&handshakes("ok"), 2.0).await;
    // Level 0 lets this client try the old versions at all.
    for version in ["-tls1_1", "-tls1"] {
        let more = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let (is_good, output) = openssl(server.public, &certificates, &more).await;
        assert!(!is_good && output.contains("alert"), "{output}");
    }
    server.reaches(&handshakes("protocol"), 2.0).await;
}

#[tokio::test]
async fn the_protocol_is_agreed_on_by_alpn() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    for (offered, agreed) in [
        ("http/1.1", "ALPN protocol: http/1.1"),
        ("http/1.0", "ALPN protocol: http/1.0"),
        ("foo,http/1.1", "ALPN protocol: http/1.1"),
        ("http/1.1,h2", "ALPN protocol: h2"),
    ] {
        let (is_good, output) = openssl(server.public, &certificates, &["-alpn", offered]).await;
        assert!(is_good && output.contains(agreed), "{output}");
    }
    let (_, output) = openssl(server.public, &certificates, &[]).await;
    assert!(output.contains("No ALPN negotiated"), "{output}");
    let (is_good, output) = openssl(server.public, &certificates, &["-alpn", "foo"]).await;
    assert!(!is_good && output.contains("no application protocol"), "{output}");
    server.reaches(&handshakes("protocol"), 1.0).await;
}

#[tokio::test]
async fn a_request_without_tls_gets_400_and_nothing_else_is_served() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    for sent in [valid_count("", &[]), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "GET".into()] {
        let mut connection = Connection::open(server.public).await;
        connection.send(&sent).await;
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{sent}");
        assert_eq!(answer.text(), "this port speaks TLS: use an https:// URL.\n");
        assert_eq!(connection.rest().await, "", "{sent}");
    }
    server.reaches(&handshakes("plaintext"), 3.0).await;
    // Anything else gets an alert.
    for sent in ["\0\0\0\0\0\0\0\0", "\u{16}\u{3}\u{1}\0\u{4}abcd", "get / http/1.1\r\n\r\n"] {
        let mut connection = Connection::open(server.public).await;
        connection.send(sent).await;
        let rest = connection.rest_or_reset().await;
        assert!(!rest.contains("HTTP"), "{rest}");
    }
    server.reaches(&handshakes("protocol"), 3.0).await;
    assert_eq!(server.metric(&handshakes("ok")).await, Some(0.0));
}

/// A ClientHello of which the last part is missing.
const PARTIAL_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn a_slow_handshake_is_closed_after_the_head_timeout() {
    let certificates = Certificates::new();
    let head_timeout = Duration::from_millis(400);
    let server = server(&certificates, Config { head_timeout, idle_timeout: LONG, ..config() }).await;
    let mut silent = Connection::open(server.public).await;
    let mut connection = Connection::open(server.public).await;
    let start = Instant::now();
    for byte in PARTIAL_HELLO.iter().chain(std::iter::repeat(&0)) {
        // Single bytes do not extend the time.
        if connection.try_send([*byte]).await.is_err() || !connection.is_quiet_for(head_timeout / 10).await {
            break;
        }
        assert!(start.elapsed() < LONG / 4);
    }
    assert!(start.elapsed() >= head_timeout);
    server.reaches(&handshakes("timed_out"), 1.0).await;
    assert!(silent.is_quiet_for(Duration::ZERO).await, "the time of the first byte is longer");
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_the_timeout_of_the_first_byte() {
    let certificates = Certificates::new();
    let idle_timeout = Duration::from_millis(400);
    let server = server(&certificates, Config { idle_timeout, head_timeout: LONG, ..config() }).await;
    let start = Instant::now();
    assert_eq!(Connection::open(server.public).await.rest().await, "");
    assert!(start.elapsed() >= idle_timeout && start.elapsed() < LONG / 2);
    // After the handshake the first byte of a request has that time again.
    let start = Instant::now();
    assert_eq!(certificates.client().open(server.public).await.rest().await, "");
    assert!(start.elapsed() >= idle_timeout && start.elapsed() < LONG / 2);
    assert_eq!(server.metric(&handshakes("timed_out")).await, Some(0.0));
}

#[tokio::test]
async fn a_handshake_counts_as_a_connection() {
    let certificates = Certificates::new();
    let limits = Config { max_connections_per_address: Some(2), head_timeout: LONG, ..config() };
    let server = server(&certificates, limits).await;
    let mut first = Connection::open_from("127.0.0.9", server.public).await;
    first.send(PARTIAL_HELLO).await;
    let _second = Connection::open_from("127.0.0.9", server.public).await;
    server.reaches("subjobs_http_connections{listener=\"public\"}", 2.0).await;
    assert_eq!(Connection::open_from("127.0.0.9", server.public).await.rest_or_reset().await, "");
    drop(first);
    server.reaches("subjobs_http_connections{listener=\"public\"}", 1.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_is_counted() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let other = Certificates::new();
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let error = other.client().speaking(&versions).connect(server.public).await.unwrap_err();
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    }
    server.reaches(&handshakes("refused_by_client"), 2.0).await;
    drop(Connection::open(server.public).await);
    let mut cut = Connection::open(server.public).await;
    cut.send(PARTIAL_HELLO).await;
    cut.end().await;
    assert_eq!(cut.rest_or_reset().await, "");
    server.reaches(&handshakes("closed"), 1.0).await;
}

/// Connections that only began a handshake do not delay the drain.
#[tokio::test]
async fn the_drain_closes_a_handshake() {
    let certificates = Certificates::new();
    let mut server = server(&certificates, Config { head_timeout: LONG, drain: LONG, ..config() }).await;
    let mut connections = Vec::new();
    for sent in [&b""[..], PARTIAL_HELLO] {
        let mut connection = Connection::open(server.public).await;
        connection.send(sent).await;
        connections.push(connection);
    }
    server.reaches("subjobs_http_connections{listener=\"public\"}", 2.0).await;
    let start = Instant::now();
    server.stop();
    for connection in &mut connections {
        assert_eq!(connection.rest_or_reset().await, "");
    }
    assert_eq!(server.ended().await, 0);
    assert!(start.elapsed() < LONG / 2);
}
