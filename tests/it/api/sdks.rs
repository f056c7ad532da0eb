//! The publisher's own SDKs, unmodified, call a server in process. `tests/sdk` has their scripts.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const REGION: &str = "local-1";
const JOB: &str = "2382dd96-x y/z+é%&=";
const TYPES: [&str; 3] = ["CREATE_SERVER", "DELETE_SERVER", "REJOIN_DOMAIN"];
const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

/// The caller has access to one project that exists, and to one that does not.
const KEY: (&str, &str) = ("AKSDK", "SK of the SDKs");
const UNKNOWN_PROJECT: &str = "no-such-project";

const INPUT: (u16, &str) = (400, code::INPUT);
const CREDENTIAL: (u16, &str) = (401, code::CREDENTIAL);
const PERMISSION: (u16, &str) = (403, code::PERMISSION);
const NOT_FOUND: (u16, &str) = (404, code::NOT_FOUND);

const BAD_STATUS: &str = "status must be one of WAITING, RUNNING, SUCCESS, FAILED, ABNORMAL, ROLLBACK, ABORTING";
const BAD_TYPE: &str = "job_type must be a comma-separated list of known job types, without spaces";
const INVALID: &str = "the access key or the signature is not valid";
const NOT_ONES_OWN: &str = "the caller has no access to this project";
const UNSIGNED: &str = "neither X-Auth-Token nor a signature is given";

fn config() -> Config {
    let (id, secret) = KEY;
    let sdk = format!(
        r#"
[[project]]
id = "{PROJECT}"
name = "{REGION}"

[[project]]
id = "{OTHER_PROJECT}"
name = "local-2"

[[principal]]
name = "sdk"
kind = "user"
projects = ["{PROJECT}", "{UNKNOWN_PROJECT}"]
access_keys = [{{ id = "{id}", secret = "{secret}" }}]
policies = ["count-only"]
"#
    );
    Config::on_any_port(AccessSource::Text(access() + &sdk))
}

/// The fields of a subtask that filters compare.
struct SubJob {
    status: &'static str,
    job_type: &'static str,
    job_id: &'static str,
}

/// A different number of subtasks for each status and type. About half of them belong to [`JOB`].
fn sub_jobs() -> Vec<SubJob> {
    let kinds = STATUSES.iter().enumerate().flat_map(|(s, status)| {
        TYPES.iter().enumerate().flat_map(move |(t, job_type)| {
            (0..1 + s + 8 * t).map(move |n| SubJob {
                status,
                job_type,
                job_id: if n % 2 == 0 { JOB } else { "another" },
            })
        })
    });
    kinds.collect()
}

