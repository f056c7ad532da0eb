//! A signed report that is sent again, by an attacker or by an SDK that did not receive the response.

use serde_json::Value;
use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::fixtures::{
    OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER, WORKER_KEY, access_with_keys, config, outcome, record,
};
use crate::support::response::json;
use crate::support::server::Running;
use crate::support::signer::Call;

const NDJSON: &str = "application/x-ndjson";

async fn server() -> Running {
    Running::start(Config { access: AccessSource::Text(access_with_keys()), ..config() }).await
}

fn report(status: &str) -> Call {
    Call::report(NDJSON, &record("1", "j", "CREATE_SERVER", status)).sign(WORKER_KEY)
}

async fn taken(server: &Running, call: &Call) -> Value {
    let response = call.send(server.internal).await;
    assert_eq!(response.status(), 200);
    json(response).await
}

#[tokio::test]
async fn a_replayed_report_changes_nothing_and_gets_the_first_response() {
    let server = server().await;
    let (running, success) = (report("RUNNING"), report("SUCCESS"));
    assert_eq!(taken(&server, &running).await, outcome(1, 0, 0, 0));
    assert_eq!(taken(&server, &success).await, outcome(0, 1, 0, 0));
    for _ in 0..3 {
        assert_eq!(taken(&server, &running).await, outcome(1, 0, 0, 0));
        assert_eq!(server.count("?status=SUCCESS").await, 1);
    }
    // Parts that are not signed may change on the way: a header, a token, the encoding of the path, the framing of the body.
    let path = format!("/v1/{PROJECT}/app-server-sub-jobs/actions/report");
    let target = path.replacen("/v1/2", "/v1/%32", 1);
    for changed in [
        running.clone().header("X-Forwarded-For", "192.0.2.1"),
        running.clone().header("X-Auth-Token", WORKER),
        running.clone().target(&target),
        running.clone().edit_authorization(|value| value.replace(", ", ",")),
        Call::report(NDJSON, &record("1", "j", "CREATE_SERVER", "RUNNING"))
            .sign_only(WORKER_KEY, "x-sdk-date")
            .replace("Content-Type", "application/x-ndjson;a=b"),
    ] {
        let first = taken(&server, &changed).await;
        taken(&server, &success).await;
        assert_eq!(taken(&server, &changed).await, first);
    }
    let again = running.send_chunked(server.internal, false).await;
    assert_eq!(json(again).await, outcome(1, 0, 0, 0));
}

#[tokio::test]
async fn of_concurrent_equal_reports_one_is_applied() {
    let server = server().await;
    let call = report("RUNNING");
    let answers = futures_util::future::join_all((0..16).map(|_| taken(&server, &call))).await;
    assert!(answers.iter().all(|answer| *answer == outcome(1, 0, 0, 0)), "{answers:?}");
}

#[tokio::test]
async fn only_accepted_reports_are_remembered() {
    let server = server().await;
    let bad = Call::report(NDJSON, "nonsense").sign(WORKER_KEY);
    for _ in 0..2 {
        assert_eq!(bad.send(server.internal).await.status(), 400);
    }
    // The same body by another key, in another project or at another time is another report.
    let body = record("1", "j", "CREATE_SERVER", "RUNNING");
    let call = || Call::report(NDJSON, &body);
    assert_eq!(taken(&server, &call().sign(WORKER_KEY)).await, outcome(1, 0, 0, 0));
    assert_eq!(taken(&server, &call().sign(OPS_KEY)).await, outcome(0, 0, 1, 0));
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    assert_eq!(taken(&server, &call().at(later).sign(WORKER_KEY)).await, outcome(0, 0, 1, 0));
    let path = format!("/v1/{OTHER_PROJECT}/app-server-sub-jobs/actions/report");
    let other = Call::new("POST", &path).header("Content-Type", NDJSON).body(&body).sign(OPS_KEY);
    assert_eq!(taken(&server, &other).await, outcome(1, 0, 0, 0));
    // A report with a token only is not a replay: a token is not bound to a body.
    for _ in 0..2 {
        let response = server.report(OPS, body.clone()).send().await.unwrap();
        assert_eq!(json(response).await, outcome(0, 0, 1, 0));
    }
}
