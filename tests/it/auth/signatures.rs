//! Signed requests as they come over the wire.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Response;
use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::fixtures::{
    DASHBOARD, DASHBOARD_KEY, EXPIRED, Key, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER_KEY, access_with_keys, record,
};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;
use crate::support::signer::{Call, date};

const NOBODY: &str = "neither X-Auth-Token nor a signature is given";
const REPEATED: &str = "Authorization is given more than once";
const FORM: &str = "Authorization must be SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…";
const DATE: &str = "X-Sdk-Date must be given once, as 20220307T104043Z, and be signed";
const SKEW: &str = "X-Sdk-Date must be within 15 minutes of the server's time";
const HEADER: &str = "every signed header must be given once";
const TOO_LONG: &str = "the body is too long to be signed";
const INVALID: &str = "the access key or the signature is not valid";
const DIFFERENT: &str = "X-Auth-Token and Authorization are of different callers";

/// The most of a body on the public listener that is read for a signature.
const MAX_SIGNED: usize = 64 * 1024;

fn config() -> Config {
    Config::on_any_port(AccessSource::Text(access_with_keys()))
}

/// A server that knows five subtasks of [`PROJECT`].
async fn server() -> Running {
    let server = Running::start(config()).await;
    let body = [
        record("1", "a b/é+%&=", "CREATE_SERVER", "RUNNING"),
        record("2", "a b/é+%&=", "DELETE_SERVER", "RUNNING"),
        record("3", "j", "DELETE_SERVER", "RUNNING"),
        record("4", "j", "REJOIN_DOMAIN", "FAILED"),
        record("5", "j", "REJOIN_DOMAIN", "FAILED"),
    ];
    assert_eq!(server.report(OPS, body.join("\n")).send().await.unwrap().status(), 200);
    server
}

async fn counted(response: Response) -> u64 {
    assert_eq!(response.status(), 200);
    json(response).await["count"].as_u64().unwrap()
}

/// Asserts a 401 with this message, of which no part is a secret.
async fn refused(response: Response, reason: &str) {
    let message = assert_error(response, 401, "WKS.00211302").await;
    assert_eq!(message, reason);
    for key in [OPS_KEY, DASHBOARD_KEY, WORKER_KEY] {
        assert!(!message.contains(key.secret) && !message.contains(key.id), "{message}");
    }
}

#[tokio::test]
async fn a_signed_count_is_answered() {
    let server = server().await;
    for (query, count) in [
        (&[][..], 5),
        (&[("status", "RUNNING")], 3),
        (&[("job_type", "CREATE_SERVER,REJOIN_DOMAIN")], 3),
        (&[("job_id", "a b/é+%&=")], 2),
        (&[("job_id", "a b/é+%&="), ("job_type", "DELETE_SERVER"), ("status", "RUNNING")], 1),
        (&[("status", ""), ("limit", "10"), ("limit", "2"), ("é", "")], 5),
    ] {
        let call = Call::count().query(query).sign(OPS_KEY);
        assert_eq!(counted(call.send(server.public).await).await, count, "{query:?}");
    }
    let path = |project: &str| format!("/v1/{project}/app-server-sub-jobs/actions/count");
    // The signature is good, as the project is asked about after it.
    let odd = Call::new("GET", &path("é+~*'()@%41")).sign(OPS_KEY).send(server.public).await;
    assert_error(odd, 404, "WKS.00211902").await;
    let odd = Call::new("GET", &path("é")).target(&path("e%CC%81")).sign(OPS_KEY).send(server.public).await;
    refused(odd, INVALID).await;
    let same = Call::count().target(&path(&PROJECT.replace('a', "%61"))).sign(OPS_KEY).send(server.public).await;
    assert_eq!(counted(same).await, 5);
}

