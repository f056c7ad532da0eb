//! Reports: both forms, versions, and the replacement of subtasks.

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json as value};

use crate::support::connection::{exchange, head};
use crate::support::fixtures::{OPS, OTHER_PROJECT, PROJECT, WORKER, code, config, full, outcome, record, report_path};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;

pub(crate) async fn accepted(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    json(response).await
}

/// The message of a body refused with 400.
pub(crate) async fn refused(response: Response) -> String {
    assert_error(response, 400, code::INPUT).await
}

/// A report as a JSON array.
pub(crate) fn array(server: &Running, body: impl Into<reqwest::Body>) -> RequestBuilder {
    let url = format!("http://{}{}", server.internal, report_path(PROJECT));
    server.client.post(url).header("X-Auth-Token", WORKER).header("Content-Type", "application/json").body(body.into())
}

#[tokio::test]
async fn ndjson_and_a_json_array_are_equal() {
    let server = Running::start(config()).await;
    let nulls = value!({
        "id": "2", "job_id": "j", "job_type": "CREATE_SERVER", "status": "FAILED", "version": null, "project_id": null, "family": null,
        "begin_time": null, "end_time": null, "job_resource_info": null, "job_execute_info": null, "error_code": null,
        "error_message": null,
    });
    let least = record("2", "j", "CREATE_SERVER", "FAILED");
    let lines = format!("\r\n{}\r\n\n  \t \n{nulls}\n\n", full("1"));
    assert_eq!(accepted(server.report(WORKER, lines.clone())).await, outcome(2, 0, 0, 0));
    assert_eq!(accepted(array(&server, value!([full("1"), nulls]).to_string())).await, outcome(0, 0, 2, 0));
    assert_eq!(accepted(array(&server, format!(" [\n{} , {least}\t] ", full("1")))).await, outcome(0, 0, 2, 0));
    let chunks = lines.into_bytes().chunks(9).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    let mut chunked = String::new();
    for chunk in chunks {
        let chunk = String::from_utf8(chunk.unwrap()).unwrap();
        chunked += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    let token = format!("X-Auth-Token: {WORKER}");
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];
    let request = head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers) + &chunked + "0\r\n\r\n";
    assert_eq!(exchange(server.internal, request).await.json(), outcome(0, 0, 2, 0));
    assert_eq!(server.count("?status=FAILED").await, 2);
}

#[tokio::test]
async fn empty_bodies_are_accepted() {
    let server = Running::start(config()).await;
    for body in ["", "\n", " \r\n\t\n"] {
        assert_eq!(accepted(server.report(WORKER, body)).await, outcome(0, 0, 0, 0), "{body:?}");
    }
    assert_eq!(accepted(array(&server, " [ ] ")).await, outcome(0, 0, 0, 0));
    for body in ["", " ", "null", "{}", "1", "\"\"", "[", "]", "nonsense", "{\"id\":\"1\"}", "\u{feff}\u{feff}[]"] {
        let message = refused(array(&server, body).send().await.unwrap()).await;
        assert!(message.starts_with("body "), "{body:?}: {message}");
    }
}

