//! A real Keystone as the identity service: tokens of every scope, their revocation and expiry.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::fixtures::{access, code, record};
use crate::support::gateways::free_address;
use crate::support::response::assert_error;
use crate::support::server::Running;

/// A Keystone process with its own directory and users. It ends with the test.
struct Keystone {
    dir: tempfile::TempDir,
    address: SocketAddr,
    process: Child,
    /// The output of tests/keystone/populate.
    made: Value,
    client: reqwest::Client,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keystone").join(name)
}

async fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().await.unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

impl Keystone {
    async fn start() -> Self {
        output(&mut Command::new(script("setup"))).await;
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let process = Self::serve(&dir.path().join("keystone"), address).await;
        let made = output(Command::new("python3").arg(script("populate")).arg(dir.path().join("keystone"))).await;
        let client = reqwest::Client::new();
        Self { address, process, made: serde_json::from_str(&made).unwrap(), client, dir }
    }

    async fn serve(dir: &Path, address: SocketAddr) -> Child {
        let mut command = Command::new("python3");
        command.arg(script("serve")).arg(dir).arg(address.to_string()).arg("--with-stdin");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("Keystone listens");
        assert_eq!(line, format!("listening on http://{address}/v3"));
        process
    }

    async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.process = Self::serve(&self.dir.path().join("keystone"), self.address).await;
    }

    fn text(&self, path: &str) -> &str {
        self.made.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}"))
    }

    fn project(&self) -> &str {
        self.text("/projects/0/id")
    }

    /// A token of a user by password.
    async fn token(&self, user: &str, scope: Value) -> String {
        let (id, password) = (self.text(&format!("/users/{user}/id")), self.text(&format!("/users/{user}/password")));
        let methods = json!({"methods": ["password"], "password": {"user": {"id": id, "password": password}}});
        self.issue(json!({"auth": {"identity": methods, "scope": scope}})).await
    }

    async fn scoped(&self, user: &str) -> String {
        self.token(user, json!({"project": {"id": self.project()}})).await
    }

    async fn issue(&self, auth: Value) -> String {
        let url = format!("{}/auth/tokens", self.text("/url"));
        let response = self.client.post(url).json(&auth).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let token = response.headers()["x-subject-token"].to_str().unwrap().to_owned();
        response.bytes().await.unwrap();
        token
    }

    /// A server that uses this Keystone.
    async fn server(&self, cache: &str) -> Running {
        let identity = format!(
            r#"
[[policy.reader.Statement]]
Effect = "Allow"
Action = ["workspace:jobs:count*"]

[identity]
url = "{}"
cache = "{cache}"
# The machine that runs the tests may be busy; a Keystone that is down refuses at once.
timeout = "20s"

[identity.roles]
te_admin = "account"
reader = ["reader"]
"#,
            self.text("/url"),
        );
        // The projects of Keystone exist here too.
        let own = format!("projects = [\"{}\", \"{}\", ", self.project(), self.text("/projects/1/id"));
        let access = access().replacen("projects = [", &own, 1);
        Running::start(Config::on_any_port(AccessSource::Text(access + &identity))).await
    }
}

/// The status of a count in a project of Keystone.
async fn count(server: &Running, project: &str, token: &str) -> StatusCode {
    let request = server.client.get(server.count_url(project, "")).header("X-Auth-Token", token);
    let response = request.send().await.unwrap();
    let status = response.status();
    match status.as_u16() {
        401 => drop(assert_error(response, 401, code::CREDENTIAL).await),
        403 => drop(assert_error(response, 403, code::PERMISSION).await),
        503 => drop(assert_error(response, 503, code::UNAVAILABLE).await),
        _ => assert_eq!(status, StatusCode::OK),
    }
    status
}