/// Dates have one second's grain and nothing else tells calls apart, so equal calls must be as good as one.
#[tokio::test]
async fn a_cloned_request_is_as_good_as_the_first() {
    let server = server().await;
    let call = Call::count().sign(OPS_KEY);
    for _ in 0..3 {
        assert_eq!(counted(call.clone().send(server.public).await).await, 5);
    }
    let (one, other) = tokio::join!(call.send(server.public), call.send(server.public));
    assert_eq!((counted(one).await, counted(other).await), (5, 5));
}

#[tokio::test]
async fn a_query_is_signed_as_it_is_meant() {
    let server = server().await;
    let call = Call::count().query(&[("job_id", "a b/é+%&="), ("job_type", "CREATE_SERVER"), ("status", "RUNNING")]);
    for same in [
        "status=RUNNING&job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER",
        "job_type=CREATE_SERVER&status=RUNNING&job_id=a+b/%c3%a9%2b%25%26=",
        "&job_type=CREATE%5fSERVER&&%73tatus=RUNNING&job_id=a%20b%2F%C3%A9%2B%25%26%3D&",
    ] {
        let call = call.clone().query_written(same).sign(OPS_KEY);
        assert_eq!(counted(call.send(server.public).await).await, 1, "{same}");
    }
    for other in [
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=FAILED",
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&Status=RUNNING",
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER",
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=RUNNING&limit=1",
        "job_id=a%2520b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=RUNNING",
        "job_id=a b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=RUNNING".replace(' ', "%2B").as_str(),
        "job_id=CREATE_SERVER&job_type=a%20b%2F%C3%A9%2B%25%26%3D&status=RUNNING",
    ] {
        refused(call.clone().query_written(other).sign(OPS_KEY).send(server.public).await, INVALID).await;
    }
}

#[tokio::test]
async fn everything_that_is_signed_must_be_as_it_was_signed() {
    let server = server().await;
    let good = || Call::count().header("X-Note", "one").sign(OPS_KEY);
    assert_eq!(counted(good().send(server.public).await).await, 5);
    let later = date(Timestamp::now() + SignedDuration::from_secs(60));
    for changed in [
        good().replace("X-Note", "two"),
        good().replace("X-Note", "One"),
        good().replace("Host", "other.example"),
        good().replace("X-Sdk-Date", &later),
        good().body("{}"),
        good().target(&format!("/v1/{OTHER_PROJECT}/app-server-sub-jobs/actions/count")),
        good().query_written("status=RUNNING"),
        good().spoil(|value| value.replace("AKOPS", "AKDASHBOARD")),
        good().spoil(|value| value.replace("SignedHeaders=host;", "SignedHeaders=")),
        good().spoil(|value| value.replace("host;x-note", "x-note;host")),
    ] {
        refused(changed.send(server.public).await, INVALID).await;
    }
    let head = Call::new("HEAD", &format!("/v1/{PROJECT}/app-server-sub-jobs/actions/count"));
    let signed_as_head = head.sign(OPS_KEY);
    assert_eq!(signed_as_head.clone().send(server.public).await.status(), 200);
}

#[tokio::test]
async fn an_unknown_key_and_a_wrong_signature_are_told_alike() {
    let server = server().await;
    let Key { id, secret } = OPS_KEY;
    let zeros = "0".repeat(64);
    let signature = |value: &str| value.rsplit('=').next().unwrap().to_owned();
    for bad in [
        Call::count().sign(Key { id: "AKNOBODY", secret }),
        Call::count().sign(Key { id: "akops", secret }),
        Call::count().sign(Key { id: secret, secret: id }),
        Call::count().sign(Key { id, secret: "wrong" }),
        Call::count().sign(Key { id, secret: &secret[1..] }),
        Call::count().sign(Key { id, secret: DASHBOARD_KEY.secret }),
        Call::count().sign(OPS_KEY).spoil(|value| value.replace(&signature(value), &zeros)),
        Call::count().sign(OPS_KEY).spoil(|value| value[..value.len() - 1].to_owned()),
        Call::count().sign(OPS_KEY).spoil(|value| format!("{value}0")),
        // Upper-case digits are another signature.
        Call::count().sign(OPS_KEY).spoil(|value| value.replace(&signature(value), &signature(value).to_uppercase())),
    ] {
        refused(bad.send(server.public).await, INVALID).await;
    }
}

