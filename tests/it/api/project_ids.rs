//! Valid and invalid project ids, and their percent-encoding.

use crate::api::filters::{CountClient, server};
use crate::support::fixtures::{OPS, code, record};
use crate::support::response::json;

#[tokio::test]
async fn valid_project_ids_are_accepted() {
    let server = server().await;
    let mut client = CountClient::new(server.public).await;
    let (longest, longest_encoded) = ("a".repeat(128), "%C3%A9".repeat(128));
    let listed = "p ... ..a .a a. - ~!$&'()*,;=:@ a+b %2B %25 %7Bproject_id%7D {project_id} %22 é %F0%9F%A6%80 \
        count %3F%23";
    for project in listed.split(' ').chain([&*longest, &*longest_encoded]) {
        assert_eq!(client.project(project.as_bytes()).await.count(), 0, "{project}");
    }
}

#[tokio::test]
async fn invalid_project_ids_are_refused() {
    let server = server().await;
    let mut client = CountClient::new(server.public).await;
    let (long, long_encoded) = ("a".repeat(129), "%C3%A9".repeat(129));
    let listed = ". .. %2e %2E%2e .%2E a%2Fb a%2fb %2F a%5Cb a\\b %00 a%00 %0A a%0d%0a %1f %7F %C2%80 %C2%85 %20 \
        a%20b %09 %C2%A0 %E2%80%83 %E3%80%80 % %1 a% %zz %%20 %+1 %u0061 %ff %ff%fe %c3 %c3%28 \
        %ed%a0%80 %c0%af %f4%90%80%80";
    for project in listed.split(' ').chain([&*long, &*long_encoded]) {
        let message = client.project(project.as_bytes()).await.assert_error(400, code::INPUT);
        assert!(message.starts_with("project_id must "), "{project}: {message}");
    }
}

/// Two encodings of one id are one project. Two ids are never one project.
#[tokio::test]
async fn a_percent_encoded_project_id_is_decoded() {
    let server = server().await;
    let url = format!("http://{}/v1/a+%25b/app-server-sub-jobs/actions/report", server.internal);
    let report = server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/json");
    let body = format!("[{}]", record("1", "j", "CREATE_SERVER", "RUNNING"));
    assert_eq!(json(report.body(body).send().await.unwrap()).await["created"], 1);
    let mut client = CountClient::new(server.public).await;
    for (project, count) in
        [("a+%25b", 1), ("%61%2B%25%62", 1), ("a%2b%25b", 1), ("A+%25b", 0), ("a+%2525b", 0), ("a+%25B", 0)]
    {
        assert_eq!(client.project(project.as_bytes()).await.count(), count, "{project}");
    }
}
