//! Waiting for a count or a revision instead of polling.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use subjobs::access::{AccessSource, Token};
use subjobs::config::Config;

use super::summary::summary;
use crate::support::connection::{Connection, request};
use crate::support::fixtures::{OPS, PROJECT, WORKER, access, code, config, record};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;

async fn wait(server: &Running, query: &str) -> Value {
    let url = format!("http://{}/subjobs/v1/{PROJECT}/wait{query}", server.public);
    let response = server.client.get(url).header("X-Auth-Token", OPS).send().await.unwrap();
    assert_eq!(response.status(), 200, "{query}");
    json(response).await
}

async fn report(server: &Running, id: &str, status: &str) {
    let response = server.report(OPS, record(id, "j", "CREATE_SERVER", status)).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

/// Waits until that many requests wait.
async fn waiting(server: &Running, number: f64) {
    server.reaches("subjobs_http_waiting{for=\"change\"}", number).await;
}

#[tokio::test]
async fn a_wait_for_a_condition_that_holds_returns_at_once() {
    let server = Running::start(config()).await;
    report(&server, "1", "RUNNING").await;
    let revision = summary(&server, PROJECT, "").await["revision"].as_u64().unwrap();
    for query in ["?until=eq:1", "?until=ge:1&status=RUNNING,WAITING", "?revision=0", "?until=eq:0&status=FAILED"] {
        let start = Instant::now();
        let waited = wait(&server, query).await;
        assert_eq!((&waited["satisfied"], &waited["revision"]), (&true.into(), &revision.into()), "{query}");
        assert!(start.elapsed() < Duration::from_secs(20), "{query}");
    }
    let start = Instant::now();
    let waited = wait(&server, &format!("?until=eq:5&revision={revision}&timeout=1")).await;
    assert_eq!((&waited["satisfied"], &waited["count"]), (&false.into(), &1.into()));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_change_ends_the_wait() {
    let server = Running::start(config()).await;
    report(&server, "1", "RUNNING").await;
    let script = async {
        waiting(&server, 2.0).await;
        // This changes the job, and ends only one of the two waits.
        report(&server, "2", "WAITING").await;
        waiting(&server, 1.0).await;
        report(&server, "1", "SUCCESS").await;
        report(&server, "2", "FAILED").await;
    };
    let revision = summary(&server, PROJECT, "").await["revision"].as_u64().unwrap();
    let known = format!("?revision={revision}&timeout=50");
    let ended = "?job_id=j&status=WAITING,RUNNING,ROLLBACK,ABORTING&until=eq:0&timeout=50";
    let (changed, ended, ()) = tokio::join!(wait(&server, &known), wait(&server, ended), script);
    assert_eq!((&changed["satisfied"], &changed["count"]), (&true.into(), &2.into()));
    assert_eq!((&ended["satisfied"], &ended["count"]), (&true.into(), &0.into()));
}

#[tokio::test]
async fn a_wait_holds_no_permit_and_has_its_own_timeout() {
    let config = Config { max_in_flight: 1, max_waiters: 3, request_timeout: Duration::from_millis(100), ..config() };
    let server = Running::start(config).await;
    let script = async {
        waiting(&server, 3.0).await;
        assert_eq!(server.count("").await, 0);
        let url = format!("http://{}/subjobs/v1/{PROJECT}/wait?until=eq:1", server.public);
        let refused = server.client.get(url).header("X-Auth-Token", OPS).send().await.unwrap();
        assert_error(refused, 503, code::UNAVAILABLE).await;
        assert_eq!(wait(&server, "?until=eq:0").await["satisfied"], true, "it waits for nothing");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            assert_eq!(server.count("").await, 0);
        }
        assert_eq!(server.metric("subjobs_http_waiting{for=\"change\"}").await, Some(3.0));
        report(&server, "1", "RUNNING").await;
    };
    let three = async {
        // One after another, because there is one permit.
        let mut connections = Vec::new();
        for n in 1..=3 {
            let mut connection = Connection::open(server.public).await;
            connection.send(request("GET", &format!("/subjobs/v1/{PROJECT}/wait?until=ge:1"), OPS, &[])).await;
            waiting(&server, f64::from(n)).await;
            connections.push(connection);
        }
        join_all(connections.iter_mut().map(|connection| connection.response())).await
    };
    let (answers, ()) = tokio::join!(three, script);
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    waiting(&server, 0.0).await;
}

#[tokio::test]
async fn the_drain_ends_every_wait() {
    let mut server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    connection.send(request("GET", &format!("/subjobs/v1/{PROJECT}/wait?until=eq:1"), OPS, &[])).await;
    waiting(&server, 1.0).await;
    server.stop();
    let answer = connection.response().await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(br#"{"satisfied":false,"count":0,"#));
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn a_wait_with_a_revoked_token_ends_with_401() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, access()).unwrap();
    let server = Running::start(Config { access: AccessSource::File(file.path().into()), ..config() }).await;
    let script = async {
        waiting(&server, 1.0).await;
        let digest = Token::new(OPS.as_bytes()).unwrap().digest().to_string();
        std::fs::write(&file, access().replace(&digest, &"1".repeat(64))).unwrap();
        server.access.reload().unwrap();
        server.report(WORKER, record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    };
    let url = format!("http://{}/subjobs/v1/{PROJECT}/wait?until=eq:1", server.public);
    let request = server.client.get(url).header("X-Auth-Token", OPS).send();
    let (response, ()) = tokio::join!(request, script);
    assert_error(response.unwrap(), 401, code::CREDENTIAL).await;
}

#[tokio::test]
async fn a_wait_accepts_get_only() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    for method in ["HEAD", "POST", "PATCH"] {
        connection.send(request(method, &format!("/subjobs/v1/{PROJECT}/wait?until=eq:0"), OPS, &[])).await;
        let answer = if method == "HEAD" { connection.response_to_head().await } else { connection.response().await };
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}");
    }
}

/// One report wakes all waiters of its project within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_waiters_are_woken_by_one_report() {
    let server = Running::start(config()).await;
    let mut connections = Vec::new();
    for _ in 0..1000 {
        let mut connection = Connection::open(server.public).await;
        connection.send(request("GET", &format!("/subjobs/v1/{PROJECT}/wait?until=eq:1"), OPS, &[])).await;
        connections.push(connection);
    }
    waiting(&server, 1000.0).await;
    report(&server, "1", "RUNNING").await;
    let start = Instant::now();
    for answer in join_all(connections.iter_mut().map(|connection| connection.response())).await {
        assert!(answer.body.starts_with(br#"{"satisfied":true,"count":1,"#));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