#[tokio::test]
async fn the_date_must_be_near() {
    let server = server().await;
    let off = |seconds| Call::count().at(Timestamp::now() + SignedDuration::from_secs(seconds)).sign(OPS_KEY);
    let (near, far) = (14 * 60 + 59, 15 * 60 + 1);
    // On a busy machine seconds pass until the server looks at its clock. Where they would spoil the test there are some to
    // spare; the exact bounds are the unit tests' matter.
    let spare = 20;
    for seconds in [-near + spare, 0, near] {
        assert_eq!(counted(off(seconds).send(server.public).await).await, 5, "{seconds}");
    }
    for seconds in [-far, -86_400, far + spare, 86_400] {
        refused(off(seconds).send(server.public).await, SKEW).await;
    }
    // A far date is refused without asking whose key it is.
    let nobody = Key { id: "AKNOBODY", secret: "x" };
    refused(Call::count().at(Timestamp::UNIX_EPOCH).sign(nobody).send(server.public).await, SKEW).await;
}

#[tokio::test]
async fn the_date_must_be_given_once_and_signed() {
    let server = server().await;
    let good = || Call::count().sign(OPS_KEY);
    let now = Timestamp::now();
    let with_date = |date: &str| Call::count().replace("X-Sdk-Date", date).sign(OPS_KEY);
    for bad in [
        good().without("X-Sdk-Date"),
        good().header("X-Sdk-Date", date(now)),
        Call::count().without("X-Sdk-Date").sign(OPS_KEY),
        Call::count().without("X-Sdk-Date").sign_only(OPS_KEY, "host;x-sdk-date"),
        Call::count().sign_only(OPS_KEY, "host"),
        Call::count().sign_only(OPS_KEY, "host;X-Sdk-Date"),
        Call::count().sign_only(OPS_KEY, "host;x-sdk-date-2"),
        with_date(""),
        with_date("now"),
        with_date(&now.to_string()),
        with_date(&now.as_second().to_string()),
        with_date(&now.strftime("%Y%m%dT%H%M%S").to_string()),
        with_date(&now.strftime("%Y%m%dT%H%M%S+0000").to_string()),
        // Date, which a browser's or proxy's request may have, is no X-Sdk-Date.
        Call::count()
            .without("X-Sdk-Date")
            .header("Date", now.strftime("%a, %d %b %Y %T GMT").to_string())
            .sign(OPS_KEY),
    ] {
        refused(bad.send(server.public).await, DATE).await;
    }
}

#[tokio::test]
async fn a_signature_has_one_form() {
    let server = server().await;
    let good = || Call::count().sign(OPS_KEY);
    for bad in [
        good().replace("Authorization", "SDK-HMAC-SHA256"),
        good().replace("Authorization", "SDK-HMAC-SHA256 "),
        good().spoil(|value| value.replace("Access=AKOPS, ", "")),
        good().spoil(|value| value.replace("AKOPS", "")),
        good().spoil(|value| value.replace("SignedHeaders", "Signedheaders")),
        good().spoil(|value| value.replace(", Signature=", "; Signature=")),
        good().spoil(|value| format!("{value}, Signature=0")),
        good().spoil(|value| format!("{value}, Region=local-1")),
        good().spoil(|value| format!("{value},")),
        good().spoil(|value| value.replace("AKOPS", OPS_KEY.secret).replace("Signature=", "")),
    ] {
        refused(bad.send(server.public).await, FORM).await;
    }
    for same in [good().spoil(|value| value.replace(", ", ",")), good().spoil(|value| value.replace(", ", "  ,   "))] {
        assert_eq!(counted(same.send(server.public).await).await, 5);
    }
}

