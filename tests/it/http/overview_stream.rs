//! The numbers of all projects together, as server-sent events.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use subjobs::config::Config;

use crate::http::overview::report_some;
use crate::support::connection::{Connection, exchange, request};
use crate::support::fixtures::{OPS, code, config, record};
use crate::support::server::Running;

/// An open stream.
struct Stream {
    connection: Connection,
    text: String,
}

impl Stream {
    async fn open(server: &Running) -> Self {
        let mut connection = Connection::open(server.internal).await;
        connection.send(request("GET", "/overview/events", "", &[])).await;
        let response = connection.response_to_head().await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        Self { connection, text: String::new() }
    }

    /// Reads the next event; `None` after the last.
    async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.strip_prefix("event: overview\ndata: ").unwrap_or_else(|| panic!("{event}"));
                let data = serde_json::from_str(data).unwrap();
                self.text = rest.to_owned();
                return Some(data);
            }
            self.text += &self.connection.chunk().await?;
        }
    }

    /// Reads events until one has this number of subtasks.
    async fn await_total(&mut self, total: u64) -> Value {
        loop {
            let event = self.event().await.expect("the stream has ended");
            if event["total"] == total {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_sends_the_overview_at_once_and_after_changes() {
    let server = Running::start(config()).await;
    let mut stream = Stream::open(&server).await;
    let first = stream.event().await.unwrap();
    assert_eq!((&first["total"], &first["state"]), (&json!(0), &json!("ready")));
    assert!(first["history"]["by_status"]["RUNNING"].is_array(), "{first}");
    let start = Instant::now();
    report_some(&server).await;
    let changed = stream.await_total(5).await;
    assert_eq!(changed["by_status"]["RUNNING"], 2);
    // The history comes with each sample, and the first sample is 5 s old.
    assert_eq!(changed.get("history").is_some(), start.elapsed() > Duration::from_secs(4));
    // The second follower does not wait for the next event.
    assert_eq!(Stream::open(&server).await.event().await.unwrap()["total"], 5);
}

#[tokio::test]
async fn a_stream_sends_at_most_one_event_a_second() {
    let server = Running::start(config()).await;
    let (mut stream, start) = (Stream::open(&server).await, Instant::now());
    stream.event().await.unwrap();
    let report = async {
        for n in 1..=40 {
            let body = record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING");
            assert_eq!(server.report(OPS, body).send().await.unwrap().status(), 200);
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let mut events = 0;
    let follow = async {
        while stream.event().await.unwrap()["total"] != 40 {
            events += 1;
        }
    };
    tokio::join!(report, follow);
    assert!(events <= 2 + start.elapsed().as_secs(), "{events} events");
}

#[tokio::test]
async fn a_sample_of_the_history_is_sent_with_the_rates() {
    let server = Running::start(config()).await;
    report_some(&server).await;
    let mut stream = Stream::open(&server).await;
    loop {
        let event = stream.event().await.unwrap();
        let Some(line) = event["history"]["by_status"]["RUNNING"].as_array() else { continue };
        if !line.is_empty() {
            assert_eq!(line[0], 2);
            assert_eq!(event["history"]["rates"]["reports"][0], 0.4, "2 reports in 5 s");
            break;
        }
    }
}

#[tokio::test]
async fn a_drain_is_the_last_event_of_a_stream() {
    let mut server = Running::start(Config { drain_delay: Duration::from_secs(1), ..config() }).await;
    let mut stream = Stream::open(&server).await;
    stream.event().await.unwrap();
    server.stop();
    let last = stream.event().await.unwrap();
    assert_eq!((&last["state"], &last["total"]), (&json!("draining"), &json!(0)));
    assert_eq!(stream.event().await, None);
    exchange(server.internal, request("GET", "/overview/events", "", &[])).await.assert_error(503, code::UNAVAILABLE);
    let overview = exchange(server.internal, request("GET", "/overview", "", &[])).await;
    assert_eq!((overview.status, overview.text().contains("\"state\":\"draining\"")), (200, true));
    assert_eq!(server.ended().await, 0);
}

#[tokio::test]
async fn a_stream_above_64_is_refused_until_another_ends() {
    let server = Running::start(config()).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Stream::open(&server).await);
    }
    let get = request("GET", "/overview/events", "", &[]);
    exchange(server.internal, &get).await.assert_error(503, code::UNAVAILABLE);
    assert_eq!(streams[63].event().await.unwrap()["total"], 0);
    streams.pop();
    let opened = async {
        loop {
            let mut connection = Connection::open(server.internal).await;
            connection.send(&get).await;
            if connection.response_to_head().await.status == 200 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), opened).await.expect("no place becomes free");
}
