//! Workers' reports: taken whole or not at all, in either form.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json as value};

use crate::support::{OPS, OTHER_PROJECT, PROJECT, Running, WORKER, assert_error, config, json, record};
use crate::wire::{Wire, code, head, report_path};

/// The most bytes of a body.
const MIB_16: usize = 16 * 1024 * 1024;

fn outcome(created: u64, updated: u64, unchanged: u64, stale: u64) -> Value {
    value!({ "created": created, "updated": updated, "unchanged": unchanged, "stale": stale })
}

async fn taken(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    json(response).await
}

/// The message of a body refused with 400.
async fn refused(response: Response) -> String {
    assert_error(response, 400, code::INPUT).await
}

/// A report as a JSON array.
fn array(server: &Running, body: impl Into<reqwest::Body>) -> RequestBuilder {
    let url = format!("http://{}{}", server.internal, report_path(PROJECT));
    server.client.post(url).header("X-Auth-Token", WORKER).header("Content-Type", "application/json").body(body.into())
}

fn full(id: &str) -> Value {
    value!({
        "id": id, "job_id": "j", "job_type": "CREATE_SERVER", "status": "FAILED", "version": 7, "project_id": PROJECT,
        "begin_time": "2022-03-07T10:40:43.858Z", "end_time": "2022-03-07T10:41:43+08:00",
        "job_resource_info": { "resource_id": "r", "resource_name": "n" }, "job_execute_info": {},
        "error_code": "WKS.1", "error_message": "it did not work",
    })
}

#[tokio::test]
async fn both_forms_say_the_same() {
    let server = Running::start(config()).await;
    let nulls = value!({
        "id": "2", "job_id": "j", "job_type": "CREATE_SERVER", "status": "FAILED", "version": null, "project_id": null,
        "begin_time": null, "end_time": null, "job_resource_info": null, "job_execute_info": null, "error_code": null,
        "error_message": null,
    });
    let least = record("2", "j", "CREATE_SERVER", "FAILED");
    let lines = format!("\r\n{}\r\n\n  \t \n{nulls}\n\n", full("1"));
    assert_eq!(taken(server.report(WORKER, lines.clone())).await, outcome(2, 0, 0, 0));
    assert_eq!(taken(array(&server, value!([full("1"), nulls]).to_string())).await, outcome(0, 0, 2, 0));
    assert_eq!(taken(array(&server, format!(" [\n{} , {least}\t] ", full("1")))).await, outcome(0, 0, 2, 0));
    let chunks = lines.into_bytes().chunks(9).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    let mut chunked = String::new();
    for chunk in chunks {
        let chunk = String::from_utf8(chunk.unwrap()).unwrap();
        chunked += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    let token = format!("X-Auth-Token: {WORKER}");
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];
    let request = head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers) + &chunked + "0\r\n\r\n";
    assert_eq!(crate::wire::ask(server.internal, request).await.json(), outcome(0, 0, 2, 0));
    assert_eq!(server.count("?status=FAILED").await, 2);
}

#[tokio::test]
async fn bodies_of_nothing() {
    let server = Running::start(config()).await;
    for body in ["", "\n", " \r\n\t\n"] {
        assert_eq!(taken(server.report(WORKER, body)).await, outcome(0, 0, 0, 0), "{body:?}");
    }
    assert_eq!(taken(array(&server, " [ ] ")).await, outcome(0, 0, 0, 0));
    for body in ["", " ", "null", "{}", "1", "\"\"", "[", "]", "nonsense", "{\"id\":\"1\"}", "\u{feff}[]"] {
        let message = refused(array(&server, body).send().await.unwrap()).await;
        assert!(message.starts_with("body "), "{body:?}: {message}");
    }
}

#[tokio::test]
async fn versions_order_what_comes_late_or_twice() {
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
        assert_eq!(taken(server.report(WORKER, versioned(status, version))).await, expected, "{status} {version}");
        assert_eq!(server.count(&format!("?status={stands}")).await, 1, "{status} {version}");
        assert_eq!(server.count("").await, 1);
    }
    // In one body, one after another.
    let body = [
        versioned("FAILED", "8").replace("\"1\"", "\"2\""),
        versioned("RUNNING", "3").replace("\"1\"", "\"2\""),
        versioned("ABORTING", "9").replace("\"1\"", "\"2\""),
        versioned("ABORTING", "9").replace("\"1\"", "\"2\""),
    ];
    assert_eq!(taken(array(&server, format!("[{}]", body.join(",")))).await, outcome(1, 1, 1, 1));
    assert_eq!(server.count("?status=ABORTING").await, 1);
    assert_eq!(server.count("").await, 2);
}

