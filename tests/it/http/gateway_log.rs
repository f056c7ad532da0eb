//! The log of the shipped gateway is JSON for any request.

use std::fs;

use serde_json::Value;

use crate::support::blocking::BlockingConnection;
use crate::support::fixtures::{OPS, PROJECT, config, count_path};
use crate::support::gateways::{Gateway, blocking};
use crate::support::program::event;
use crate::support::server::Running;
use crate::support::wait::until;

/// Sends bytes, and waits for the end of the response.
fn send(gateway: &Gateway, request: &[u8]) {
    let mut socket = BlockingConnection::open(gateway.address);
    // Both may fail if the gateway closes the connection.
    let _ = socket.try_send(request).and_then(|()| socket.try_end());
    socket.rest();
}

/// Waits for this number of events in the log.
fn events(gateway: &Gateway, number: usize) -> Vec<Value> {
    let log = until("every request is logged", || {
        let log = fs::read(gateway.path().join("access.log")).unwrap();
        (log.iter().filter(|byte| **byte == b'\n').count() >= number).then_some(log)
    });
    let log = String::from_utf8(log).expect("the log is UTF-8");
    log.lines().map(event).collect()
}

#[tokio::test]
async fn every_log_line_is_json_for_any_request_bytes() {
    let server = Running::start(config()).await;
    let gateway = Gateway::start(server.public);
    blocking(move || {
        let (count, end) = (count_path(PROJECT), "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        let mut sent = 0;
        for byte in 1..=u8::MAX {
            for [before, after] in [
                [format!("GET {count}?job_id="), format!("\" {end}\r\n")],
                [format!("GET {count}"), format!("\\ {end}\r\n")],
                [format!("GET {count} {end}X-Request-Id: a\"\\"), "b\r\n\r\n".into()],
                ["GE".into(), format!("T {count} {end}\r\n")],
            ] {
                send(&gateway, &[before.as_bytes(), &[byte], after.as_bytes()].concat());
                sent += 1;
            }
        }
        for target in ["/é", "/\u{10348}?\u{7f}", "/%ff%fe?a=%22%0a", "/\"\\\"\\?<>{}|^`"] {
            send(&gateway, format!("GET {target} {end}\r\n").as_bytes());
            sent += 1;
        }
        let events = events(&gateway, sent);
        let has_target = |target: &str| events.iter().any(|event| event["target"] == target);
        assert!(has_target(&format!("{count}?job_id=~\"")) && has_target(&format!("{count}?job_id=\\\"")));
        assert!(has_target(&format!("{count}?job_id=[cut before a byte that is not ASCII]")));
        assert!(has_target("/[cut before a byte that is not ASCII]") && has_target("/%ff%fe?a=%22%0a"));
        assert!(events.iter().any(|event| event["request_id"] == "a\"\\~b"));
    })
    .await;
}

#[tokio::test]
async fn a_log_line_describes_request_and_response() {
    let server = Running::start(config()).await;
    let gateway = Gateway::start(server.public);
    blocking(move || {
        let target = format!("{}?status=RUNNING", count_path(PROJECT));
        gateway.ask("GET", &target, OPS, &["X-Request-Id: mine"]);
        let line = &events(&gateway, 1)[0];
        for (field, value) in [("method", "GET"), ("target", &target), ("request_id", "mine"), ("client", "127.0.0.1")]
        {
            assert_eq!(line[field], value, "{line}");
        }
        assert!(line["status"] == 200 && line["seconds"].is_number() && line["upstream_seconds"].is_string(), "{line}");
    })
    .await;
}
