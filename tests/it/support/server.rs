//! A server in the process of the test, on any free port, and an HTTP client for it.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use subjobs::access::AccessHandle;
use subjobs::config::Config;
use subjobs::server::{Server, ServerError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::fixtures::{OPS, PROJECT, count_path, report_path};
use crate::support::response::json;
use crate::support::wait::TEST_DEADLINE;

/// A running server.
pub(crate) struct Running {
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) client: Client,
    pub(crate) access: Arc<AccessHandle>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<usize, ServerError>>,
}

impl Running {
    /// Starts a server and waits until it is ready.
    pub(crate) async fn start(config: Config) -> Self {
        let running = Self::begin(config).await;
        while running.get_internal("/readyz").await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
        running
    }

    /// Starts a server without waiting until it is ready.
    pub(crate) async fn begin(config: Config) -> Self {
        let server = Server::bind(config).await.unwrap();
        let (public, internal, access) = (server.public_addr(), server.internal_addr(), server.access());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { public, internal, client: Client::new(), access, stop: Some(stop), task }
    }

    /// Tells the server to stop, as SIGTERM does. The server then drains.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end. Returns the number of aborted requests.
    pub(crate) async fn ended(self) -> usize {
        self.task.await.unwrap().unwrap()
    }

    /// The URL of a count in a project with this query.
    pub(crate) fn count_url(&self, project: &str, query: &str) -> String {
        format!("http://{}{}{query}", self.public, count_path(project))
    }

    /// The count for the account.
    pub(crate) async fn count(&self, query: &str) -> u64 {
        let response = self.ask(OPS, query).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        json(response).await["count"].as_u64().unwrap()
    }

    /// A request for a count in [`PROJECT`].
    pub(crate) fn ask(&self, token: &str, query: &str) -> RequestBuilder {
        self.client.get(self.count_url(PROJECT, query)).header("X-Auth-Token", token)
    }

    pub(crate) async fn get_internal(&self, path: &str) -> Response {
        self.client.get(format!("http://{}{path}", self.internal)).send().await.unwrap()
    }

    /// A report to [`PROJECT`], by default as NDJSON.
    pub(crate) fn report(&self, token: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let url = format!("http://{}{}", self.internal, report_path(PROJECT));
        self.client
            .post(url)
            .header("X-Auth-Token", token)
            .header("Content-Type", "application/x-ndjson")
            .body(body.into())
    }

    /// Waits until a series of the metrics has this value.
    pub(crate) async fn reaches(&self, series: &str, value: f64) {
        let reached = async {
            while self.metric(series).await != Some(value) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(TEST_DEADLINE, reached).await.is_err() {
            panic!("{series} is {:?}, never {value}", self.metric(series).await);
        }
    }

    /// The value of one series in the metrics; `None` if there is no such line.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get_internal("/metrics").await.text().await.unwrap();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line[series.len()..].trim().parse().unwrap())
    }
}
