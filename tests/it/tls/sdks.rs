//! The publisher's own SDKs, unmodified, call a server over TLS. `tests/sdk` has their scripts.

use std::process::Stdio;

use serde_json::Value;
use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::process::Command;

use crate::api::sdks::{ROOT, output, set_up};
use crate::support::fixtures::{DASHBOARD_KEY, OPS, PROJECT, access_with_keys, config, record};
use crate::support::server::Running;
use crate::support::tls::Certificates;

const REGION: &str = "local-1";

/// A server with one subtask, in a project with a name that SDKs look up.
async fn server(certificates: &Certificates) -> Running {
    let access = access_with_keys() + &format!("\n[[project]]\nid = \"{PROJECT}\"\nname = \"{REGION}\"\n");
    let (tls, access) = (Some(certificates.issue("server")), AccessSource::Text(access));
    let server = Running::start(Config { tls, access, ..config() }).await;
    let report = server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING"));
    assert_eq!(report.send().await.unwrap().status(), 200);
    server
}

/// Runs these scenarios of a client. Returns what it printed for each. `trust` is a variable with the authority's certificate.
async fn run(
    mut command: Command,
    server: &Running,
    trust: Option<(&str, &Certificates)>,
    project: &str,
    scenarios: &[&str],
) -> Vec<Value> {
    command.args(scenarios).stdin(Stdio::null()).kill_on_drop(true).env_clear();
    if let Some((variable, certificates)) = trust {
        command.env(variable, certificates.authority());
    }
    command
        .env("PATH", std::env::var("PATH").unwrap())
        .env("SUBJOBS_ENDPOINT", format!("https://{}", server.public))
        .env("SUBJOBS_AK", DASHBOARD_KEY.id)
        .env("SUBJOBS_SK", DASHBOARD_KEY.secret)
        .env("SUBJOBS_PROJECT", project)
        .env("SUBJOBS_REGION", REGION)
        .env("SUBJOBS_JOB", "j");
    let said = output(command).await;
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that the SDK counts, is refused and looks up the project over TLS, and that it verifies the certificate.
async fn works_over_tls(command: impl Fn() -> Command, variable: &str) {
    set_up().await;
    let certificates = Certificates::new();
    let server = server(&certificates).await;
    let trust = Some((variable, &certificates));
    let said = run(command(), &server, trust, PROJECT, &["all", "type", "job", "job-unknown", "bad-status"]).await;
    let counts: Vec<_> = said[..4].iter().map(|outcome| outcome["count"].as_u64()).collect();
    assert_eq!(counts, [Some(1), Some(1), Some(1), Some(0)], "{said:?}");
    assert_eq!(said[4]["status_code"], 400, "{said:?}");
    let said = run(command(), &server, trust, "", &["region", "lookup"]).await;
    assert!(said.iter().all(|outcome| outcome["count"] == 1), "{said:?}");
    let said = run(command(), &server, None, PROJECT, &["all"]).await;
    assert!(said[0]["count"].is_null() && said[0]["status_code"].is_null(), "{said:?}");
}

#[tokio::test]
async fn the_python_sdk_works_over_tls() {
    let command = || {
        let mut command = Command::new(format!("{ROOT}/target/sdk-venv/bin/python"));
        command.arg(format!("{ROOT}/tests/sdk/python/client.py"));
        command
    };
    works_over_tls(command, "REQUESTS_CA_BUNDLE").await;
}

#[tokio::test]
async fn the_node_core_works_over_tls() {
    let command = || {
        let mut command = Command::new("node");
        command.arg(format!("{ROOT}/tests/sdk/node/client.mjs"));
        command
    };
    works_over_tls(command, "NODE_EXTRA_CA_CERTS").await;
}