/// A subtask that a report moves to another job or type is counted there and no longer here.
#[tokio::test]
async fn a_report_replaces_all_of_a_subtask() {
    let server = Running::start(config()).await;
    assert_eq!(taken(server.report(OPS, full("1").to_string())).await, outcome(1, 0, 0, 0));
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
        assert_eq!(taken(server.report(OPS, changed.to_string())).await, outcome(0, 1, 0, 0), "{field}");
        assert_eq!(taken(server.report(OPS, changed.to_string())).await, outcome(0, 0, 1, 0), "{field}");
        assert_eq!(server.count("").await, 1);
        let filter = format!("?job_id={}&job_type={}&status={}", "JOB", "TYPE", "STATUS");
        let as_text = |name: &str| changed[name].as_str().unwrap().to_owned();
        let filter = filter.replace("JOB", &as_text("job_id")).replace("TYPE", &as_text("job_type"));
        assert_eq!(server.count(&filter.replace("STATUS", &as_text("status"))).await, 1, "{field}");
        assert_eq!(taken(server.report(OPS, full("1").to_string())).await, outcome(0, 1, 0, 0), "{field}");
    }
    assert_eq!(server.count("?job_id=k").await + server.count("?job_type=DELETE_SERVER").await, 0);
}

/// The same id in another project is another subtask.
#[tokio::test]
async fn projects_are_apart() {
    let server = Running::start(config()).await;
    let body = record("1", "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(taken(server.report(OPS, body.clone())).await, outcome(1, 0, 0, 0));
    let url = format!("http://{}{}", server.internal, report_path(OTHER_PROJECT));
    let other = server.client.post(url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
    let moved = body.replace("RUNNING", "FAILED");
    assert_eq!(taken(other.body(moved)).await, outcome(1, 0, 0, 0));
    assert_eq!((server.count("").await, server.count("?status=RUNNING").await), (1, 1));
}

#[tokio::test]
async fn media_types() {
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

/// One bad record, wherever it stands and whatever is wrong with it, and nothing of the body is taken.
#[tokio::test]
async fn one_bad_record_refuses_all() {
    let server = Running::start(config()).await;
    let good = |id: usize| record(&id.to_string(), "j", "CREATE_SERVER", "RUNNING");
    let with = |field: &str, other: Value| {
        let mut record = full("x");
        record[field] = other;
        record.to_string()
    };
    let object = |bytes: usize| value!({ "a": "x".repeat(bytes - 8) });
    let mut bad: Vec<(String, &str)> = vec![
        ("{}".into(), "missing field"),
        ("null".into(), "invalid type"),
        ("5".into(), "invalid type"),
        ("\"x\"".into(), "invalid type"),
        // Not by position: all twelve fields in the order of this project's own struct.
        (r#"["x","j","CREATE_SERVER","RUNNING",0,null,null,null,null,null,null,null]"#.into(), ""),
        (r#"["x","j","CREATE_SERVER","RUNNING"]"#.into(), ""),
        (good(1).replacen('{', "{\"id\":\"1\",", 1), "duplicate field `id`"),
        (good(1).replacen('{', "{\"\\u0069d\":\"1\",", 1), "duplicate field `id`"),
        (good(1).replacen('{', "{\"end_time\":null,\"end_time\":null,", 1), "duplicate field `end_time`"),
        (good(1).replacen('{', "{\"colour\":null,", 1), "unknown field `colour`"),
        (good(1).replacen('{', "{\"Id\":\"1\",", 1), "unknown field `Id`"),
        (good(1).replacen('{', "{\"version\":1e1,", 1), "invalid type"),
        (good(1).replacen('{', "{\"version\":9223372036854775808,", 1), "version must be at most"),
        (good(1).replacen('{', "{\"version\":18446744073709551616,", 1), "invalid type"),
        (good(1).replacen('}', ",}", 1), ""),
        (good(1).replace('"', "'"), ""),
    ];
    let long = "x".repeat(129);
    for field in ["id", "job_id"] {
        for text in ["", "a\0", "a\n", "\u{7f}", "\u{85}", &long] {
            bad.push((with(field, value!(text)), if field == "id" { "id must" } else { "job_id must" }));
        }
    }
    for (field, values, reason) in [
        ("job_type", ["create_server", "NOPE", "", "CREATE_SERVER "], "job_type is not a known"),
        ("status", ["running", "DONE", "", " RUNNING"], "status must be one of"),
        (
            "project_id",
            [OTHER_PROJECT, "", "2B31ED520AB14C7BEBEDB6E57F00AA11", "*"],
            "project_id must be that of the path",
        ),
        ("begin_time", ["", "2022-03-07", "2022-03-07 10:40:43Z", "1646649643"], "begin_time must be an RFC 3339"),
        (
            "end_time",
            ["2022-02-30T00:00:00Z", "2022-03-07T10:40:43", "now", "2022-03-07T10:40:60Z!"],
            "end_time must be an RFC 3339",
        ),
    ] {
        bad.extend(values.map(|other| (with(field, value!(other)), reason)));
    }
    for field in full("x").as_object().unwrap().keys() {
        for other in [value!(true), value!([]), value!(-1), value!(1.5)] {
            bad.push((with(field, other), ""));
        }
        if field.ends_with("_info") {
            bad.push((with(field, object(8193)), "must have at most 8192 bytes"));
            bad.push((with(field, value!("{}")), "must be an object"));
        } else {
            bad.push((with(field, value!({})), ""));
        }
    }
    for field in ["id", "job_id", "job_type", "status"] {
        bad.push((with(field, value!(null)), "invalid type"));
        let mut without = full("x");
        without.as_object_mut().unwrap().remove(field);
        bad.push((without.to_string(), "missing field"));
    }
    bad.push((with("error_code", value!("é".repeat(65))), "error_code must have at most 64"));
    bad.push((with("error_message", value!("é".repeat(1025))), "error_message must have at most 1024"));

    for (bad, reason) in &bad {
        let lines = format!("{}\n\n{}\n{bad}\n{}", good(1), good(2), good(3));
        let message = refused(server.report(WORKER, lines).send().await.unwrap()).await;
        assert!(message.starts_with("body line 4: ") && message.contains(reason), "{bad}: {message}");
        let records = format!("[{},{},{bad},{}]", good(1), good(2), good(3));
        let message = refused(array(&server, records).send().await.unwrap()).await;
        assert!(message.starts_with("body record 3: ") && message.contains(reason), "{bad}: {message}");
    }
    assert_eq!(server.count("").await, 0);
    // The bounds themselves are good.
    let mut edge = full("x");
    for (field, other) in [
        ("id", value!("é".repeat(128))),
        ("job_id", value!("é".repeat(128))),
        ("version", value!(i64::MAX)),
        ("job_resource_info", object(8192)),
        ("job_execute_info", object(8192)),
        ("error_code", value!("é".repeat(64))),
        ("error_message", value!("é".repeat(1024))),
    ] {
        edge[field] = other;
    }
    assert_eq!(taken(server.report(WORKER, edge.to_string())).await, outcome(1, 0, 0, 0));
    assert_eq!(server.count("").await, 1);
}

/// Any bytes at all: taken or refused, never a fault, and a refused body changes nothing.
#[test]
fn no_body_is_a_fault() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Running::start(config()));
    let good = format!("{}\n{}\n", full("1"), record("2", "j", "DELETE_SERVER", "RUNNING")).into_bytes();
    let spoilt =
        (0..good.len(), prop::collection::vec(any::<u8>(), 0..4), 0..6usize).prop_map(move |(at, bytes, cut)| {
            let mut body = good.clone();
            body.splice(at..(at + cut).min(good.len()), bytes);
            body
        });
    let json_like = "[\\[\\]{}:,\"\\\\a0-9. \nu-]{0,40}".prop_map(String::into_bytes);
    let body = prop_oneof![4 => spoilt, 1 => prop::collection::vec(any::<u8>(), 0..60), 1 => json_like];
    let mut runner = TestRunner::new(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() });
    let ran = runner.run(&(body, any::<bool>()), |(body, as_array)| {
        runtime.block_on(async {
            let before = server.count("").await;
            let request = if as_array { array(&server, body.clone()) } else { server.report(WORKER, body.clone()) };
            let response = request.send().await.unwrap();
            let created = match response.status().as_u16() {
                200 => json(response).await["created"].as_u64().unwrap(),
                _ => {
                    refused(response).await;
                    0
                }
            };
            prop_assert_eq!(server.count("").await, before + created);
            Ok(())
        })
    });
    ran.unwrap();
}

#[tokio::test]
async fn a_body_has_at_most_16_mib() {
    let server = Running::start(config()).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING");
    let padded = |size: usize| {
        let mut body = line.clone().into_bytes();
        body.resize(size, b'\n');
        body
    };
    assert_eq!(taken(server.report(WORKER, padded(MIB_16))).await, outcome(1, 0, 0, 0));
    let message =
        assert_error(server.report(WORKER, padded(MIB_16 + 1)).send().await.unwrap(), 413, code::TOO_LARGE).await;
    assert_eq!(message, "the body must have at most 16777216 bytes");

    // Without an announced length it is found out on the way; then the client may see a reset, so only a little is sent
    // past the limit.
    let token = format!("X-Auth-Token: {WORKER}");
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];
    let mut wire = Wire::open(server.internal).await;
    wire.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)).await;
    wire.send(format!("{:x}\r\n", MIB_16 + 1)).await;
    wire.send(padded(MIB_16 + 1)).await;
    wire.send("\r\n0\r\n\r\n").await;
    wire.answer().await.error(413, code::TOO_LARGE);
    assert_eq!(server.count("").await, 1);
}

