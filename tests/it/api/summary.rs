//! The summary of a project or a job: all counts at one moment, and the revision.

use serde_json::{Value, json};

use crate::support::fixtures::{DASHBOARD, OPS, OTHER_PROJECT, PROJECT, config, record};
use crate::support::response::json;
use crate::support::server::Running;

pub(crate) async fn summary(server: &Running, project: &str, query: &str) -> Value {
    let url = format!("http://{}/subjobs/v1/{project}/summary{query}", server.public);
    let response = server.client.get(url).header("X-Auth-Token", OPS).send().await.unwrap();
    assert_eq!(response.status(), 200, "{query}");
    assert_eq!(response.headers()["content-type"], "application/json");
    json(response).await
}

#[tokio::test]
async fn a_summary_has_counts_by_type_and_status_of_one_family() {
    let server = Running::start(config()).await;
    assert_eq!(summary(&server, PROJECT, "").await, json!({"revision":0,"total":0,"by_status":{},"by_type":{}}));
    let image = r#"{"id":"i","job_id":"k","job_type":"CREATE_SERVER","status":"RUNNING","family":"image"}"#;
    let records = [
        record("1", "j", "CREATE_SERVER", "RUNNING"),
        record("2", "j", "DELETE_SERVER", "SUCCESS"),
        record("3", "k", "CREATE_SERVER", "SUCCESS"),
        image.to_owned(),
    ];
    server.report(OPS, records.join("\n")).send().await.unwrap();
    let all = summary(&server, PROJECT, "").await;
    let expected = json!({
        "revision": all["revision"], "total": 3, "by_status": {"RUNNING": 1, "SUCCESS": 2},
        "by_type": {"CREATE_SERVER": {"RUNNING": 1, "SUCCESS": 1}, "DELETE_SERVER": {"SUCCESS": 1}},
    });
    assert_eq!(all, expected);
    assert_eq!(summary(&server, PROJECT, "?family=image").await["by_type"], json!({"CREATE_SERVER": {"RUNNING": 1}}));
    assert_eq!(summary(&server, PROJECT, "?job_id=j").await["total"], 2);
    assert_eq!(summary(&server, PROJECT, "?job_id=j&job_type=DELETE_SERVER").await["by_status"], json!({"SUCCESS": 1}));
    assert_eq!(summary(&server, PROJECT, "?family=image&job_type=BUILD_IMAGE").await["total"], 0);
    assert_eq!(summary(&server, OTHER_PROJECT, "").await["total"], 0);
}

#[tokio::test]
async fn the_revision_grows_with_changes_only() {
    let server = Running::start(config()).await;
    let mut last = 0;
    let mut changed = async |line: &str| {
        let response = server.report(OPS, line.to_owned()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let revision = summary(&server, PROJECT, "").await["revision"].as_u64().unwrap();
        assert!(revision >= last && revision < 1 << 53, "{revision} after {last}");
        std::mem::replace(&mut last, revision) != revision
    };
    let at = |version: u32, status: &str| {
        format!(r#"{{"id":"1","job_id":"j","job_type":"CREATE_SERVER","status":"{status}","version":{version}}}"#)
    };
    assert!(changed(&at(2, "RUNNING")).await);
    assert!(!changed(&at(2, "RUNNING")).await, "unchanged");
    assert!(!changed(&at(1, "SUCCESS")).await, "stale");
    assert!(!changed("").await, "empty");
    assert!(changed(&at(3, "RUNNING")).await, "another version");
}

#[tokio::test]
async fn the_family_decides_the_permission() {
    let server = Running::start(config()).await;
    for (family, status) in [("", 200), ("app", 200), ("image", 403), ("x", 400)] {
        for (operation, query) in [("summary", ""), ("wait", "&revision=9")] {
            let query = format!("?family={family}{query}");
            let url = format!("http://{}/subjobs/v1/{PROJECT}/{operation}{query}", server.public);
            let response = server.client.get(url).header("X-Auth-Token", DASHBOARD).send().await.unwrap();
            assert_eq!(response.status(), status, "{operation}{query}");
        }
    }
}
