//! The whole responses of counts, of ListProjects and of errors at the public listener.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::connection::{exchange, head, request, valid_count};
use crate::support::fixtures::{
    DASHBOARD, EXPIRED, Key, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER, access_with_keys, config, count_path, record,
};
use crate::support::response::Response;
use crate::support::server::Running;
use crate::support::signer::Call;
use crate::support::snapshot::Transcript;

fn with_keys() -> Config {
    Config::on_any_port(AccessSource::Text(access_with_keys()))
}

#[tokio::test]
async fn responses_of_counts_with_refused_inputs_are_unchanged() {
    let server = Running::start(config()).await;
    let (long, token) = ("x".repeat(129), format!("X-Auth-Token: {OPS}"));
    let mut transcript = Transcript::default();
    for (what, request) in [
        ("a number sign in the target", valid_count("#", &[])),
        ("an unknown status", valid_count("?status=DONE", &[])),
        ("a status in lower case", valid_count("?status=running", &[])),
        ("a status given twice", valid_count("?status=FAILED&status=", &[])),
        ("an unknown job type", valid_count("?job_type=CREATE_SERVER,NOPE", &[])),
        ("an empty job type in a list", valid_count("?job_type=CREATE_SERVER,", &[])),
        ("job types of 257 characters", valid_count(&format!("?job_type={}", "x".repeat(257)), &[])),
        ("job types given twice", valid_count("?job_type=&job_type=", &[])),
        ("a job id of 129 characters", valid_count(&format!("?job_id={long}"), &[])),
        ("a job id with a control character", valid_count("?job_id=%00", &[])),
        ("a job id given twice", valid_count("?job_id=j&job_id=j", &[])),
        ("a job id that is not UTF-8", valid_count("?job_id=%ff", &[])),
        ("a job id with an incomplete percent-encoding", valid_count("?job_id=%4", &[])),
        ("a project id of 129 characters", request("GET", &count_path(&long), OPS, &[])),
        ("a project id with a slash", request("GET", &count_path("a%2Fb"), OPS, &[])),
        ("a project id with white space", request("GET", &count_path("a%20b"), OPS, &[])),
        ("a project id that is a dot", request("GET", &count_path("."), OPS, &[])),
        ("a project id that is not UTF-8", request("GET", &count_path("%ff"), OPS, &[])),
        ("a project id with an incomplete percent-encoding", request("GET", &count_path("%zz"), OPS, &[])),
        ("no Host", head(&format!("GET {} HTTP/1.1", count_path(PROJECT)), &[&token])),
        ("two Hosts", valid_count("", &["Host: h"])),
        ("a Host that is a URL", valid_count("", &[]).replace("Host: h", "Host: http://h")),
        ("a target with a user", request("GET", &format!("http://user@h{}", count_path(PROJECT)), OPS, &[])),
        ("a transfer coding other than chunked", valid_count("", &["Transfer-Encoding: gzip, chunked"])),
    ] {
        transcript.add(what, &exchange(server.public, request).await);
    }
    transcript.assert_snapshot("count_refused_inputs");
}

#[tokio::test]
async fn responses_of_refused_credentials_paths_and_projects_are_unchanged() {
    let server = Running::start(with_keys()).await;
    let mut transcript = Transcript::default();
    let count = count_path(PROJECT);
    let mut expired = valid_count("", &[]);
    expired = expired.replace(OPS, EXPIRED);
    for (what, request) in [
        ("no credential", head(&format!("GET {count} HTTP/1.1"), &["Host: h"])),
        ("an empty token", valid_count("", &[]).replace(OPS, "")),
        ("two tokens", valid_count("", &["X-Auth-Token: another"])),
        ("an unknown token", valid_count("", &[]).replace(OPS, "unknown-token")),
        ("an expired token", expired),
        ("a project of others", request("GET", &count_path(OTHER_PROJECT), DASHBOARD, &[])),
        ("no permission to count", request("GET", &count, WORKER, &[])),
        ("no such path", request("GET", "/", OPS, &[])),
        ("a path with a trailing slash", request("GET", &format!("{count}/"), OPS, &[])),
        ("no such project", request("GET", &count_path("nowhere"), OPS, &[])),
        ("no such method", request("PUT", &count, OPS, &[])),
        ("a name given twice", request("GET", "/v3/projects?name=a&name=b", OPS, &[])),
    ] {
        transcript.add(what, &exchange(server.public, request).await);
    }
    let signed = || Call::count().sign(OPS_KEY);
    for (what, call) in [
        ("an unknown access key", Call::count().sign(Key { id: "AKUNKNOWN", ..OPS_KEY })),
        ("another secret", Call::count().sign(Key { secret: "another", ..OPS_KEY })),
        (
            "a signature of another algorithm",
            signed().edit_authorization(|value| value.replace("HMAC-SHA256", "HMAC-SM3")),
        ),
        ("a signature without its parts", signed().edit_authorization(|_| "SDK-HMAC-SHA256 Access=AKOPS".into())),
        (
            "a signature of an hour ago",
            Call::count().at(Timestamp::now() - SignedDuration::from_hours(1)).sign(OPS_KEY),
        ),
        ("a signature without a date", Call::count().without("X-Sdk-Date").sign(OPS_KEY)),
        ("a signature and the token of another principal", signed().header("X-Auth-Token", DASHBOARD)),
    ] {
        transcript.add(what, &Response::read(call.send(server.public).await).await);
    }
    transcript.assert_snapshot("api_refusals");
}