#[tokio::test]
async fn versions_order_late_and_repeated_reports() {
    let server = Running::start(config()).await;
    let versioned = |status: &str, version: &str| {
        record("1", "j", "CREATE_SERVER", status).replacen('{', &format!("{{\"version\":{version},"), 1)
    };
    let max = i64::MAX.to_string();
    for (status, version, expected, stands) in [
        ("WAITING", "5", outcome(1, 0, 0, 0), "WAITING"),
        ("WAITING", "5", outcome(0, 0, 1, 0), "WAITING"),
        ("RUNNING", "4", outcome(0, 0, 0, 1), "WAITING"),
        ("RUNNING", "0", outcome(0, 0, 0, 1), "WAITING"),
        ("RUNNING", "null", outcome(0, 0, 0, 1), "WAITING"),
        ("WAITING", "4", outcome(0, 0, 0, 1), "WAITING"),
        ("RUNNING", "5", outcome(0, 1, 0, 0), "RUNNING"),
        ("RUNNING", "6", outcome(0, 1, 0, 0), "RUNNING"),
        ("SUCCESS", &max, outcome(0, 1, 0, 0), "SUCCESS"),
        ("RUNNING", "7", outcome(0, 0, 0, 1), "SUCCESS"),
        ("SUCCESS", &max, outcome(0, 0, 1, 0), "SUCCESS"),
    ] {
        assert_eq!(accepted(server.report(WORKER, versioned(status, version))).await, expected, "{status} {version}");
        assert_eq!(server.count(&format!("?status={stands}")).await, 1, "{status} {version}");
        assert_eq!(server.count("").await, 1);
    }
    // Several versions of one subtask in one body.
    let body = [
        versioned("FAILED", "8").replace("\"1\"", "\"2\""),
        versioned("RUNNING", "3").replace("\"1\"", "\"2\""),
        versioned("ABORTING", "9").replace("\"1\"", "\"2\""),
        versioned("ABORTING", "9").replace("\"1\"", "\"2\""),
    ];
    assert_eq!(accepted(array(&server, format!("[{}]", body.join(",")))).await, outcome(1, 1, 1, 1));
    assert_eq!(server.count("?status=ABORTING").await, 1);
    assert_eq!(server.count("").await, 2);
}

/// A report can move a subtask to another job or type. Then only the counts of the new one include it.
#[tokio::test]
async fn a_report_replaces_the_whole_subtask() {
    let server = Running::start(config()).await;
    assert_eq!(accepted(server.report(OPS, full("1").to_string())).await, outcome(1, 0, 0, 0));
    for (field, other) in [
        ("job_id", value!("k")),
        ("job_type", value!("DELETE_SERVER")),
        ("status", value!("SUCCESS")),
        ("begin_time", value!(null)),
        ("end_time", value!("2022-03-07T10:42:43Z")),
        ("job_resource_info", value!({})),
        ("job_execute_info", value!(null)),
        ("error_code", value!("WKS.2")),
        ("error_message", value!("")),
    ] {
        let mut changed = full("1");
        changed[field] = other;
        assert_eq!(accepted(server.report(OPS, changed.to_string())).await, outcome(0, 1, 0, 0), "{field}");
        assert_eq!(accepted(server.report(OPS, changed.to_string())).await, outcome(0, 0, 1, 0), "{field}");
        assert_eq!(server.count("").await, 1);
        let filter = format!("?job_id={}&job_type={}&status={}", "JOB", "TYPE", "STATUS");
        let as_text = |name: &str| changed[name].as_str().unwrap().to_owned();
        let filter = filter.replace("JOB", &as_text("job_id")).replace("TYPE", &as_text("job_type"));
        assert_eq!(server.count(&filter.replace("STATUS", &as_text("status"))).await, 1, "{field}");
        assert_eq!(accepted(server.report(OPS, full("1").to_string())).await, outcome(0, 1, 0, 0), "{field}");
    }
    assert_eq!(server.count("?job_id=k").await + server.count("?job_type=DELETE_SERVER").await, 0);
}

