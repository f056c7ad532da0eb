//! The summary as server-sent events.

use std::time::Instant;

use serde_json::Value;
use subjobs::config::Config;

use crate::support::connection::{Connection, request};
use crate::support::fixtures::{DASHBOARD, OPS, PROJECT, code, config, record};
use crate::support::response::assert_error;
use crate::support::server::Running;

/// An open stream.
struct Stream {
    connection: Connection,
    text: String,
}

impl Stream {
    async fn open(server: &Running, token: &str, more: &[&str]) -> Self {
        let mut connection = Connection::open(server.internal).await;
        connection.send(request("GET", &format!("/subjobs/v1/{PROJECT}/events"), token, more)).await;
        let answer = connection.response_to_head().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        Self { connection, text: String::new() }
    }

    /// Reads the next event: returns its id and its data.
    async fn event(&mut self) -> (u64, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let lines: Vec<_> = event.lines().collect();
                assert_eq!(lines.len(), 3, "{event}");
                assert_eq!(lines[0], "event: summary");
                let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
                let id = lines[1].strip_prefix("id: ").unwrap().parse().unwrap();
                assert_eq!(data["revision"], id);
                return (id, data);
            }
            self.text += &self.connection.chunk().await.expect("the stream has ended");
        }
    }
}

async fn report(server: &Running, id: &str, status: &str) {
    let response = server.report(OPS, record(id, "j", "CREATE_SERVER", status)).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_stream_sends_the_summary_at_once_and_after_changes() {
    let server = Running::start(config()).await;
    report(&server, "1", "RUNNING").await;
    let mut stream = Stream::open(&server, DASHBOARD, &[]).await;
    let (first, data) = stream.event().await;
    assert_eq!(data["by_status"]["RUNNING"], 1);
    let start = Instant::now();
    for n in 2..40 {
        report(&server, &n.to_string(), "RUNNING").await;
    }
    // The last state is always sent. States between two events are skipped.
    let mut events = 0;
    let last = loop {
        let (id, data) = stream.event().await;
        events += 1;
        if data["total"] == 39 {
            break id;
        }
    };
    assert!(last > first);
    assert!(events <= 2 + start.elapsed().as_millis() / 250, "{events} events");
    // A client that sends the id of the last event gets only later events.
    let mut again = Stream::open(&server, OPS, &[&format!("Last-Event-ID: {last}")]).await;
    report(&server, "1", "SUCCESS").await;
    assert_eq!(again.event().await.1["by_status"]["SUCCESS"], 1);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_drains_or_the_client_disconnects() {
    let mut server = Running::start(Config { max_waiters: 1, ..config() }).await;
    let stream = Stream::open(&server, OPS, &[]).await;
    let url = format!("http://{}/subjobs/v1/{PROJECT}/events", server.internal);
    let request = server.client.get(&url).header("X-Auth-Token", OPS);
    assert_error(request.send().await.unwrap(), 503, code::UNAVAILABLE).await;
    drop(stream);
    server.reaches("subjobs_http_waiting{for=\"change\"}", 0.0).await;
    let mut stream = Stream::open(&server, OPS, &[]).await;
    stream.event().await;
    server.stop();
    assert_eq!(stream.connection.chunk().await, None);
    assert_eq!(server.ended().await, 0);
}