/// A server that stores [`sub_jobs`], and one subtask of another project.
async fn server() -> Running {
    let server = Running::start(config()).await;
    let records = |list: &[SubJob]| {
        let lines = list.iter().enumerate().map(|(id, SubJob { status, job_type, job_id })| {
            crate::support::fixtures::record(&id.to_string(), job_id, job_type, status)
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let url = |project: &str| format!("http://{}/v1/{project}/app-server-sub-jobs/actions/report", server.internal);
    for (project, body) in [(PROJECT, records(&sub_jobs())), (OTHER_PROJECT, records(&sub_jobs()[..1]))] {
        let report = server.client.post(url(project)).header("X-Auth-Token", OPS);
        let report = report.header("Content-Type", "application/x-ndjson").body(body);
        assert_eq!(report.send().await.unwrap().status(), 200);
    }
    server
}

/// The result of one call, as a client prints it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    scenario: String,
    count: Option<u64>,
    exception: Option<String>,
    status_code: Option<u16>,
    error_code: Option<String>,
    error_msg: Option<String>,
    request_id: Option<String>,
}

/// The expected result of one call.
#[derive(Debug)]
enum Expected {
    Count(u64),
    /// An error response of the server, as this class of the SDK.
    Refused(&'static str, (u16, &'static str), &'static str),
    /// An error of the SDK itself, whose text has these parts.
    GaveUp(&'static [&'static str]),
}
use Expected::{Count, GaveUp, Refused};

use crate::support::fixtures::{OPS, OTHER_PROJECT, PROJECT, access, code};
use crate::support::server::Running;

const CLIENT_ERROR: &str = "ClientRequestException";
const SERVER_ERROR: &str = "ServerResponseException";

impl Expected {
    fn check(&self, said: &Outcome) {
        match self {
            Count(count) => assert_eq!((said.count, &said.exception), (Some(*count), &None), "{said:?}"),
            Refused(class, (status, code), message) => {
                let told = (said.exception.as_deref(), said.status_code, said.error_code.as_deref());
                assert_eq!(told, (Some(*class), Some(*status), Some(*code)), "{said:?}");
                assert_eq!(said.error_msg.as_deref(), Some(*message), "{said:?}");
                let id = said.request_id.as_deref().unwrap_or_default();
                let is_new = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert_eq!(is_new, said.scenario != "request-id", "{said:?}");
                assert!(is_new || id == "id-of-the-caller", "{said:?}");
            }
            GaveUp(parts) => {
                assert_eq!((said.exception.as_deref(), said.status_code), (Some("SdkException"), None), "{said:?}");
                let message = said.error_msg.as_deref().unwrap_or_default();
                assert!(parts.iter().all(|part| message.contains(part)), "{said:?}");
            }
        }
        assert!(!format!("{said:?}").contains(KEY.1), "{said:?}");
    }
}

fn matching(status: &str, job_types: &str, job_id: &str) -> Expected {
    let matches = |given: &str, value: &str| given.is_empty() || given.split(',').any(|one| one == value);
    let all = sub_jobs();
    let found = all.iter().filter(|sub_job| {
        matches(status, sub_job.status)
            && matches(job_types, sub_job.job_type)
            && (job_id.is_empty() || job_id == sub_job.job_id)
    });
    Count(found.count() as u64)
}

/// The calls of both clients: every filter, and refused calls.
fn common() -> BTreeMap<String, Expected> {
    let two = "CREATE_SERVER,DELETE_SERVER";
    let mut all: BTreeMap<_, _> = [
        ("all", matching("", "", "")),
        ("empty", matching("", "", "")),
        ("type", matching("", "CREATE_SERVER", "")),
        ("types", matching("", two, "")),
        ("types-repeated", matching("", two, "")),
        ("job", matching("", "", JOB)),
        ("job-unknown", Count(0)),
        ("three", matching("SUCCESS", two, JOB)),
        ("?status=ABORTING&job_type=REJOIN_DOMAIN", matching("ABORTING", "REJOIN_DOMAIN", "")),
        ("?status=FAILED&job_id=another", matching("FAILED", "", "another")),
        (
            "?job_type=DELETE_SERVER,REJOIN_DOMAIN&job_id=another",
            matching("", "DELETE_SERVER,REJOIN_DOMAIN", "another"),
        ),
        ("many", matching("", "", "")),
        ("bad-status", Refused(CLIENT_ERROR, INPUT, BAD_STATUS)),
        ("bad-type", Refused(CLIENT_ERROR, INPUT, BAD_TYPE)),
        ("bad-types", Refused(CLIENT_ERROR, INPUT, BAD_TYPE)),
        ("bad-job", Refused(CLIENT_ERROR, INPUT, "job_id must have at most 128 characters")),
        ("request-id", Refused(CLIENT_ERROR, INPUT, BAD_STATUS)),
        ("endpoint", matching("", "", "")),
        ("endpoints", matching("", "", "")),
        ("region", matching("", "", "")),
        ("environment", matching("", "", "")),
        ("lookup", matching("", "", "")),
        ("lookup-environment", matching("", "", "")),
        ("wrong-secret", Refused(CLIENT_ERROR, CREDENTIAL, INVALID)),
        ("unknown-key", Refused(CLIENT_ERROR, CREDENTIAL, INVALID)),
        ("wrong-project", Refused(CLIENT_ERROR, PERMISSION, NOT_ONES_OWN)),
        ("unknown-project", Refused(CLIENT_ERROR, NOT_FOUND, "the project does not exist")),
    ]
    .into_iter()
    .map(|(name, expected)| (name.to_owned(), expected))
    .collect();
    all.extend(STATUSES.map(|status| (format!("status-{}", status.to_lowercase()), matching(status, "", ""))));
    all
}

fn python() -> BTreeMap<String, Expected> {
    let mut all = common();
    all.extend(
        [
            ("async", matching("", "", "")),
            ("endpoint-slash", matching("", "", "")),
            ("region-env", matching("", "", "")),
            ("region-file", matching("", "", "")),
            ("lookup-file", matching("", "", "")),
            ("no-content-type", matching("", "", "")),
            ("security-token", matching("", "", "")),
            ("utf-8-header", matching("", "", "")),
            ("lookup-unknown", GaveUp(&["Failed to get project id of region 'no-such-region'"])),
            ("lookup-wrong-secret", GaveUp(&["status_code:401", "error_code:WKS.00211302", INVALID])),
            ("no-project", Refused(CLIENT_ERROR, PERMISSION, NOT_ONES_OWN)),
            // A signature of another algorithm is not a credential. The caller has to configure it.
            ("sm3", Refused(CLIENT_ERROR, CREDENTIAL, UNSIGNED)),
            ("p256", Refused(CLIENT_ERROR, CREDENTIAL, UNSIGNED)),
            ("sm2", Refused(CLIENT_ERROR, CREDENTIAL, UNSIGNED)),
            ("derived", Refused(CLIENT_ERROR, CREDENTIAL, UNSIGNED)),
        ]
        .map(|(name, expected)| (name.to_owned(), expected)),
    );
    all
}

fn node() -> BTreeMap<String, Expected> {
    let mut all = common();
    all.extend(
        [
            // The core then tries to create the project, at a path that does not exist here.
            ("lookup-unknown", Refused(CLIENT_ERROR, NOT_FOUND, "no such path")),
            ("lookup-wrong-secret", Refused(CLIENT_ERROR, CREDENTIAL, INVALID)),
            ("types-array", Refused(CLIENT_ERROR, INPUT, "job_type must be given only once")),
        ]
        .map(|(name, expected)| (name.to_owned(), expected)),
    );
    all
}

#[derive(Clone, Copy)]
enum Client {
    Python,
    Node,
}

impl Client {
    /// The command that runs the script, with the SDKs installed.
    async fn command(self) -> Command {
        set_up().await;
        let (interpreter, script) = match self {
            Self::Python => (format!("{ROOT}/target/sdk-venv/bin/python"), "python/client.py"),
            Self::Node => ("node".to_owned(), "node/client.mjs"),
        };
        let mut command = Command::new(interpreter);
        command.arg(format!("{ROOT}/tests/sdk/{script}")).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The names of its scenarios.
    async fn scenarios(self) -> Vec<String> {
        output(self.command().await).await.lines().map(str::to_owned).collect()
    }

    /// Runs one scenario, with a configured project id or with the look-up of the SDK.
    async fn run<'a>(
        self,
        server: &Running,
        project: Option<&str>,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Vec<Outcome> {
        let mut command = self.command().await;
        // Without the environment of the test: no proxies and no credentials.
        command
            .args(names)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("SUBJOBS_ENDPOINT", format!("http://{}", server.public))
            .env("SUBJOBS_AK", KEY.0)
            .env("SUBJOBS_SK", KEY.1)
            .env("SUBJOBS_PROJECT", project.unwrap_or_default())
            .env("SUBJOBS_REGION", REGION)
            .env("SUBJOBS_JOB", JOB)
            .env("SUBJOBS_OTHER_PROJECT", OTHER_PROJECT)
            .env("SUBJOBS_UNKNOWN_PROJECT", UNKNOWN_PROJECT);
        let said = output(command).await;
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

/// Installs the SDKs unless they are installed.
pub(crate) async fn set_up() {
    static DONE: OnceCell<()> = OnceCell::const_new();
    DONE.get_or_init(async || {
        for needed in ["python3", "node", "npm"] {
            let found =
                Command::new(needed).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
            assert!(
                found.is_ok_and(|status| status.success()),
                "these tests need {needed}: install python3, python3-venv, nodejs and npm"
            );
        }
        let mut command = Command::new(format!("{ROOT}/tests/sdk/setup"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        output(command).await;
    })
    .await;
}

/// The output of a program, which must succeed. The time limit is that of an installation over a slow network.
pub(crate) async fn output(mut command: Command) -> String {
    let output = timeout(Duration::from_secs(300), command.output()).await.expect("it does not end");
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    said.into_owned()
}

/// How many requests of the look-up the server has answered.
async fn look_ups(server: &Running) -> f64 {
    let series = r#"subjobs_http_requests_total{listener="public",method="GET",route="/v3/projects",status="200"}"#;
    server.metric(series).await.unwrap_or_default()
}

/// Runs all scenarios of a client that do not need a project id, or all with one.
async fn runs_as_expected(
    client: Client,
    expected: &BTreeMap<String, Expected>,
    project: Option<&str>,
    skipped: &[&str],
) {
    let server = server().await;
    let undecided: Vec<_> = client.scenarios().await.into_iter().filter(|name| !expected.contains_key(name)).collect();
    assert_eq!(undecided, [""; 0], "nothing says what these should do");
    let names: Vec<_> = expected.keys().filter(|name| !skipped.contains(&&***name)).collect();
    let said = client.run(&server, project, names.iter().copied()).await;
    assert_eq!(said.iter().map(|outcome| &outcome.scenario).collect::<Vec<_>>(), names);
    for outcome in &said {
        expected[&outcome.scenario].check(outcome);
    }
    // With a project id only the scenarios `lookup…` look it up.
    let done = look_ups(&server).await;
    assert!(if project.is_some() { (1.0..10.0).contains(&done) } else { done >= 10.0 }, "{done} look-ups");
}

#[tokio::test]
async fn python_with_a_project_id() {
    runs_as_expected(Client::Python, &python(), Some(PROJECT), &[]).await;
}

/// This SDK does not look up the project if it has an endpoint instead of a region, or if it does not sign the look-up.
#[tokio::test]
async fn python_without_a_project_id() {
    let skipped = ["endpoint", "endpoints", "endpoint-slash", "sm3", "p256", "sm2"];
    runs_as_expected(Client::Python, &python(), None, &skipped).await;
}

#[tokio::test]
async fn node_with_a_project_id() {
    runs_as_expected(Client::Node, &node(), Some(PROJECT), &[]).await;
}

#[tokio::test]
async fn node_without_a_project_id() {
    runs_as_expected(Client::Node, &node(), None, &["endpoint", "endpoints"]).await;
}

#[tokio::test]
async fn an_overloaded_server_raises_another_class_of_error() {
    let server = Running::start(Config { max_in_flight: 0, ..config() }).await;
    let expected = Refused(SERVER_ERROR, (503, code::UNAVAILABLE), "the service is overloaded");
    for client in [Client::Python, Client::Node] {
        let said = client.run(&server, Some(PROJECT), [&"all".to_owned()]).await;
        assert_eq!(said.len(), 1);
        expected.check(&said[0]);
    }
}