/// The same id in another project is another subtask.
#[tokio::test]
async fn projects_are_independent() {
    let server = Running::start(config()).await;
    let body = record("1", "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(accepted(server.report(OPS, body.clone())).await, outcome(1, 0, 0, 0));
    let url = format!("http://{}{}", server.internal, report_path(OTHER_PROJECT));
    let other = server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
    let moved = body.replace("RUNNING", "FAILED");
    assert_eq!(accepted(other.body(moved)).await, outcome(1, 0, 0, 0));
    assert_eq!((server.count("").await, server.count("?status=RUNNING").await), (1, 1));
}

#[tokio::test]
async fn each_form_needs_its_media_type() {
    let server = Running::start(config()).await;
    let url = format!("http://{}{}", server.internal, report_path(PROJECT));
    let post = |types: &[&str], body: &str| {
        let request = server.client.post(&url).header("X-Auth-Token", WORKER).body(body.to_owned());
        types.iter().fold(request, |request, media_type| request.header("Content-Type", *media_type)).send()
    };
    for (media_type, body) in [
        ("application/json", "[]"),
        ("APPLICATION/Json;charset=utf-8", "[]"),
        ("application/json ; a=b", "[]"),
        ("application/x-ndjson", ""),
        ("Application/X-NDJSON; charset=utf-8", ""),
    ] {
        assert_eq!(post(&[media_type], body).await.unwrap().status(), 200, "{media_type}");
    }
    for types in [
        &[][..],
        &[""],
        &["text/plain"],
        &["application/jsonl"],
        &["application/ndjson"],
        &["application/json, application/json"],
        &["application/json", "application/x-ndjson"],
        &["application/x-www-form-urlencoded"],
        &["*/*"],
        &["json"],
    ] {
        let message = assert_error(post(types, "[]").await.unwrap(), 415, code::MEDIA_TYPE).await;
        assert!(message.starts_with("Content-Type must be "), "{types:?}: {message}");
    }
}

#[tokio::test]
async fn unknown_or_several_content_codings_are_refused() {
    let server = Running::start(config()).await;
    let post = |codings: &[&str], body: &str| {
        let request = array(&server, body.to_owned());
        codings.iter().fold(request, |request, coding| request.header("Content-Encoding", *coding)).send()
    };
    for codings in
        [&[][..], &[""], &["identity"], &["Identity"], &["identity, IDENTITY"], &["identity", ""], &[" , identity ,"]]
    {
        assert_eq!(post(codings, "[]").await.unwrap().status(), 200, "{codings:?}");
    }
    for codings in [
        &["br"][..],
        &["deflate"],
        &["compress"],
        &["x-zstd"],
        &["identity, br"],
        &["identity", "br"],
        &["gzip, gzip"],
        &["gzip", "zstd"],
        &["gzip, br"],
        &["gzip;q=1"],
        &["aws-chunked"],
        &["identity;q=1"],
        &["*"],
        &["é"],
        &["none"],
    ] {
        for body in ["[]", "\u{1f}\u{8b}", ""] {
            let response = post(codings, body).await.unwrap();
            assert_eq!(response.headers()["accept-encoding"], "gzip, zstd, identity");
            let message = assert_error(response, 415, code::MEDIA_TYPE).await;
            assert_eq!(message, "Content-Encoding must be gzip, zstd or identity", "{codings:?}");
        }
    }
    // An operation without a body ignores its coding.
    assert_eq!(server.ask(OPS, "").header("Content-Encoding", "gzip").send().await.unwrap().status(), 200);
    assert_eq!(server.count("").await, 0);
}

#[tokio::test]
async fn common_mistakes_get_a_message_with_the_expected_form() {
    let server = Running::start(config()).await;
    let one = record("1", "j", "CREATE_SERVER", "RUNNING");
    let message = refused(array(&server, one.clone()).send().await.unwrap()).await;
    assert_eq!(
        message,
        "body must be a JSON array of subtasks; wrap one object in [ ] or send it as application/x-ndjson"
    );
    let message = refused(server.report(OPS, format!("[{one}]")).send().await.unwrap()).await;
    assert_eq!(message, "body line 1: must be a JSON object; an array of them is sent as application/json");
    for (from, to, reason) in [
        (
            "CREATE_SERVER",
            "NOPE",
            "job_type \"NOPE\" is not a known job type; --job-type adds one; known are CREATE_SERVER, ",
        ),
        ("\"1\"", "1", "id must be a string"),
        ("{", "{\"version\":\"1\",", "version must be an integer"),
    ] {
        let message =
            refused(server.report(WORKER, format!("{one}\n{}", one.replacen(from, to, 1))).send().await.unwrap()).await;
        assert!(message.starts_with(&format!("body line 2: {reason}")), "{message}");
    }
    let marked = format!("\u{feff}{one}");
    assert_eq!(accepted(server.report(WORKER, marked)).await, outcome(1, 0, 0, 0));
    assert_eq!(accepted(array(&server, format!("\u{feff}[{one}]"))).await, outcome(0, 0, 1, 0));
}
