//! The clock of an ephemeral server: subtasks and tokens expire by it.

use std::time::Duration;

use serde_json::{Value, json};
use subjobs::config::Config;
use subjobs::domain::Timestamp;
use subjobs::{AccessSource, Ephemeral};

use crate::support::fixtures::{DASHBOARD, EXPIRED, OPS, PROJECT, WORKER, access, code, config, record};
use crate::support::response::{assert_error, json as body};
use crate::support::server::Running;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn ephemeral(config: Config) -> Running {
    Running::start(Config { ephemeral: Some(Ephemeral::with_access_file()), ..config }).await
}

fn url(server: &Running) -> String {
    format!("http://{}/clock", server.internal)
}

async fn set(server: &Running, setting: Value) -> Value {
    let response = server.client.put(url(server)).json(&setting).send().await.unwrap();
    assert_eq!(response.status(), 200);
    body(response).await
}

#[tokio::test]
async fn subtasks_that_expire_by_the_clock_are_gone_before_the_response() {
    let server = ephemeral(Config { retain_finished: Some(30 * DAY), ..config() }).await;
    let records: Vec<_> = (0..3000).map(|id| record(&id.to_string(), "j", "CREATE_SERVER", "SUCCESS")).collect();
    let running = record("running", "j", "CREATE_SERVER", "RUNNING");
    server.report(OPS, format!("{}\n{running}", records.join("\n"))).send().await.unwrap();
    let days = |days: u64| json!({ "offset_seconds": days * 24 * 60 * 60 });
    set(&server, days(29)).await;
    assert_eq!(server.count("").await, 3001);
    // What is reported now ends 29 days later than the others.
    server.report(OPS, record("late", "j", "CREATE_SERVER", "FAILED")).send().await.unwrap();
    set(&server, days(31)).await;
    assert_eq!((server.count("").await, server.count("?status=FAILED").await), (2, 1));
    set(&server, days(61)).await;
    assert_eq!(server.count("").await, 1);
    assert_eq!(server.metric("subjobs_expired_total").await, Some(3001.0));
}

#[tokio::test]
async fn tokens_expire_by_the_clock() {
    let expires = "expires_at = 2020-01-01T00:00:00Z";
    let access = access().replace(expires, "expires_at = 2090-01-01T00:00:00Z");
    let server = ephemeral(Config { access: AccessSource::Text(access), ..config() }).await;
    let status = async |token| server.ask(token, "").send().await.unwrap().status().as_u16();
    for (now, expected) in [("2089-12-31T23:59:00Z", 200), ("2090-01-01T00:00:01Z", 401), ("2000-01-01T00:00:00Z", 200)]
    {
        set(&server, json!({ "now": now })).await;
        assert_eq!((status(EXPIRED).await, status(DASHBOARD).await), (expected, 200), "{now}");
    }
}

#[tokio::test]
async fn a_token_that_expires_during_a_wait_gets_its_answer_unless_the_access_file_was_reloaded() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let expires = "expires_at = 2020-01-01T00:00:00Z";
    std::fs::write(&file, access().replace(expires, "expires_at = 2090-01-01T00:00:00Z")).unwrap();
    let server = ephemeral(Config { access: AccessSource::File(file.path().into()), ..config() }).await;
    for (id, is_reloaded, expected) in [("1", false, 200), ("2", true, 401)] {
        set(&server, json!({ "now": "2089-12-31T23:59:00Z" })).await;
        let script = async {
            server.reaches("subjobs_http_waiting{for=\"change\"}", 1.0).await;
            set(&server, json!({ "now": "2090-01-01T00:00:01Z" })).await;
            if is_reloaded {
                server.access.reload().unwrap();
            }
            server.report(WORKER, record(id, "j", "CREATE_SERVER", "RUNNING")).send().await.unwrap();
        };
        let url = format!("http://{}/subjobs/v1/{PROJECT}/wait?until=eq:{id}", server.public);
        let waited = server.client.get(url).header("X-Auth-Token", EXPIRED).send();
        let (waited, ()) = tokio::join!(waited, script);
        assert_eq!(waited.unwrap().status(), expected, "{id}");
    }
}

#[tokio::test]
async fn the_clock_goes_on_and_a_reset_sets_it_back() {
    let server = ephemeral(config()).await;
    let read = async || body(server.get_internal("/clock").await).await;
    let time = |reading: &Value| reading["now"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(read().await["offset_seconds"], 0.0);
    let set_to = "2050-06-01T12:00:00Z".parse::<Timestamp>().unwrap();
    let first = set(&server, json!({ "now": "2050-06-01T12:00:00Z" })).await;
    let second = read().await;
    assert!(set_to <= time(&first) && time(&first) < time(&second) && set_to.until(time(&second)) < DAY, "{second}");
    assert!(second["offset_seconds"].as_f64() > Some(0.0));
    let back = |reading: Value| reading["offset_seconds"] == 0.0 && time(&reading).until(Timestamp::now()) < DAY;
    let reset = server.client.delete(url(&server)).send().await.unwrap();
    assert!(back(body(reset).await));
    set(&server, json!({ "offset_seconds": -86_400.5 })).await;
    server.client.post(format!("http://{}/reset", server.internal)).send().await.unwrap();
    assert!(back(read().await));
}

#[tokio::test]
async fn an_invalid_setting_is_refused_and_only_an_ephemeral_server_has_a_clock() {
    let server = ephemeral(config()).await;
    let put = |server: &Running, setting: Value| server.client.put(url(server)).json(&setting).send();
    let said = assert_error(put(&server, json!({ "now": "soon" })).await.unwrap(), 400, code::INPUT).await;
    assert!(said.contains("now must be an RFC 3339 date and time"), "{said}");
    let with_mark = server.client.put(url(&server)).header("Content-Type", "application/json");
    let with_mark = with_mark.body("\u{feff}{\"offset_seconds\":1}").send().await.unwrap();
    assert_error(with_mark, 400, code::INPUT).await;
    assert_eq!(body(server.get_internal("/clock").await).await["offset_seconds"], 0.0);
    let server = Running::start(config()).await;
    let put = put(&server, json!({ "offset_seconds": 1 })).await.unwrap();
    assert_error(put, 404, code::NOT_FOUND).await;
    assert_error(server.get_internal("/clock").await, 404, code::NOT_FOUND).await;
}
