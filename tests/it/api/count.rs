//! A count after a report.

use crate::support::fixtures::{OPS, config, record};
use crate::support::response::json;
use crate::support::server::Running;

#[tokio::test]
async fn reported_subtasks_are_counted() {
    let server = Running::start(config()).await;
    let body = [record("1", "j", "CREATE_SERVER", "RUNNING"), record("2", "j", "DELETE_SERVER", "FAILED")].join("\n");
    let answer = json(server.report(OPS, body).send().await.unwrap()).await;
    assert_eq!(answer, serde_json::json!({"created": 2, "updated": 0, "unchanged": 0, "stale": 0}));
    assert_eq!(server.count("").await, 2);
    assert_eq!(server.count("?status=FAILED&job_type=DELETE_SERVER&job_id=j").await, 1);
}
