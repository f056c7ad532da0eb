//! Every rule of a record: one invalid record refuses the whole report.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json as value};

use crate::ingest::reports::{accepted, array, refused};
use crate::support::fixtures::{OTHER_PROJECT, WORKER, config, full, outcome, record};
use crate::support::response::json;
use crate::support::server::Running;

/// One invalid record at any position refuses the whole body.
#[tokio::test]
async fn one_invalid_record_refuses_the_report() {
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
        ("null".into(), "must be a JSON object"),
        ("5".into(), "must be a JSON object"),
        ("\"x\"".into(), "must be a JSON object"),
        // An array of all twelve fields in the order of the struct is not a record.
        (r#"["x","j","CREATE_SERVER","RUNNING",0,null,null,null,null,null,null,null]"#.into(), ""),
        (r#"["x","j","CREATE_SERVER","RUNNING"]"#.into(), ""),
        (good(1).replacen('{', "{\"id\":\"1\",", 1), "duplicate field `id`"),
        (good(1).replacen('{', "{\"\\u0069d\":\"1\",", 1), "duplicate field `id`"),
        (good(1).replacen('{', "{\"end_time\":null,\"end_time\":null,", 1), "duplicate field `end_time`"),
        (good(1).replacen('{', "{\"colour\":null,", 1), "unknown field \"colour\""),
        (good(1).replacen('{', "{\"Id\":\"1\",", 1), "unknown field \"Id\""),
        (good(1).replacen('{', "{\"version\":1e1,", 1), "version must be an integer"),
        (good(1).replacen('{', "{\"version\":9223372036854775808,", 1), "version must be at most"),
        (good(1).replacen('{', "{\"version\":18446744073709551616,", 1), "version must be an integer"),
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
        (
            "job_type",
            ["create_server", "NOPE", "", "CREATE_SERVER "],
            "is not a known job type; --job-type adds one; known are CREATE_SERVER, ",
        ),
        ("status", ["running", "DONE", "", " RUNNING"], "status must be one of"),
        ("family", ["", "APP", "images", "image "], "family must be app or image"),
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
        bad.push((with(field, value!(null)), "must be a string"));
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
    // The limits themselves are valid.
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
    assert_eq!(accepted(server.report(WORKER, edge.to_string())).await, outcome(1, 0, 0, 0));
    assert_eq!(server.count("").await, 1);
}

/// Random bodies get 200 or 400. A refused body changes nothing.
#[test]
fn any_body_gets_200_or_400_and_a_refused_one_changes_nothing() {
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