/// Counts until the token is refused. Returns the time until then.
async fn refused_after(server: &Running, project: &str, token: &str) -> Duration {
    let start = Instant::now();
    while count(server, project, token).await != StatusCode::UNAUTHORIZED {
        assert!(start.elapsed() < Duration::from_secs(30), "it is never refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

/// One test, since each Keystone takes seconds to start.
#[tokio::test]
async fn keystone_authenticates_callers() {
    let mut keystone = Keystone::start().await;
    scope_and_roles_decide_permissions(&keystone).await;
    a_token_is_never_trusted_past_its_expiry(&keystone).await;
    keystoneauth_can_call(&keystone).await;
    cached_tokens_are_accepted_while_keystone_is_down(&mut keystone).await;
    counts_are_right_while_keystone_is_killed_under_load(&mut keystone).await;
    // Last, since it disables a user.
    a_revoked_token_is_refused_within_the_cache_time(&keystone).await;
}

async fn scope_and_roles_decide_permissions(keystone: &Keystone) {
    let server = keystone.server("60s").await;
    let (mine, other) = (keystone.project(), keystone.text("/projects/1/id"));
    let (reader, admin) = (keystone.scoped("reader").await, keystone.scoped("admin").await);
    assert_eq!(count(&server, mine, &reader).await, StatusCode::OK);
    assert_eq!(count(&server, mine, &admin).await, StatusCode::OK);
    assert_eq!(count(&server, other, &reader).await, StatusCode::FORBIDDEN);
    assert_eq!(count(&server, other, &admin).await, StatusCode::FORBIDDEN);
    assert_eq!(count(&server, mine, &keystone.scoped("nobody").await).await, StatusCode::FORBIDDEN);
    let domain = json!({"domain": {"id": keystone.text("/domain/id")}});
    for scope in [json!("unscoped"), domain] {
        let token = keystone.token("reader", scope).await;
        assert_eq!(count(&server, mine, &token).await, StatusCode::FORBIDDEN);
    }
    let mut tampered = reader.clone();
    tampered.replace_range(20..21, if &reader[20..21] == "A" { "B" } else { "A" });
    for nonsense in ["nonsense", &tampered, &reader[1..]] {
        assert_eq!(count(&server, mine, nonsense).await, StatusCode::UNAUTHORIZED);
    }
    let report = |token: &str| {
        let url = format!("http://{}/v1/{mine}/app-server-sub-jobs/actions/report", server.internal);
        let request =
            server.client.post(url).header("X-Auth-Token", token).header("Content-Type", "application/x-ndjson");
        request.body(record("1", "j", "CREATE_SERVER", "RUNNING")).send()
    };
    assert_eq!(report(&reader).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(report(&admin).await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.metric("subjobs_identity_calls_total{outcome=\"failed\"}").await, Some(0.0));
    assert!(server.metric("subjobs_identity_cache_total{result=\"hit\"}").await > Some(0.0));
}

async fn a_revoked_token_is_refused_within_the_cache_time(keystone: &Keystone) {
    let server = keystone.server("2s").await;
    let limit = Duration::from_secs(3);

    let token = keystone.scoped("reader").await;
    assert_eq!(count(&server, keystone.project(), &token).await, StatusCode::OK);
    let url = format!("{}/auth/tokens", keystone.text("/url"));
    let request = keystone.client.delete(url).header("X-Auth-Token", &token).header("X-Subject-Token", &token);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let after = refused_after(&server, keystone.project(), &token).await;
    assert!(after <= limit, "a revoked token worked for {after:?}");

    let token = keystone.scoped("leaver").await;
    assert_eq!(count(&server, keystone.project(), &token).await, StatusCode::OK);
    let url = format!("{}/users/{}", keystone.text("/url"), keystone.text("/users/leaver/id"));
    let disable = keystone.client.patch(url).header("X-Auth-Token", keystone.text("/operator/token"));
    let disabled = disable.json(&json!({"user": {"enabled": false}})).send().await.unwrap();
    assert_eq!(disabled.status(), StatusCode::OK);
    disabled.bytes().await.unwrap();
    let after = refused_after(&server, keystone.project(), &token).await;
    assert!(after <= limit, "a disabled user's token worked for {after:?}");
}

async fn a_token_is_never_trusted_past_its_expiry(keystone: &Keystone) {
    let server = keystone.server("60s").await;
    let token = keystone.scoped("reader").await;
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let url = format!("{}/users/{}/application_credentials", keystone.text("/url"), keystone.text("/users/reader/id"));
    let body = json!({"application_credential": {"name": "short", "expires_at": format!("{expires_at:.6}")}});
    let created = keystone.client.post(url).header("X-Auth-Token", &token).json(&body).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
    let created = crate::support::response::json(created).await;
    let (id, secret) = (&created["application_credential"]["id"], &created["application_credential"]["secret"]);
    let methods =
        json!({"methods": ["application_credential"], "application_credential": {"id": id, "secret": secret}});
    let short = keystone.issue(json!({"auth": {"identity": methods}})).await;
    assert_eq!(count(&server, keystone.project(), &short).await, StatusCode::OK);
    refused_after(&server, keystone.project(), &short).await;
    let late = jiff::Timestamp::now().duration_since(expires_at);
    assert!(late <= jiff::SignedDuration::from_secs(1), "it was trusted for {late:#} past its expiry");
}

async fn cached_tokens_are_accepted_while_keystone_is_down(keystone: &mut Keystone) {
    let server = keystone.server("60s").await;
    let (known, new) = (keystone.scoped("reader").await, keystone.scoped("admin").await);
    let project = keystone.project().to_owned();
    assert_eq!(count(&server, &project, &known).await, StatusCode::OK);
    keystone.stop().await;
    assert_eq!(count(&server, &project, &known).await, StatusCode::OK);
    assert_eq!(count(&server, &project, &new).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(count(&server, &project, "nonsense").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.get_internal("/readyz").await.status(), StatusCode::OK);
    keystone.start_again().await;
    assert_eq!(count(&server, &project, &new).await, StatusCode::OK);
    assert_eq!(count(&server, &project, "nonsense").await, StatusCode::UNAUTHORIZED);
}

async fn counts_are_right_while_keystone_is_killed_under_load(keystone: &mut Keystone) {
    let server = keystone.server("1s").await;
    let project = keystone.project().to_owned();
    let mut tokens = vec!["nonsense".to_owned()];
    for user in ["reader", "admin", "leaver"] {
        tokens.push(keystone.scoped(user).await);
    }
    let (mut good, mut refused, mut unavailable) = (0, 0, 0);
    for round in 0..60 {
        match round {
            20 => keystone.stop().await,
            40 => keystone.start_again().await,
            _ => {}
        }
        // Some cached tokens, one refused token, and some new tokens.
        let new: Vec<_> = (0..3).map(|i| format!("new-{round}-{i}")).collect();
        let asked = tokens.iter().chain(&new).map(|token| count(&server, &project, token));
        for status in futures_util::future::join_all(asked).await {
            match status.as_u16() {
                200 => good += 1,
                401 => refused += 1,
                503 => unavailable += 1,
                other => panic!("{other}"),
            }
        }
    }
    assert!(good > 0 && refused > 0 && unavailable > 0, "{good} good, {refused} refused, {unavailable} unavailable");
}

async fn keystoneauth_can_call(keystone: &Keystone) {
    let server = keystone.server("60s").await;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/keystone-venv/bin/python");
    let ask = async |query: &str| {
        let mut command = Command::new(&python);
        command.arg(script("client.py")).args([keystone.text("/url"), keystone.text("/users/reader/id")]);
        command.args([
            keystone.text("/users/reader/password"),
            keystone.project(),
            &format!("http://{}", server.public),
        ]);
        serde_json::from_str::<Value>(&output(command.arg(query)).await).unwrap()
    };
    assert_eq!(ask("status=RUNNING").await, json!({"status": 200, "body": {"count": 0}}));
    assert_eq!(ask("status=running").await["body"]["error_code"], code::INPUT);
}