/// Another scheme is no credential: alone it is none, and beside a good one it is ignored.
#[tokio::test]
async fn an_unknown_algorithm_is_no_credential() {
    let server = server().await;
    for scheme in ["SDK-HMAC-SM3", "V11-HMAC-SHA256", "SDK-ECDSA-P256-SHA256", "sdk-hmac-sha256", "SDK-HMAC-SHA2567"] {
        let call = || Call::count().sign(OPS_KEY).spoil(|value| value.replace("SDK-HMAC-SHA256", scheme));
        refused(call().send(server.public).await, NOBODY).await;
        assert_eq!(counted(call().header("X-Auth-Token", OPS).send(server.public).await).await, 5, "{scheme}");
        refused(call().header("X-Auth-Token", "nobody").send(server.public).await, "X-Auth-Token is not valid").await;
    }
}

#[tokio::test]
async fn of_several_authorizations_none_is_believed() {
    let server = server().await;
    let good = || Call::count().sign(OPS_KEY);
    for repeated in [
        good().sign(OPS_KEY),
        good().header("Authorization", "Bearer x"),
        good().header("Authorization", ""),
        Call::count().header("Authorization", "Basic eDp5").sign_only(OPS_KEY, "host;x-sdk-date"),
    ] {
        refused(repeated.clone().send(server.public).await, REPEATED).await;
        refused(repeated.header("X-Auth-Token", OPS).send(server.public).await, REPEATED).await;
    }
    let others = Call::count().header("Authorization", "Bearer x").header("Authorization", "Basic eDp5");
    refused(others.clone().send(server.public).await, NOBODY).await;
    assert_eq!(counted(others.header("X-Auth-Token", OPS).send(server.public).await).await, 5);
}

/// Node's core sends `{}` with a GET.
#[tokio::test]
async fn a_body_is_signed_as_it_came() {
    let server = server().await;
    let signed = || Call::count().body("{}").sign(OPS_KEY);
    assert_eq!(counted(signed().send(server.public).await).await, 5);
    assert_eq!(counted(signed().send_chunked(server.public, false).await).await, 5);
    for changed in ["", "{ }", "[]", "{}\n"] {
        refused(signed().body(changed).send(server.public).await, INVALID).await;
    }
}

