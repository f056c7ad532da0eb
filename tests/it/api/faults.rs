//! Faults of an ephemeral server: as the server's own errors, and impossible without the option.

use reqwest::Method;
use serde_json::{Value, json};
use subjobs::Ephemeral;
use subjobs::config::Config;

use crate::support::connection::{self, exchange};
use crate::support::fixtures::{OPS, PROJECT, code, config, count_path, record};
use crate::support::response::{assert_error, json as body};
use crate::support::server::Running;

async fn ephemeral() -> Running {
    Running::start(Config { ephemeral: Some(Ephemeral::with_access_file()), ..config() }).await
}

async fn request(server: &Running, method: Method, sent: Option<Value>) -> reqwest::Response {
    let request = server.client.request(method, format!("http://{}/faults", server.internal));
    match sent {
        Some(sent) => request.json(&sent).send().await.unwrap(),
        None => request.send().await.unwrap(),
    }
}

async fn set(server: &Running, rules: Value) -> Value {
    let response = request(server, Method::PUT, Some(json!({ "rules": rules }))).await;
    assert_eq!(response.status(), 200);
    body(response).await
}

#[tokio::test]
async fn an_injected_503_is_that_of_an_overloaded_server() {
    let server = ephemeral().await;
    set(&server, json!([{ "operation": "CountSubJobs", "status": 503, "times": 1 }])).await;
    let more = ["X-Request-Id: mine", "Connection: close"];
    let injected = exchange(server.public, connection::request("GET", &count_path(PROJECT), OPS, &more)).await;
    assert_eq!(injected.status, 503);
    assert_eq!(injected.json()["error_code"], code::UNAVAILABLE);
    assert_eq!(injected.json()["error_msg"], "the service is overloaded");
    for (name, value) in [
        ("x-request-id", "mine"),
        ("retry-after", "1"),
        ("cache-control", "no-store"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(injected.header(name), Some(value), "{name}");
    }
    assert_eq!(server.count("").await, 0);
    let errors = server.metric("subjobs_refusals_total{reason=\"overloaded\"}").await;
    assert_eq!(errors, Some(1.0));
}

#[tokio::test]
async fn an_injected_500_hides_its_cause_and_comes_before_the_credential() {
    let server = ephemeral().await;
    set(&server, json!([{ "status": 500 }])).await;
    for (token, path) in [(OPS, count_path(PROJECT)), ("unknown", "/v3/projects".to_owned())] {
        let url = format!("http://{}{path}", server.public);
        let response = server.client.get(url).header("X-Auth-Token", token).send().await.unwrap();
        assert!(response.headers().contains_key("x-request-id"));
        assert_error(response, 500, "WKS.00211401").await;
    }
    // Other methods and paths are no operations, and neither probes nor reports are public.
    let posted = server.client.post(server.count_url(PROJECT, "")).send().await.unwrap();
    assert_error(posted, 405, code::METHOD).await;
    assert_eq!(server.get_internal("/readyz").await.status(), 200);
    let reported = server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
    assert_eq!(reported.status(), 200);
    assert_eq!(server.metric("subjobs_refusals_total{reason=\"fault\"}").await, Some(2.0));
    assert_eq!(request(&server, Method::DELETE, None).await.status(), 200);
    assert_eq!(server.count("").await, 1);
}

#[tokio::test]
async fn reports_fail_by_their_operation_or_route() {
    let server = ephemeral().await;
    let report = || server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING"));
    let route = "/v1/{project_id}/app-server-sub-jobs/actions/report";
    for rule in [json!({ "operation": "ReportSubJobs", "status": 503 }), json!({ "route": route, "status": 503 })] {
        set(&server, json!([rule])).await;
        assert_error(report().send().await.unwrap(), 503, code::UNAVAILABLE).await;
        assert_eq!(server.count("").await, 0);
    }
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"failed\"}").await, Some(2.0));
    set(&server, json!([])).await;
    assert_eq!(report().send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn rules_are_listed_with_their_hits_and_removed_by_a_reset() {
    let server = ephemeral().await;
    let none = json!({ "rules": [] });
    assert_eq!(body(request(&server, Method::GET, None).await).await, none);
    let rule = json!({ "operation": "CountSubJobs", "status": 503, "ratio": 0.5, "seed": 3, "times": 5 });
    set(&server, json!([rule, { "latency_ms": 1 }])).await;
    let mut failed = 0;
    for _ in 0..8 {
        failed += u64::from(server.ask(OPS, "").send().await.unwrap().status() == 503);
    }
    let listed = body(request(&server, Method::GET, None).await).await;
    assert_eq!(listed["rules"][0]["hits"], failed);
    assert_eq!(listed["rules"][1]["hits"], 8 - failed);
    assert!((1..=5).contains(&failed), "{failed}");
    let reset = server.client.post(format!("http://{}/reset", server.internal)).send().await.unwrap();
    assert_eq!(reset.status(), 200);
    assert_eq!(body(request(&server, Method::GET, None).await).await, none);
}

#[tokio::test]
async fn an_invalid_body_changes_no_rule() {
    let server = ephemeral().await;
    set(&server, json!([{ "operation": "CountSubJobs", "status": 503 }])).await;
    let put = |media_type: &'static str, sent: String| {
        let request = server.client.put(format!("http://{}/faults", server.internal));
        request.header("Content-Type", media_type).body(sent).send()
    };
    let response = put("application/json", r#"{"rules":[{"status":418}]}"#.into()).await.unwrap();
    let said = assert_error(response, 400, code::INPUT).await;
    assert!(said.contains("rule 1 must have status 500 or 503"), "{said}");
    assert_error(put("application/json", "\u{feff}{\"rules\":[]}".into()).await.unwrap(), 400, code::INPUT).await;
    assert_error(put("text/plain", r#"{"rules":[]}"#.into()).await.unwrap(), 415, code::MEDIA_TYPE).await;
    assert_error(put("application/json", " ".repeat(65_537)).await.unwrap(), 413, code::TOO_LARGE).await;
    assert_eq!(server.ask(OPS, "").send().await.unwrap().status(), 503);
}

#[tokio::test]
async fn only_an_ephemeral_server_has_faults() {
    let server = Running::start(Config { allow_reset: true, ..config() }).await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        assert_error(request(&server, method, Some(json!({ "rules": [] }))).await, 404, code::NOT_FOUND).await;
    }
}