/// A body that its sender does not finish is not taken, not even its whole lines.
#[tokio::test]
async fn an_unfinished_body_is_not_taken() {
    let server = Running::start(config()).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING") + "\n";
    let token = format!("X-Auth-Token: {WORKER}");
    let length = format!("Content-Length: {}", line.len() + 1);
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    for (framing, sent) in [(&*length, &line), ("Transfer-Encoding: chunked", &chunk)] {
        let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", framing];
        let request = head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers) + sent;
        let mut wire = Wire::open(server.internal).await;
        wire.send(&request).await;
        wire.end().await;
        let message = wire.answer().await.error(400, code::INPUT);
        assert!(message.starts_with("body cannot be read"), "{message}");
        assert_eq!(wire.rest().await, "");

        let mut wire = Wire::open(server.internal).await;
        wire.send(&request).await;
        drop(wire);
    }
    while server.metric("subjobs_http_connections{listener=\"internal\"}").await != Some(1.0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.count("").await, 0);
}

/// 256 MiB of bodies are held; one of those that want more is sent away, and the room is given back.
#[tokio::test]
async fn what_is_held_of_all_bodies_is_bounded() {
    let server = Running::start(config()).await;
    let token = format!("X-Auth-Token: {OPS}");
    // Each is one byte short of its end, and together they are too much by less than the last.
    let mut waiting = tokio::task::JoinSet::new();
    for size in [MIB_16; 16].into_iter().chain([64 * 1024]) {
        let length = format!("Content-Length: {size}");
        let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", &length];
        let mut wire = Wire::open(server.internal).await;
        wire.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)).await;
        wire.send(vec![b'\n'; size - 1]).await;
        waiting.spawn(async move { wire.answer().await });
    }
    let refused = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(refused.error(503, code::UNAVAILABLE), "too many reports are being taken in");
    assert_eq!(server.metric("subjobs_refusals_total{reason=\"reports_held\"}").await, Some(1.0));
    assert_eq!(server.metric("subjobs_reports_total{outcome=\"failed\"}").await, Some(1.0));
    // An empty report holds nothing, and a count has nothing to do with it.
    assert_eq!(taken(server.report(OPS, "")).await, outcome(0, 0, 0, 0));
    assert_eq!(server.count("").await, 0);
    waiting.shutdown().await;
    while server.metric("subjobs_http_connections{listener=\"internal\"}").await != Some(1.0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(taken(server.report(OPS, vec![b'\n'; MIB_16])).await, outcome(0, 0, 0, 0));
}

/// Whoever counts sees all of a report or nothing, and all of it once it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn no_count_sees_a_part() {
    let server = Running::start(config()).await;
    const SIZE: u64 = 3000;
    let body = |status: &str| {
        let lines = (0..SIZE).map(|n| record(&n.to_string(), &format!("j{}", n % 700), "CREATE_SERVER", status));
        lines.collect::<Vec<_>>().join("\n")
    };
    let bodies = [body("RUNNING"), body("SUCCESS")];
    assert_eq!(taken(server.report(OPS, bodies[1].clone())).await, outcome(SIZE, 0, 0, 0));
    let rounds = async {
        for round in 0..10 {
            taken(server.report(OPS, bodies[round % 2].clone())).await;
            let expected = if round % 2 == 0 { SIZE } else { 0 };
            assert_eq!(server.count("?status=RUNNING").await, expected);
        }
    };
    let looks = async {
        loop {
            let running = server.count("?status=RUNNING").await;
            assert!(running == 0 || running == SIZE, "{running}");
            assert_eq!(server.count("").await, SIZE);
        }
    };
    tokio::select! {
        () = rounds => {}
        () = looks => {}
    }
}
