//! A server for a test: in process on any port, with principals whose tokens are known; and bare sockets to be rude with.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use subjobs::access::{AccessHandle, AccessSource, Token};
use subjobs::config::Config;
use subjobs::server::{Server, ServerError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The projects that exist in [`access`].
pub(crate) const PROJECT: &str = "2b31ed520ab14c7bebedb6e57f00aa11";
pub(crate) const OTHER_PROJECT: &str = "7c02d94be8f14a5d9c3b6a1e0f2d4c58";

/// Tokens of [`access`]: an account's, a user's who may only count in [`PROJECT`], one's who may only report there, one
/// that has expired.
pub(crate) const OPS: &str = "ops-token";
pub(crate) const DASHBOARD: &str = "dashboard-token";
pub(crate) const WORKER: &str = "worker-token";
pub(crate) const EXPIRED: &str = "expired-token";

/// An access file with a principal of every kind.
pub(crate) fn access() -> String {
    let hash = |token: &str| Token::new(token.as_bytes()).unwrap().digest().to_string();
    format!(
        r#"
projects = ["{PROJECT}", "{OTHER_PROJECT}"]

[[principal]]
name = "ops"
kind = "account"
projects = ["*"]
tokens = [{{ sha256 = "{}" }}, {{ sha256 = "{}", expires_at = 2020-01-01T00:00:00Z }}]

[[principal]]
name = "dashboard"
kind = "user"
projects = ["{PROJECT}"]
tokens = [{{ sha256 = "{}" }}]
policies = ["count-only"]

[[principal]]
name = "worker"
kind = "user"
projects = ["{PROJECT}"]
tokens = [{{ sha256 = "{}" }}]
policies = ["report-only"]

[[policy.count-only.Statement]]
Effect = "Allow"
Action = ["workspace:jobs:countSubJobs"]

[[policy.report-only.Statement]]
Effect = "Allow"
Action = ["workspace:jobs:*"]
[[policy.report-only.Statement]]
Effect = "Deny"
Action = ["*:count*"]
"#,
        hash(OPS),
        hash(EXPIRED),
        hash(DASHBOARD),
        hash(WORKER),
    )
}

/// The configuration of most tests: any port, the principals of [`access`].
pub(crate) fn config() -> Config {
    Config::on_any_port(AccessSource::Text(access()))
}

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

    /// Starts a server, ready or not.
    pub(crate) async fn begin(config: Config) -> Self {
        let server = Server::bind(config).await.unwrap();
        let (public, internal, access) = (server.public_addr(), server.internal_addr(), server.access());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { public, internal, client: Client::new(), access, stop: Some(stop), task }
    }

    /// Tells the server to stop, as SIGTERM does; it goes on draining.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end; how many requests were cut.
    pub(crate) async fn ended(self) -> usize {
        self.task.await.unwrap().unwrap()
    }

    /// The URL of a count in a project, with a query or none.
    pub(crate) fn count_url(&self, project: &str, query: &str) -> String {
        format!("http://{}/v1/{project}/app-server-sub-jobs/actions/count{query}", self.public)
    }

    /// A count as the account's.
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
        let url = format!("http://{}/v1/{PROJECT}/app-server-sub-jobs/actions/report", self.internal);
        self.client
            .post(url)
            .header("X-Auth-Token", token)
            .header("Content-Type", "application/x-ndjson")
            .body(body.into())
    }

    /// Waits until a series in the metrics has a value.
    pub(crate) async fn reaches(&self, series: &str, value: f64) {
        let reached = async {
            while self.metric(series).await != Some(value) {
                tokio::task::yield_now().await;
            }
        };
        if timeout(Duration::from_secs(20), reached).await.is_err() {
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

/// A record of a report as NDJSON, without an end of line.
pub(crate) fn record(id: &str, job_id: &str, job_type: &str, status: &str) -> String {
    format!(r#"{{"id":"{id}","job_id":"{job_id}","job_type":"{job_type}","status":"{status}"}}"#)
}

pub(crate) async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// Asserts that a response is an error of ours, in form and in code; returns its message.
pub(crate) async fn assert_error(response: Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(!response.headers()["x-request-id"].is_empty());
    assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    let body = json(response).await;
    let fields: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["error_code", "error_msg"]);
    assert_eq!(body["error_code"], code);
    let message = body["error_msg"].as_str().unwrap();
    assert!((1..=255).contains(&message.chars().count()), "{message}");
    message.to_owned()
}

/// Sends bytes as they are and returns everything that comes back until the peer closes. The request should say
/// `Connection: close`, or make the server close.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.write_all(request).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
