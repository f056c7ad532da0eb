//! Health and readiness, from before the server is loaded until it drains.

use std::path::PathBuf;
use std::process::Command;

use tokio::time::timeout;

use crate::support::connection::{exchange, valid_count};
use crate::support::fixtures::{OPS, PROJECT, code, config, record};
use crate::support::response::assert_error;
use crate::support::server::Running;
use crate::support::wait::TEST_DEADLINE;

/// A pipe as a load file: the load ends after a write, or when the test ends.
struct Pipe {
    dir: tempfile::TempDir,
}

impl Pipe {
    fn new() -> Self {
        let pipe = Self { dir: tempfile::tempdir().unwrap() };
        assert!(Command::new("mkfifo").arg(pipe.path()).status().unwrap().success());
        pipe
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("subtasks")
    }

    fn write(&self, text: String) {
        std::fs::write(self.path(), text).unwrap();
    }
}

impl Drop for Pipe {
    /// Ends a reader that waits for a writer, so that the test can end. Does not wait if there is no reader.
    fn drop(&mut self) {
        let writer = std::fs::OpenOptions::new().read(true).write(true).open(self.path());
        drop(writer);
    }
}

#[tokio::test]
async fn counts_and_reports_get_503_until_the_load_ends() {
    let pipe = Pipe::new();
    let mut config = config();
    config.load = vec![pipe.path()];
    let server = Running::begin(config).await;

    assert_eq!(server.get_internal("/healthz").await.status(), 200);
    let starting = "the service is starting";
    assert_eq!(assert_error(server.get_internal("/readyz").await, 503, code::UNAVAILABLE).await, starting);
    let body = record("1", "j", "CREATE_SERVER", "FAILED");
    for token in [OPS, "unknown-token"] {
        let counted = server.ask(token, "?status=x").send().await.unwrap();
        assert_eq!(assert_error(counted, 503, code::UNAVAILABLE).await, starting);
        let reported = server.report(token, body.clone()).send().await.unwrap();
        assert_eq!(assert_error(reported, 503, code::UNAVAILABLE).await, starting);
    }
    exchange(server.public, valid_count("", &[]).replace("GET", "PUT")).await.assert_error(405, code::METHOD);
    assert_eq!(server.get_internal("/metrics").await.status(), 200);

    // The load ends when the writer closes the pipe.
    let line = body.replacen('{', &format!("{{\"project_id\":\"{PROJECT}\","), 1).replace("FAILED", "RUNNING");
    pipe.write(line);
    let ready = async {
        while server.get_internal("/readyz").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(TEST_DEADLINE, ready).await.expect("never ready");
    assert_eq!(server.count("?status=RUNNING").await, 1);
}

/// The server serves requests until the load balancer notices that it is not ready.
#[tokio::test]
async fn a_draining_server_is_alive_but_not_ready() {
    let mut config = config();
    config.drain_delay = std::time::Duration::from_secs(1);
    let mut server = Running::start(config).await;
    assert_eq!(server.get_internal("/readyz").await.status(), 200);
    server.stop();
    loop {
        let ready = server.get_internal("/readyz").await;
        if ready.status() != 200 {
            let message = assert_error(ready, 503, code::UNAVAILABLE).await;
            assert_eq!(message, "the service is shutting down");
            break;
        }
    }
    assert_eq!(server.get_internal("/healthz").await.status(), 200);
    assert_eq!(exchange(server.public, valid_count("", &["Connection: close"])).await.count(), 0);
    assert_eq!(server.ended().await, 0);
}
