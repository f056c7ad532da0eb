//! The resets of a project and of the whole server, which are for tests only.

use subjobs::config::Config;
use subjobs::{AccessSource, Ephemeral};

use super::summary::summary;
use crate::support::fixtures::{
    DASHBOARD, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER, access_with_keys, code, config, record,
};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;
use crate::support::signer::Call;

async fn reset(server: &Running, token: &str) -> reqwest::Response {
    let url = format!("http://{}/subjobs/v1/{PROJECT}/reset", server.internal);
    server.client.post(url).header("X-Auth-Token", token).send().await.unwrap()
}

#[tokio::test]
async fn a_reset_deletes_all_subtasks_of_the_project_in_one_step() {
    let server = Running::start(Config { allow_reset: true, ..config() }).await;
    let image = r#"{"id":"i","job_id":"k","job_type":"BUILD_IMAGE","status":"RUNNING","family":"image"}"#;
    let lines: Vec<_> = (0..3000).map(|n| record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING")).collect();
    server.report(OPS, format!("{}\n{image}", lines.join("\n"))).send().await.unwrap();
    let other = format!("http://{}/v1/{OTHER_PROJECT}/app-server-sub-jobs/actions/report", server.internal);
    let request = server.client.post(other).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
    request.body(record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    let before = summary(&server, PROJECT, "").await["revision"].as_u64().unwrap();

    assert_eq!(json(reset(&server, OPS).await).await["deleted"], 3001);
    assert_eq!(server.count("").await, 0);
    assert_eq!(summary(&server, PROJECT, "?family=image").await["total"], 0);
    assert!(summary(&server, PROJECT, "").await["revision"].as_u64().unwrap() > before);
    assert_eq!(summary(&server, OTHER_PROJECT, "").await["total"], 1);
    assert_eq!(json(reset(&server, OPS).await).await["deleted"], 0);
    // The stored version is deleted with its subtask.
    server.report(OPS, record("1", "j", "CREATE_SERVER", "SUCCESS")).send().await.unwrap();
    assert_eq!(server.count("").await, 1);
}

#[tokio::test]
async fn a_reset_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config { allow_reset: true, data_dir: Some(dir.path().join("data")), ..config() };
    let mut server = Running::start(config()).await;
    let lines: Vec<_> = (0..100).map(|n| record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING")).collect();
    server.report(OPS, lines.join("\n")).send().await.unwrap();
    let before = summary(&server, PROJECT, "").await["revision"].as_u64().unwrap();
    assert_eq!(json(reset(&server, OPS).await).await["deleted"], 100);
    server.stop();
    server.ended().await;
    let server = Running::start(config()).await;
    assert_eq!(server.count("").await, 0);
    assert!(summary(&server, PROJECT, "").await["revision"].as_u64().unwrap() > before);
}

#[tokio::test]
async fn a_reset_needs_the_option_and_a_permission() {
    let server = Running::start(config()).await;
    assert_error(reset(&server, OPS).await, 404, code::NOT_FOUND).await;
    let server = Running::start(Config { allow_reset: true, ..config() }).await;
    assert_error(reset(&server, DASHBOARD).await, 403, code::PERMISSION).await;
    assert_error(reset(&server, "unknown-token").await, 401, code::CREDENTIAL).await;
    // A worker with every permission for jobs except counts.
    assert_eq!(reset(&server, WORKER).await.status(), 200);
    let url = format!("http://{}/subjobs/v1/{PROJECT}/reset", server.public);
    let public = server.client.post(url).header("X-Auth-Token", OPS).send().await.unwrap();
    assert_error(public, 404, code::NOT_FOUND).await;
}

async fn reset_all(server: &Running) -> reqwest::Response {
    server.client.post(format!("http://{}/reset", server.internal)).send().await.unwrap()
}

#[tokio::test]
async fn a_reset_of_an_ephemeral_server_deletes_the_subtasks_of_all_projects() {
    let server = Running::start(Config { ephemeral: Some(Ephemeral::with_access_file()), ..config() }).await;
    assert_eq!(json(reset_all(&server).await).await["deleted"], 0);
    let lines: Vec<_> = (0..10).map(|n| record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING")).collect();
    for project in [PROJECT, OTHER_PROJECT] {
        let url = format!("http://{}/v1/{project}/app-server-sub-jobs/actions/report", server.internal);
        let request =
            server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
        assert_eq!(request.body(lines.join("\n")).send().await.unwrap().status(), 200);
    }
    let revision = summary(&server, PROJECT, "").await["revision"].as_u64().unwrap();
    assert_eq!(json(reset_all(&server).await).await["deleted"], 20);
    for project in [PROJECT, OTHER_PROJECT] {
        assert_eq!(summary(&server, project, "").await["total"], 0);
    }
    assert!(summary(&server, PROJECT, "").await["revision"].as_u64().unwrap() > revision);
}

#[tokio::test]
async fn a_signed_report_is_applied_again_after_a_reset() {
    let access = AccessSource::Text(access_with_keys());
    let server = Running::start(Config { access, ephemeral: Some(Ephemeral::with_access_file()), ..config() }).await;
    let record = record("1", "j", "CREATE_SERVER", "RUNNING");
    let report = Call::report("application/x-ndjson", &record).sign(OPS_KEY);
    for _ in 0..2 {
        assert_eq!(report.send(server.internal).await.status(), 200);
        assert_eq!(server.count("").await, 1);
        reset_all(&server).await;
        assert_eq!(server.count("").await, 0);
    }
}

#[tokio::test]
async fn only_an_ephemeral_server_has_a_reset_of_everything() {
    let server = Running::start(Config { allow_reset: true, ..config() }).await;
    assert_error(reset_all(&server).await, 404, code::NOT_FOUND).await;
    let server = Running::start(Config { ephemeral: Some(Ephemeral::with_access_file()), ..config() }).await;
    let public = server.client.post(format!("http://{}/reset", server.public)).send().await.unwrap();
    assert_error(public, 404, code::NOT_FOUND).await;
    assert_error(server.get_internal("/reset").await, 405, code::METHOD).await;
}
