//! Access keys: their principals, the sources of their secrets, and their removal.

use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::auth::signatures::{INVALID, NO_CREDENTIAL, counted, refused, server};
use crate::support::fixtures::{
    DASHBOARD, DASHBOARD_KEY, EXPIRED, Key, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER_KEY, access_with_keys, code,
};
use crate::support::response::assert_error;
use crate::support::server::Running;
use crate::support::signer::Call;

const DIFFERENT: &str = "X-Auth-Token and Authorization are of different callers";

#[tokio::test]
async fn a_token_and_a_signature_must_both_be_valid_and_of_one_principal() {
    let server = server().await;
    let ask = async |token: &str, key: Key<'_>| {
        // The token is not signed: callers of the SDKs add it afterwards.
        Call::count().sign(key).header("X-Auth-Token", token).send(server.public).await
    };
    assert_eq!(counted(ask(OPS, OPS_KEY).await).await, 5);
    assert_eq!(counted(ask(DASHBOARD, DASHBOARD_KEY).await).await, 5);
    assert_eq!(counted(Call::count().header("X-Auth-Token", OPS).sign(OPS_KEY).send(server.public).await).await, 5);
    refused(ask(OPS, DASHBOARD_KEY).await, DIFFERENT).await;
    refused(ask(DASHBOARD, OPS_KEY).await, DIFFERENT).await;
    refused(ask(OPS, Key { secret: "wrong", ..OPS_KEY }).await, INVALID).await;
    refused(ask(OPS, Key { id: "AKUNKNOWN", ..OPS_KEY }).await, INVALID).await;
    refused(ask("unknown-token", OPS_KEY).await, "X-Auth-Token is not valid").await;
    refused(ask("", OPS_KEY).await, "X-Auth-Token is empty").await;
    refused(ask(EXPIRED, OPS_KEY).await, "X-Auth-Token has expired").await;
    let twice = Call::count().sign(OPS_KEY).header("X-Auth-Token", OPS).header("X-Auth-Token", OPS);
    refused(twice.send(server.public).await, "X-Auth-Token is given more than once").await;
    let unsigned = Call::count().header("X-Auth-Token", OPS);
    assert_eq!(counted(unsigned.send(server.public).await).await, 5);
    refused(Call::count().send(server.public).await, NO_CREDENTIAL).await;
}

#[tokio::test]
async fn a_key_has_the_permissions_of_its_principal() {
    let server = server().await;
    let count = |project: &str| Call::new("GET", &format!("/v1/{project}/app-server-sub-jobs/actions/count"));
    let report = || Call::report("application/json", "[]");
    assert_eq!(counted(count(PROJECT).sign(DASHBOARD_KEY).send(server.public).await).await, 5);
    assert_eq!(report().sign(WORKER_KEY).send(server.internal).await.status(), 200);
    assert_eq!(counted(count(OTHER_PROJECT).sign(OPS_KEY).send(server.public).await).await, 0);
    for (answer, reason) in [
        (count(PROJECT).sign(WORKER_KEY).send(server.public).await, "no permission for workspace:jobs:countSubJobs"),
        (report().sign(DASHBOARD_KEY).send(server.internal).await, "no permission for workspace:jobs:reportSubJobs"),
        (count(OTHER_PROJECT).sign(DASHBOARD_KEY).send(server.public).await, "no access to this project"),
        (count("nowhere").sign(DASHBOARD_KEY).send(server.public).await, "no access to this project"),
    ] {
        assert_eq!(assert_error(answer, 403, code::PERMISSION).await, format!("the caller has {reason}"));
    }
    // The order of decisions: credential, permission, inputs, project.
    let bad = |project| count(project).query(&[("status", "running")]);
    refused(bad("nowhere").sign(Key { secret: "x", ..DASHBOARD_KEY }).send(server.public).await, INVALID).await;
    assert_error(bad("nowhere").sign(DASHBOARD_KEY).send(server.public).await, 403, code::PERMISSION).await;
    assert_error(bad("nowhere").sign(OPS_KEY).send(server.public).await, 400, code::INPUT).await;
    assert_error(count("nowhere").sign(OPS_KEY).send(server.public).await, 404, code::NOT_FOUND).await;
}

#[tokio::test]
async fn secrets_are_read_from_the_environment_and_from_files() {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
    let in_file = |key: Key<'_>| format!("secret = \"{}\"", key.secret);
    let access = access_with_keys().replace(&in_file(DASHBOARD_KEY), "secret_file = \"dashboard.secret\"");
    write("access.toml", &access.replace(&in_file(WORKER_KEY), "secret_env = \"PATH\""));
    write("dashboard.secret", "from a file\n");
    let server = Running::start(Config::on_any_port(AccessSource::File(files.path().join("access.toml")))).await;

    let path = std::env::var("PATH").unwrap();
    let (file, env) = (Key { secret: "from a file", ..DASHBOARD_KEY }, Key { secret: &path, ..WORKER_KEY });
    assert_eq!(counted(Call::count().sign(file).send(server.public).await).await, 0);
    assert_eq!(Call::report("application/json", "[]").sign(env).send(server.internal).await.status(), 200);
    for wrong in ["from a file\n", "dashboard.secret", "PATH", "$PATH"] {
        refused(Call::count().sign(Key { secret: wrong, ..file }).send(server.public).await, INVALID).await;
        refused(
            Call::report("application/json", "[]").sign(Key { secret: wrong, ..env }).send(server.internal).await,
            INVALID,
        )
        .await;
    }
    // A reload of the access file reads the secret again.
    write("dashboard.secret", "another\n");
    assert_eq!(counted(Call::count().sign(file).send(server.public).await).await, 0);
    server.access.reload().unwrap();
    refused(Call::count().sign(file).send(server.public).await, INVALID).await;
    let other = Key { secret: "another", ..file };
    assert_eq!(counted(Call::count().sign(other).send(server.public).await).await, 0);
}

#[tokio::test]
async fn a_removed_key_is_refused_after_a_reload() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("access.toml");
    let key = format!("access_keys = [{{ id = \"{}\", secret = \"{}\" }}]\n", DASHBOARD_KEY.id, DASHBOARD_KEY.secret);
    std::fs::write(&path, access_with_keys()).unwrap();
    let server = Running::start(Config::on_any_port(AccessSource::File(path.clone()))).await;
    let call = Call::count().sign(DASHBOARD_KEY);
    assert_eq!(counted(call.send(server.public).await).await, 0);

    assert!(access_with_keys().contains(&key));
    std::fs::write(&path, access_with_keys().replace(&key, "")).unwrap();
    assert_eq!(counted(call.send(server.public).await).await, 0);
    server.access.reload().unwrap();
    refused(call.send(server.public).await, INVALID).await;
    let token = Call::count().header("X-Auth-Token", DASHBOARD);
    assert_eq!(counted(token.send(server.public).await).await, 0);

    std::fs::write(&path, access_with_keys().replace(OPS_KEY.id, DASHBOARD_KEY.id)).unwrap();
    let error = server.access.reload().unwrap_err().to_string();
    assert!(error.contains("access key \"AKDASHBOARD\": the id is used twice"), "{error}");
    refused(call.send(server.public).await, INVALID).await;
    std::fs::write(&path, access_with_keys()).unwrap();
    server.access.reload().unwrap();
    assert_eq!(counted(call.send(server.public).await).await, 0);
}
