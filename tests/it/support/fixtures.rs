//! Projects, principals and their credentials, access files, records, paths and error codes.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use subjobs::access::{AccessSource, Token};
use subjobs::config::Config;
use tempfile::TempDir;

/// The projects that exist in [`access`].
pub(crate) const PROJECT: &str = "2b31ed520ab14c7bebedb6e57f00aa11";
pub(crate) const OTHER_PROJECT: &str = "7c02d94be8f14a5d9c3b6a1e0f2d4c58";

/// Tokens of [`access`]: of an account, of a user that may only count in [`PROJECT`], of one that may only report there, and an
/// expired one.
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

/// The configuration of most tests: any free port, and the access file of [`access`].
pub(crate) fn config() -> Config {
    Config::on_any_port(AccessSource::Text(access()))
}

/// An access key.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: &'a str,
}

/// Keys of [`access_with_keys`], of the principals whose tokens are `OPS`, `DASHBOARD` and `WORKER`.
pub(crate) const OPS_KEY: Key<'_> = Key { id: "AKOPS", secret: "SK of ops and long enough to be looked for" };
pub(crate) const DASHBOARD_KEY: Key<'_> = Key { id: "AKDASHBOARD", secret: "SK of the dashboard" };
pub(crate) const WORKER_KEY: Key<'_> = Key { id: "AKWORKER", secret: "SK of the worker" };

/// [`access`], where every principal has an access key too.
pub(crate) fn access_with_keys() -> String {
    let keys = [("ops", OPS_KEY), ("dashboard", DASHBOARD_KEY), ("worker", WORKER_KEY)];
    keys.iter().fold(access(), |text, (name, Key { id, secret })| {
        let name = format!("name = \"{name}\"\n");
        text.replace(&name, &format!("{name}access_keys = [{{ id = \"{id}\", secret = \"{secret}\" }}]\n"))
    })
}

/// [`access`], in which any project may exist.
pub(crate) fn access_to_any_project() -> String {
    access().lines().skip_while(|line| !line.starts_with("[[")).collect::<Vec<_>>().join("\n")
}

/// A directory with the access file of [`access`] and the files of a test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        files.put("access.toml", &access());
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file. Returns its path as an argument.
    pub(crate) fn put(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.arg(name)
    }

    /// The access file, as an argument.
    pub(crate) fn access(&self) -> String {
        self.arg("access.toml")
    }

    /// Makes a named pipe: its reader waits for its writer.
    pub(crate) fn fifo(&self, name: &str) -> String {
        assert!(Command::new("mkfifo").arg(self.path(name)).status().unwrap().success());
        self.arg(name)
    }
}

/// A record of a report as a line of NDJSON without its line end.
pub(crate) fn record(id: &str, job_id: &str, job_type: &str, status: &str) -> String {
    format!(r#"{{"id":"{id}","job_id":"{job_id}","job_type":"{job_type}","status":"{status}"}}"#)
}

/// A line of a load file.
pub(crate) fn load_line(project: &str, id: &str, job_type: &str, status: &str) -> String {
    format!(r#"{{"project_id":"{project}","id":"{id}","job_id":"j","job_type":"{job_type}","status":"{status}"}}"#)
}

/// A record with every field.
pub(crate) fn full(id: &str) -> Value {
    json!({
        "id": id, "job_id": "j", "job_type": "CREATE_SERVER", "status": "FAILED", "version": 7, "project_id": PROJECT,
        "family": "app", "begin_time": "2022-03-07T10:40:43.858Z", "end_time": "2022-03-07T10:41:43+08:00",
        "job_resource_info": { "resource_id": "r", "resource_name": "n" }, "job_execute_info": {},
        "error_code": "WKS.1", "error_message": "it did not work",
    })
}

/// The body of the response to a report.
pub(crate) fn outcome(created: u64, updated: u64, unchanged: u64, stale: u64) -> Value {
    json!({ "created": created, "updated": updated, "unchanged": unchanged, "stale": stale })
}

/// The path of a count in a project. The caller encodes the project.
pub(crate) fn count_path(project: &str) -> String {
    format!("/v1/{project}/app-server-sub-jobs/actions/count")
}

/// The path of a report to a project. The caller encodes the project.
pub(crate) fn report_path(project: &str) -> String {
    format!("/v1/{project}/app-server-sub-jobs/actions/report")
}

/// The error codes that the tests expect, by status.
pub(crate) mod code {
    pub(crate) const INPUT: &str = "WKS.00211102";
    pub(crate) const CREDENTIAL: &str = "WKS.00211302";
    pub(crate) const PERMISSION: &str = "WKS.00081102";
    pub(crate) const NOT_FOUND: &str = "WKS.00211902";
    pub(crate) const METHOD: &str = "WKS.00000405";
    pub(crate) const TOO_LARGE: &str = "WKS.00000413";
    pub(crate) const MEDIA_TYPE: &str = "WKS.00000415";
    pub(crate) const UNAVAILABLE: &str = "WKS.00050902";
    pub(crate) const TARGET_TOO_LONG: &str = "WKS.00000414";
    pub(crate) const HEADERS_TOO_LARGE: &str = "WKS.00000431";
}