#[tokio::test]
async fn responses_of_503_of_a_count_are_unchanged() {
    let mut transcript = Transcript::default();
    let full = Running::start(Config { max_in_flight: 0, ..config() }).await;
    transcript.add("no permit is free", &exchange(full.public, valid_count("", &[])).await);

    let impatient = Running::start(Config { request_timeout: Duration::from_millis(200), ..config() }).await;
    let withheld = valid_count("", &["Content-Length: 1"]);
    transcript.add("the body does not come", &exchange(impatient.public, withheld).await);

    let nowhere = "[identity]\nurl = \"http://127.0.0.1:1\"\n[identity.roles]\nadmin = \"account\"\n";
    let access = AccessSource::Text(access_with_keys() + nowhere);
    let alone = Running::start(Config::on_any_port(access)).await;
    let unknown = valid_count("", &[]).replace(OPS, "unknown-token");
    transcript.add("the identity service is out of reach", &exchange(alone.public, unknown).await);
    transcript.assert_snapshot("api_unavailable");
}

#[tokio::test]
async fn responses_of_the_http_layer_are_unchanged() {
    let server = Running::start(config()).await;
    let mut transcript = Transcript::default();
    let headers: Vec<_> = (0..101).map(|number| format!("X-{number}: x")).collect();
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    for (what, request) in [
        ("not HTTP", "nonsense\r\n\r\n".to_owned()),
        ("another version", "GET / HTTP/3.0\r\n\r\n".into()),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("more than 100 headers", valid_count("", &headers)),
        ("two lengths", valid_count("", &["Content-Length: 1", "Content-Length: 2"])),
    ] {
        transcript.add(what, &refusal(&server, &request).await);
    }
    transcript.assert_snapshot("http_layer_refusals");
}

/// Reads a response of the HTTP layer, which may have no length and closes the connection.
async fn refusal(server: &Running, request: &str) -> Response {
    let mut connection = crate::support::connection::Connection::open(server.public).await;
    connection.send(request).await;
    connection.last_response().await
}

#[tokio::test]
async fn responses_of_counts_and_projects_are_unchanged() {
    let server = Running::start(with_keys()).await;
    let records = [
        record("1", "j", "CREATE_SERVER", "RUNNING"),
        record("2", "j", "DELETE_SERVER", "FAILED"),
        record("3", "k", "DELETE_SERVER", "FAILED"),
    ];
    server.report(OPS, records.join("\n")).send().await.unwrap();
    let mut transcript = Transcript::default();
    for (what, request) in [
        ("a count of a project", valid_count("", &[])),
        ("a count of one job", valid_count("?job_id=j", &[])),
        ("a count of a status and two types", valid_count("?status=FAILED&job_type=CREATE_SERVER,DELETE_SERVER", &[])),
        ("a count of a job that does not exist", valid_count("?job_id=nowhere", &[])),
        ("the projects", request("GET", "/v3/projects", OPS, &[])),
        ("the projects of a name", request("GET", "/v3/projects?name=a", OPS, &[])),
    ] {
        transcript.add(what, &exchange(server.public, request).await);
    }
    let signed = Call::count().sign(OPS_KEY).send(server.public).await;
    transcript.add("a signed count", &Response::read(signed).await);
    transcript.assert_snapshot("api_successes");
}
