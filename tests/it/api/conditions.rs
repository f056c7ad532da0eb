//! `If-None-Match` of counts and summaries: a caller that has the current response gets 304.

use crate::support::connection::{Connection, request, valid_count};
use crate::support::fixtures::{OPS, PROJECT, config, record};
use crate::support::server::Running;

#[tokio::test]
async fn the_etag_of_a_count_is_its_number() {
    let server = Running::start(config()).await;
    server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    let mut connection = Connection::open(server.public).await;
    for (condition, status) in
        [("\"1\"", 304), ("W/\"1\"", 304), ("*", 304), ("\"0\", \"1\"", 304), ("\"0\"", 200), ("1", 200), ("", 200)]
    {
        for method in ["GET", "HEAD"] {
            let request = valid_count("", &[&format!("If-None-Match: {condition}")]).replacen("GET", method, 1);
            connection.send(request).await;
            let answer = if status == 304 || method == "HEAD" {
                connection.response_to_head().await
            } else {
                connection.response().await
            };
            assert_eq!((answer.status, answer.header("etag")), (status, Some("\"1\"")), "{method} {condition}");
            let lengths = ["content-type", "content-length"].map(|name| answer.header(name).is_some());
            assert_eq!(lengths, [status == 200; 2], "{method} {condition}");
            if status == 200 && method == "GET" {
                assert_eq!(answer.count(), 1);
            }
        }
    }
    // A condition is evaluated after all other decisions.
    connection.send(valid_count("?status=x", &["If-None-Match: *"])).await;
    assert_eq!(connection.response().await.status, 400);
    connection.send(valid_count("", &[])).await;
    let answer = connection.response().await;
    assert_eq!((answer.status, answer.header("etag")), (200, None));
}

#[tokio::test]
async fn a_summary_is_304_until_the_revision_or_the_filter_changes() {
    let server = Running::start(config()).await;
    let report = async |status| {
        server.report(OPS, record("1", "j", "CREATE_SERVER", status)).send().await.unwrap();
    };
    report("RUNNING").await;
    let mut connection = Connection::open(server.public).await;
    let mut ask = async |query: &str, tag: &str| {
        let (target, condition) = (format!("/subjobs/v1/{PROJECT}/summary{query}"), format!("If-None-Match: {tag}"));
        connection.send(request("GET", &target, OPS, &[&condition])).await;
        let answer = connection.response_to_head().await;
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if answer.status == 200 {
            connection.body(length).await;
        }
        (answer.status, answer.header("etag").unwrap().to_owned())
    };
    let (status, first) = ask("", "\"x\"").await;
    assert_eq!(status, 200);
    assert_eq!(ask("", &first).await, (304, first.clone()));
    assert_eq!(ask("", &format!("\"x\", W/{first}")).await.0, 304);
    assert_eq!(ask("", "\"x\",*").await.0, 304);
    assert_eq!(ask("?family=image", &first).await.0, 200);
    assert_eq!(ask("?job_id=j", &first).await.0, 200);
    assert_eq!(ask("?job_type=CREATE_SERVER", &first).await.0, 200);
    report("RUNNING").await;
    assert_eq!(ask("", &first).await.0, 304, "an unchanged record is no change");
    report("SUCCESS").await;
    let (status, second) = ask("", &first).await;
    assert_eq!(status, 200);
    assert_ne!(first, second);
}
