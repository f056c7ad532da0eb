//! `--max-in-flight`: a request that waits for its body or for the identity service holds no permit.

use std::time::{Duration, Instant};

use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::connection::{Connection, exchange, head, valid_count};
use crate::support::fixtures::{DASHBOARD_KEY, Key, OPS, PROJECT, access, access_with_keys, code, config, count_path};
use crate::support::server::Running;
use crate::support::signer::Call;

const AWAITING_BODY: &str = "subjobs_http_waiting{for=\"body\"}";
const AWAITING_IDENTITY: &str = "subjobs_http_waiting{for=\"identity\"}";

#[tokio::test]
async fn a_request_above_the_limit_is_refused_at_once() {
    let server = Running::start(Config { max_in_flight: 0, ..config() }).await;
    let mut connection = Connection::open(server.public).await;
    for _ in 0..3 {
        connection.send(valid_count("", &[])).await;
        assert_eq!(connection.response().await.assert_error(503, code::UNAVAILABLE), "the service is overloaded");
    }
    // A request that needs no permit gets its own response, and so do the internal endpoints.
    connection.send(valid_count("", &[]).replace("GET", "PUT")).await;
    connection.response().await.assert_error(405, code::METHOD);
    assert_eq!(server.get_internal("/readyz").await.status(), 200);
    assert_eq!(server.report(OPS, "").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_waits_for_its_body_holds_no_permit() {
    let server = Running::start(Config { max_in_flight: 8, ..config() }).await;
    let stalled = valid_count("", &["Content-Length: 2"]) + "{";
    let mut waiting = [Connection::open(server.public).await, Connection::open(server.public).await];
    for connection in &mut waiting {
        connection.send(&stalled).await;
    }
    server.reaches(AWAITING_BODY, 2.0).await;
    server.reaches("subjobs_http_in_flight", 2.0).await;
    // At most a quarter of the limit waits for bodies. One more is refused.
    let refused = exchange(server.public, &stalled).await;
    assert_eq!(refused.assert_error(503, code::UNAVAILABLE), "the service is overloaded");
    for _ in 0..8 {
        exchange(server.public, valid_count("", &[])).await.count();
        // A body that arrived with the head needs no wait.
        exchange(server.public, valid_count("", &["Content-Length: 2"]) + "{}").await.count();
    }
    let [mut finished, gone] = waiting;
    finished.send("}").await;
    finished.response().await.count();
    drop(gone);
    server.reaches("subjobs_http_in_flight", 0.0).await;
    server.reaches(AWAITING_BODY, 0.0).await;
}

#[tokio::test]
async fn a_body_of_a_public_request_must_arrive_within_five_seconds() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    let start = Instant::now();
    connection.send(valid_count("", &["Content-Length: 2"]) + "{").await;
    assert_eq!(connection.response().await.assert_error(503, code::UNAVAILABLE), "the request timed out");
    assert_eq!(connection.rest().await, "");
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(9), "{took:?}");
}

/// Ids of access keys are not secret: an attacker can use one and withhold the body, so that the signature cannot be verified.
#[tokio::test]
async fn counts_are_served_while_bodies_of_signed_requests_are_withheld() {
    let access = AccessSource::Text(access_with_keys());
    let server = Running::start(Config { max_in_flight: 16, access, ..config() }).await;
    let Key { id, .. } = DASHBOARD_KEY;
    let forged = Key { id, secret: "not known" };
    let mut withheld = JoinSet::new();
    for _ in 0..64 {
        let (call, to) = (Call::count().body("{}").sign(forged), server.public);
        withheld.spawn(async move { call.send_part(to, 1).await.status() });
    }
    // All requests above a quarter of the limit get 503.
    for _ in 0..60 {
        assert_eq!(withheld.join_next().await.unwrap().unwrap(), 503);
    }
    assert_eq!(server.metric(AWAITING_BODY).await, Some(4.0));
    for _ in 0..20 {
        exchange(server.public, valid_count("", &[])).await.count();
    }
    // A request that is refused without its body does not wait for it.
    let unknown = Call::count().body("{}").sign(Key { id: "AKUNKNOWN", secret: "x" });
    assert_eq!(unknown.send_part(server.public, 1).await.status(), 401);
    let report = Call::report("application/json", "[]").sign(Key { id: "AKUNKNOWN", secret: "x" });
    assert_eq!(report.send_part(server.internal, 1).await.status(), 401);
    assert_eq!(report.at(jiff::Timestamp::UNIX_EPOCH).send_part(server.internal, 1).await.status(), 401);
}

/// An identity service that accepts requests and sends no response.
async fn silent_service() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v3", listener.local_addr().unwrap());
    (listener, format!("{}\n[identity]\nurl = \"{url}\"\ntimeout = \"60s\"\n", access()))
}

#[tokio::test]
async fn tokens_of_the_access_file_are_accepted_while_the_identity_service_is_silent() {
    let (_silent, access) = silent_service().await;
    let access = AccessSource::Text(access);
    let server = Running::start(Config { max_in_flight: 4, access, ..config() }).await;
    let mut guesses = Vec::new();
    for n in 0..40 {
        let mut connection = Connection::open(server.public).await;
        let token = format!("X-Auth-Token: guess-{n}");
        connection.send(head(&format!("GET {} HTTP/1.1", count_path(PROJECT)), &["Host: h", &token])).await;
        guesses.push(connection);
    }
    // More requests than the limit wait. None of them holds a permit.
    let waiting = async {
        while server.metric(AWAITING_IDENTITY).await <= Some(4.0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    let start = Instant::now();
    for _ in 0..20 {
        exchange(server.public, valid_count("", &[])).await.count();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(guesses);
    server.reaches(AWAITING_IDENTITY, 0.0).await;
}