#[tokio::test]
async fn of_a_body_64_kib_can_be_signed() {
    let server = server().await;
    let call = |length: usize| Call::count().body("x".repeat(length)).sign(OPS_KEY);
    assert_eq!(counted(call(MAX_SIGNED).send(server.public).await).await, 5);
    assert_eq!(counted(call(MAX_SIGNED).send_chunked(server.public, false).await).await, 5);
    // What is announced as too long is refused before it comes, and what is not, as soon as there is too much.
    refused(call(MAX_SIGNED + 1).send_part(server.public, 0).await, TOO_LONG).await;
    refused(call(MAX_SIGNED + 1).send_chunked(server.public, true).await, TOO_LONG).await;
    // A token does not care.
    let token = Call::count().body("x".repeat(MAX_SIGNED + 1)).header("X-Auth-Token", OPS);
    assert_eq!(token.send(server.public).await.status(), 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_only_with_a_known_key() {
    let config =
        Config { request_timeout: Duration::from_millis(300), report_timeout: Duration::from_millis(300), ..config() };
    let server = Running::start(config).await;
    let call = Call::count().body("{}");
    let stalled = call.clone().sign(OPS_KEY).send_part(server.public, 1).await;
    assert_eq!(assert_error(stalled, 503, "WKS.00050902").await, "the request timed out");
    let stalled = call.clone().sign(OPS_KEY).send_chunked(server.public, true).await;
    assert_eq!(assert_error(stalled, 503, "WKS.00050902").await, "the request timed out");
    let report = Call::report("application/json", "[]");
    let stalled = report.clone().sign(OPS_KEY).send_part(server.internal, 1).await;
    assert_eq!(assert_error(stalled, 503, "WKS.00050902").await, "the request timed out");

    let nobody = Key { id: "AKNOBODY", secret: "x" };
    refused(call.sign(nobody).send_part(server.public, 1).await, INVALID).await;
    refused(report.sign(nobody).send_part(server.internal, 1).await, INVALID).await;
}

#[tokio::test]
async fn a_signed_report_is_taken_and_a_tampered_one_is_not() {
    let server = Running::start(config()).await;
    let info = "x".repeat(7_000);
    let records: Vec<_> = (0..600)
        .map(|id| {
            format!(
                r#"{{"id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING","job_execute_info":{{"a":"{info}"}}}}"#
            )
        })
        .collect();
    let body = format!("[{}]", records.join(","));
    assert!(body.len() > 4 * 1024 * 1024);
    let call = Call::report("application/json", &body).sign(WORKER_KEY);
    // What a record says is changed without changing its length.
    let tampered = body.replacen("RUNNING", "SUCCESS", 1);
    refused(call.clone().body(&tampered).send(server.internal).await, INVALID).await;
    refused(call.clone().body(body.trim_end_matches(']')).send(server.internal).await, INVALID).await;
    assert_eq!(server.count("").await, 0);

    let answer = call.send(server.internal).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(json(answer).await, serde_json::json!({"created": 600, "updated": 0, "unchanged": 0, "stale": 0}));
    assert_eq!(server.count("?status=RUNNING").await, 600);
    let chunked = Call::report("application/json", &body).header("X-Note", "chunked").sign(WORKER_KEY);
    let again = chunked.send_chunked(server.internal, false).await;
    assert_eq!(json(again).await["unchanged"], 600);

    let lines = records[..2].join("\n").replace("RUNNING", "FAILED");
    let ndjson = Call::report("application/x-ndjson", &lines).sign(WORKER_KEY);
    assert_eq!(json(ndjson.send(server.internal).await).await["updated"], 2);
    let empty = Call::report("application/x-ndjson", "").sign(WORKER_KEY);
    assert_eq!(empty.send(server.internal).await.status(), 200);
    let bad = Call::report("application/json", "[{}]").sign(WORKER_KEY);
    assert_error(bad.send(server.internal).await, 400, "WKS.00211102").await;
    assert_eq!(server.count("?status=RUNNING").await, 598);
}

#[tokio::test]
async fn a_token_and_a_signature_must_both_be_valid_and_of_one_caller() {
    let server = server().await;
    let ask = async |token: &str, key: Key<'_>| {
        // The token is not signed: the SDKs' callers add it as they like.
        Call::count().sign(key).header("X-Auth-Token", token).send(server.public).await
    };
    assert_eq!(counted(ask(OPS, OPS_KEY).await).await, 5);
    assert_eq!(counted(ask(DASHBOARD, DASHBOARD_KEY).await).await, 5);
    assert_eq!(counted(Call::count().header("X-Auth-Token", OPS).sign(OPS_KEY).send(server.public).await).await, 5);
    refused(ask(OPS, DASHBOARD_KEY).await, DIFFERENT).await;
    refused(ask(DASHBOARD, OPS_KEY).await, DIFFERENT).await;
    refused(ask(OPS, Key { secret: "wrong", ..OPS_KEY }).await, INVALID).await;
    refused(ask(OPS, Key { id: "AKNOBODY", ..OPS_KEY }).await, INVALID).await;
    refused(ask("nobody", OPS_KEY).await, "X-Auth-Token is not valid").await;
    refused(ask("", OPS_KEY).await, "X-Auth-Token is empty").await;
    refused(ask(EXPIRED, OPS_KEY).await, "X-Auth-Token has expired").await;
    let twice = Call::count().sign(OPS_KEY).header("X-Auth-Token", OPS).header("X-Auth-Token", OPS);
    refused(twice.send(server.public).await, "X-Auth-Token is given more than once").await;
    let unsigned = Call::count().header("X-Auth-Token", OPS);
    assert_eq!(counted(unsigned.send(server.public).await).await, 5);
    refused(Call::count().send(server.public).await, NOBODY).await;
}

#[tokio::test]
async fn a_key_opens_what_its_holder_may_do_and_nothing_else() {
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
        assert_eq!(assert_error(answer, 403, "WKS.00081102").await, format!("the caller has {reason}"));
    }
    // In the order of every decision: credential, permission, inputs, project.
    let bad = |project| count(project).query(&[("status", "running")]);
    refused(bad("nowhere").sign(Key { secret: "x", ..DASHBOARD_KEY }).send(server.public).await, INVALID).await;
    assert_error(bad("nowhere").sign(DASHBOARD_KEY).send(server.public).await, 403, "WKS.00081102").await;
    assert_error(bad("nowhere").sign(OPS_KEY).send(server.public).await, 400, "WKS.00211102").await;
    assert_error(count("nowhere").sign(OPS_KEY).send(server.public).await, 404, "WKS.00211902").await;
}

#[tokio::test]
async fn secrets_come_from_the_environment_and_from_files() {
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
    // A new secret is read with the file that names it.
    write("dashboard.secret", "another\n");
    assert_eq!(counted(Call::count().sign(file).send(server.public).await).await, 0);
    server.access.reload().unwrap();
    refused(Call::count().sign(file).send(server.public).await, INVALID).await;
    let other = Key { secret: "another", ..file };
    assert_eq!(counted(Call::count().sign(other).send(server.public).await).await, 0);
}

#[tokio::test]
async fn a_key_that_is_taken_away_opens_nothing_any_more() {
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

#[tokio::test]
async fn headers_are_signed_as_the_bytes_that_came() {
    let server = server().await;
    for good in [
        Call::count().header("X-Note", "é 子任务").header("User-Agent", "a;b=c,d").header("X-Empty", "").sign(OPS_KEY),
        Call::count().header("X-Note", "  two  words \t").sign(OPS_KEY),
        Call::count().header("X-Note", "\u{3000}wide\u{a0}").sign(OPS_KEY),
        Call::count().header("X-Note", b"caf\xe9, \xff\xfe").sign(OPS_KEY),
        Call::count().without("Host").sign(OPS_KEY).header("Host", "anything.example"),
        Call::count().sign_only(OPS_KEY, "x-sdk-date"),
        Call::count().sign_only(OPS_KEY, "x-sdk-date;host"),
        Call::count()
            .sign(OPS_KEY)
            .header("X-Forwarded-For", "10.0.0.1")
            .header("X-Note", "one")
            .header("X-Note", "two"),
    ] {
        assert_eq!(counted(good.send(server.public).await).await, 5);
    }
    for bad in [
        Call::count().sign_only(OPS_KEY, "host;x-none;x-sdk-date"),
        Call::count().header("X-Note", "one").header("X-Note", "one").sign(OPS_KEY),
        Call::count().header("X-Note", "one").sign(OPS_KEY).header("x-note", "two"),
        Call::count().sign_only(OPS_KEY, "host;;x-sdk-date"),
        Call::count().sign_only(OPS_KEY, "ho st;x-sdk-date"),
    ] {
        refused(bad.send(server.public).await, HEADER).await;
    }
    let other_bytes = Call::count().header("X-Note", b"caf\xe9").sign(OPS_KEY).replace("X-Note", b"caf\xe8");
    refused(other_bytes.send(server.public).await, INVALID).await;
    // Without a Host the request is signed well and not good.
    let message =
        assert_error(Call::count().without("Host").sign(OPS_KEY).send(server.public).await, 400, "WKS.00211102");
    assert_eq!(message.await, "Host is missing");
}

/// A proxy sends the whole URL in the request line; the SDK that speaks to it has signed the path.
#[tokio::test]
async fn a_request_may_come_through_a_proxy() {
    let server = server().await;
    let path = format!("/v1/{PROJECT}/app-server-sub-jobs/actions/count");
    let call = || Call::count().query(&[("status", "RUNNING")]);
    let absolute = call().target(&format!("http://subjobs.example{path}?status=RUNNING")).sign(OPS_KEY);
    assert_eq!(counted(absolute.send(server.public).await).await, 3);
    let changed = call().target(&format!("http://subjobs.example{path}?status=FAILED")).sign(OPS_KEY);
    refused(changed.send(server.public).await, INVALID).await;
}
