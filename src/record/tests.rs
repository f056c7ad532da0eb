//! Every rule of a record, in JSON and NDJSON.

use super::*;

const FULL: &str = r#"{"id":"s1","job_id":"j1","job_type":"CREATE_SERVER","status":"FAILED","version":7,"project_id":"p",
"begin_time":"2022-03-07T10:40:43.858Z","end_time":null,"job_resource_info":{ "resource_id":"r" },
"error_code":"WKS.1","error_message":"no"}"#;

fn types() -> JobTypes {
    JobTypes::default()
}

fn json(body: &str) -> Result<Vec<SubJob>, RecordError> {
    from_json(body.as_bytes(), &ProjectId::parse("p").unwrap(), &types())
}

fn ndjson(body: &str) -> Result<Vec<SubJob>, RecordError> {
    from_ndjson(body.as_bytes(), &ProjectId::parse("p").unwrap(), &types())
}

/// A record with the required fields and these fields.
fn with(more: &str) -> String {
    format!(r#"{{"id":"s","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING"{more}}}"#)
}

#[test]
fn every_field_is_parsed() {
    let one_line = FULL.replace('\n', "");
    let of_array = json(&format!(" [ {FULL} , {} ] \n", with(""))).unwrap();
    assert_eq!(ndjson(&format!("{one_line}\r\n\n  \r\n{}", with(""))).unwrap(), of_array);
    let full = &of_array[0];
    assert_eq!(full.id, SubJobId::parse("s1").unwrap());
    assert_eq!(full.job_id, JobId::parse("j1").unwrap());
    assert_eq!(types().name(full.job_type), "CREATE_SERVER");
    assert_eq!((full.status, full.version.get()), (Status::Failed, 7));
    let details = Details {
        begin_time: Some("2022-03-07T10:40:43.858Z".parse().unwrap()),
        end_time: None,
        job_resource_info: Some(r#"{ "resource_id":"r" }"#.into()),
        job_execute_info: None,
        error_code: Some("WKS.1".into()),
        error_message: Some("no".into()),
    };
    assert_eq!(full.details.as_deref(), Some(&details));
    assert_eq!((of_array[1].version.get(), &of_array[1].details), (0, &None));
}

#[test]
fn null_equals_an_absent_field() {
    let fields =
        "version family project_id begin_time end_time job_resource_info job_execute_info error_code error_message";
    let nulls: String = fields.split(' ').map(|field| format!(",\"{field}\":null")).collect();
    assert_eq!(json(&format!("[{}]", with(&nulls))), json(&format!("[{}]", with(""))));
}

#[test]
fn empty_bodies_have_no_records() {
    assert_eq!(json("[]"), Ok(vec![]));
    assert_eq!(ndjson(""), Ok(vec![]));
    assert_eq!(ndjson("\n \r\n"), Ok(vec![]));
    for body in ["", "nonsense"] {
        assert!(matches!(json(body), Err(RecordError::InvalidJson(_))), "{body}");
    }
}

#[test]
fn limits_are_exact() {
    let object = |len: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(len - 8));
    for more in [
        format!(",\"version\":{}", i64::MAX),
        format!(",\"error_code\":\"{}\"", "é".repeat(64)),
        format!(",\"error_message\":\"{}\"", "é".repeat(1024)),
        format!(",\"job_resource_info\":{}", object(8192)),
        format!(",\"job_execute_info\":{}", object(8192)),
    ] {
        assert!(ndjson(&with(&more)).is_ok(), "{more}");
    }
    for (more, reason) in [
        (format!(",\"version\":{}", 1u64 << 63), "version must be at most"),
        (",\"version\":-1".into(), "version must be an integer from 0 to 9223372036854775807"),
        (",\"version\":1.0".into(), "version must be an integer from 0 to 9223372036854775807"),
        (",\"version\":-0".into(), "version must be an integer from 0 to 9223372036854775807"),
        (",\"version\":1e0".into(), "version must be an integer from 0 to 9223372036854775807"),
        (",\"version\":\"1\"".into(), "version must be an integer from 0 to 9223372036854775807"),
        (format!(",\"error_code\":\"{}\"", "é".repeat(65)), "error_code must have at most 64"),
        (format!(",\"error_message\":\"{}\"", "é".repeat(1025)), "error_message must have at most 1024"),
        (format!(",\"job_resource_info\":{}", object(8193)), "job_resource_info must have at most 8192 bytes"),
        (format!(",\"job_execute_info\":{}", object(8193)), "job_execute_info must have at most 8192 bytes"),
        (",\"job_resource_info\":[]".into(), "job_resource_info must be an object"),
        (",\"job_execute_info\":\"{}\"".into(), "job_execute_info must be an object"),
        (",\"begin_time\":\"yesterday\"".into(), "begin_time must be an RFC 3339"),
        (",\"end_time\":5".into(), "end_time must be a string"),
        (",\"project_id\":\"q\"".into(), "project_id must be that of the path"),
        (",\"colour\":\"red\"".into(), "unknown field \"colour\", expected one of `id`, "),
        (",\"id\":\"s\"".into(), "duplicate field `id`"),
        (",\"family\":\"\"".into(), "family must be app or image"),
        (",\"family\":\"Image\"".into(), "family must be app or image"),
        (",\"family\":\"app\",\"family\":\"app\"".into(), "duplicate field `family`"),
        (",\"version\":1,\"version\":1".into(), "duplicate field `version`"),
        (",\"end_time\":null,\"end_time\":null".into(), "duplicate field `end_time`"),
    ] {
        let record = with(&more);
        let of_line = ndjson(&format!("\n{}\n{record}", with(""))).unwrap_err();
        let of_array = json(&format!("[{},{record}]", with(""))).unwrap_err();
        let RecordError::Line(3, said) = of_line else { panic!("{record}: {of_line:?}") };
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(of_array, RecordError::Record(2, said));
    }
}

#[test]
fn required_fields_are_required_and_checked() {
    let fields = [("id", "s"), ("job_id", "j"), ("job_type", "CREATE_SERVER"), ("status", "RUNNING")];
    let record = |skip: &str, value: &str| {
        let value_of = |(name, own): (&str, &str)| match (name == skip, value) {
            (true, "") => None,
            (true, value) => Some(format!("\"{name}\":{value}")),
            (false, _) => Some(format!("\"{name}\":\"{own}\"")),
        };
        format!("{{{}}}", fields.into_iter().filter_map(value_of).collect::<Vec<_>>().join(","))
    };
    let long = format!("\"{}\"", "x".repeat(129));
    for (field, value, reason) in [
        ("id", "", "missing field `id`"),
        ("job_id", "", "missing field `job_id`"),
        ("job_type", "", "missing field `job_type`"),
        ("status", "", "missing field `status`"),
        ("id", "null", "id must be a string"),
        ("id", "1", "id must be a string"),
        ("id", "\"\"", "id must not be empty"),
        ("id", "\"a\\u0000\"", "id must not hold a control character"),
        ("id", "\"\\ud800\"", "id: unexpected end of hex escape"),
        ("id", &long, "id must have at most 128"),
        ("job_id", &long, "job_id must have at most 128"),
        (
            "job_type",
            "\"create_server\"",
            "job_type \"create_server\" is not a known job type; --job-type adds one; known are CREATE_SERVER, ",
        ),
        ("job_type", "\"\"", "job_type \"\" is not a known job type"),
        ("status", "\"Running\"", "status must be one of"),
    ] {
        let Err(RecordError::Line(1, said)) = ndjson(&record(field, value)) else { panic!("{field} {value}") };
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
    }
}

#[test]
fn a_job_type_is_one_of_the_records_family() {
    let of = |family: &str, job_type: &str| {
        let family = if family.is_empty() { String::new() } else { format!(",\"family\":\"{family}\"") };
        ndjson(&with(&family).replace("CREATE_SERVER", job_type)).map(|batch| batch[0].job_type)
    };
    let types = types();
    for name in ["CREATE_SERVER", "DELETE_SERVER", "BUILD_IMAGE", "DELETE_IMAGE"] {
        assert_eq!(of("image", name), Ok(types.parse(Family::Image, name).unwrap()));
    }
    assert_eq!(of("", "CREATE_SERVER"), of("app", "CREATE_SERVER"));
    assert_ne!(of("image", "CREATE_SERVER"), of("app", "CREATE_SERVER"));
    for (family, name, reason) in [
        ("", "BUILD_IMAGE", "is a job type of images: their records have \"family\":\"image\""),
        ("app", "DELETE_IMAGE", "is a job type of images: their records have \"family\":\"image\""),
        ("image", "REINSTALL_OS", "is not a job type of images; those are CREATE_SERVER, CREATE_SERVER_IMAGE, "),
        ("app", "image:BUILD_IMAGE", "is not a known job type; --job-type adds one"),
        ("image", "image:BUILD_IMAGE", "is not a job type of images"),
    ] {
        let said = of(family, name).unwrap_err().to_string();
        assert!(said.starts_with(&format!("line 1: job_type {name:?} {reason}")), "{said}");
    }
}

#[test]
fn a_bad_record_is_named_by_its_position() {
    let good = with("");
    for (body, place) in [
        (format!("[{good},{good},5]"), 3),
        (format!("[{good},{good}"), 3),
        (format!("[{good},]"), 2),
        (format!("[{good}]]"), 2),
        (format!("[{good}] [{good}]"), 2),
        (format!("[{}", "[".repeat(100_000)), 1),
    ] {
        let error = json(&body).unwrap_err();
        assert!(matches!(error, RecordError::Record(at, _) if at == place), "{error:?}");
        assert!(!error.to_string().contains(" at line "), "{error}");
    }
    let not_utf8 = [good.as_bytes(), b"\n\n{\"id\":\"\xff\"}"].concat();
    let error = from_ndjson(&not_utf8, &ProjectId::parse("p").unwrap(), &types()).unwrap_err();
    assert!(matches!(error, RecordError::Line(3, _)), "{error:?}");
    assert!(matches!(ndjson(&format!("{good} {good}")), Err(RecordError::Line(1, _))));
    assert!(matches!(ndjson(&format!("[{good}]")), Err(RecordError::Line(1, _))));
}

/// The strings of a body that is UTF-8 are not checked one by one; any other body must be refused where it is wrong.
#[test]
fn a_body_that_is_not_utf8_is_refused_at_its_record() {
    let (good, project) = (with(""), ProjectId::parse("p").unwrap());
    let escaped = good.replace("\"s\"", "\"\\u0073\"").replace("\"id\"", "\"\\u0069d\"");
    assert_eq!(json(&format!("[{escaped}]")), json(&format!("[{good}]")));
    let wrong = [with(",\"error_code\":\"#\""), with(",\"job_resource_info\":{\"a\":\"#\"}"), with(",\"#\":1")];
    for record in wrong.iter().chain([&good.replace("\"s\"", "\"#\""), &format!("{good}#")]) {
        for bytes in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80"] {
            let text = |body: String| body.split('#').map(str::as_bytes).collect::<Vec<_>>().join(bytes);
            let of_array = from_json(&text(format!("[{good},{record},{good}]")), &project, &types());
            assert!(matches!(of_array, Err(RecordError::Record(2 | 3, _))), "{record}: {of_array:?}");
            let of_lines = from_ndjson(&text(format!("{good}\n{record}\n{good}")), &project, &types());
            assert!(matches!(of_lines, Err(RecordError::Line(2, _))), "{record}: {of_lines:?}");
            assert!(from_load_line(&text(record.clone()), &types()).is_err());
        }
    }
    let earlier = from_json(b"[{\"id\":1},\xff]", &project, &types());
    assert_eq!(earlier, Err(RecordError::Record(1, "id must be a string".into())));
}

#[test]
fn a_record_must_be_an_object() {
    let list = r#"["s","j","CREATE_SERVER","RUNNING",1,null,null,null,null,null,null,null]"#;
    for body in [list, "[]", "null", "5"] {
        let Err(RecordError::Line(1, of_line)) = ndjson(body) else { panic!("{body}") };
        assert!(of_line.starts_with("must be a JSON object"), "{of_line}");
        assert_eq!(json(&format!("[{body}]")), Err(RecordError::Record(1, "must be a JSON object".into())), "{body}");
        assert_eq!(from_load_line(body.as_bytes(), &types()), Err("must be a JSON object".into()));
    }
}

/// A value of the wrong type is not repeated.
#[test]
fn a_field_of_another_type_is_named_without_its_value() {
    let secret = "5ecret, expected nothing at line 7";
    let values = [format!("\"{secret}\""), format!("{{\"{secret}\":1}}"), format!("[\"{secret}\"]")];
    let others = ["true", "-1", "1.5", "1e400", "555555555555555555555", "[[[[", "null"];
    let fields = "id job_id job_type status family project_id begin_time end_time error_code error_message version \
        job_resource_info job_execute_info";
    for field in fields.split_whitespace() {
        for value in values.iter().map(String::as_str).chain(others) {
            let (is_text, is_object) = (field != "version" && !field.ends_with("_info"), field.ends_with("_info"));
            let is_required = FULL.find(field).is_some_and(|at| at < FULL.find("\"version").unwrap());
            let is_fine = is_text && value.starts_with('"')
                || is_object && value.starts_with('{')
                || value == "null" && !is_required;
            // A syntax error comes first: the number is out of range, the array is not closed.
            if is_fine || value == "1e400" || (is_object && value == "[[[[") {
                continue;
            }
            let expected = match (is_text, is_object) {
                (true, _) => format!("{field} must be a string"),
                (_, true) => format!("{field} must be an object"),
                _ => "version must be an integer from 0 to 9223372036854775807".into(),
            };
            let record = with("").replacen(&format!("\"{field}\":"), "\"x\":", 1);
            let record = record.replacen('{', &format!("{{\"{field}\":{value},"), 1);
            // The wrong value comes first, before the renamed field.
            assert_eq!(ndjson(&record), Err(RecordError::Line(1, expected.clone())), "{record}");
            let of_array = json(&format!("[{},{record}]", with("")));
            assert_eq!(of_array, Err(RecordError::Record(2, expected)), "{record}");
        }
    }
}

/// Whatever is wrong with the JSON of a value, in each field.
#[test]
fn an_error_in_the_json_of_a_value_names_its_field() {
    let fields = "id job_id job_type status family project_id begin_time end_time error_code error_message version \
        job_resource_info job_execute_info";
    let values = ["1e400", "-", "01", "nul", "\"\\ud800\"", "\"\\x\"", "\"\u{1}\"", "{\"a\":nul}", "x", ""];
    for field in fields.split_whitespace() {
        for value in values {
            let record = with("").replacen(&format!("\"{field}\":"), "\"x\":", 1);
            let record = record.replacen('{', &format!("{{\"{field}\":{value},"), 1);
            let Err(RecordError::Line(1, said)) = ndjson(&record) else { panic!("{record}") };
            assert!(said.starts_with(field) && !said.contains(" at line "), "{record}: {said}");
            let of_array = json(&format!("[{},{record}]", with("")));
            assert_eq!(of_array, Err(RecordError::Record(2, said)), "{record}");
        }
    }
    let not_utf8 = [with(",\"error_code\":\"").trim_end_matches('}').as_bytes(), b"\xff\"}"].concat();
    let said = from_ndjson(&not_utf8, &ProjectId::parse("p").unwrap(), &types()).unwrap_err().to_string();
    assert!(said.starts_with("line 1: error_code: "), "{said}");
}

/// The two objects are not read: the same key twice stays, and white space makes another object.
#[test]
fn an_object_is_kept_and_compared_as_it_was_sent() {
    for field in ["job_resource_info", "job_execute_info"] {
        let of = |object: &str| ndjson(&with(&format!(",\"{field}\":{object}"))).unwrap().remove(0);
        let twice = of("{\"a\":1,\"a\":2}");
        let details = twice.details.as_deref().unwrap();
        let kept = details.job_resource_info.as_deref().or(details.job_execute_info.as_deref());
        assert_eq!(kept, Some("{\"a\":1,\"a\":2}"));
        assert_eq!(of("{\"a\":1}"), of("{\"a\":1}"));
        for other in ["{ \"a\":1}", "{\"a\":1.0}", "{\"\\u0061\":1}"] {
            assert_ne!(of("{\"a\":1}"), of(other), "{other}");
        }
    }
}

/// JSON has four white space characters; a form feed is none of them.
#[test]
fn a_blank_line_is_of_json_white_space() {
    assert_eq!(ndjson(" \t\r\n"), Ok(vec![]));
    for other in ["\u{b}", "\u{c}", "\u{85}", "\u{a0}", "\0"] {
        assert_eq!(ndjson(&format!("\n{other}")), Err(RecordError::Line(2, "expected value".into())), "{other:?}");
        assert!(matches!(json(&format!("{other}{{}}")), Err(RecordError::InvalidJson(_))), "{other:?}");
    }
}

#[test]
fn unknown_names_are_quoted_and_truncated() {
    let long = "é\\n\\\"x".repeat(1000);
    let quoted = format!("{:?}…", "é\n\"x".repeat(10));
    for (record, begin) in [
        (with(&format!(",\"{long}\":1")), format!("unknown field {quoted}, expected one of `id`")),
        (with("").replace("CREATE_SERVER", &long), format!("job_type {quoted} is not a known job type; --job-type")),
    ] {
        let Err(RecordError::Line(1, said)) = ndjson(&record) else { panic!("{record}") };
        assert!(said.starts_with(&begin), "{said}");
    }
    let types = JobTypes::new(["EXTRA"]).unwrap();
    let said = from_load_line(with("").replace("CREATE_SERVER", "NO").as_bytes(), &types);
    assert_eq!(said, Err("missing field `project_id`".into()));
    let said =
        from_load_line(with(",\"project_id\":\"p\"").replace("CREATE_SERVER", "NO").as_bytes(), &types).unwrap_err();
    assert!(said.starts_with("job_type \"NO\" is not a known job type") && said.ends_with(", EXTRA"), "{said}");
}

#[test]
fn one_object_gets_a_hint_how_to_send_it() {
    let one = with("");
    for body in [&*one, " \n{\"a\":1}", "{", &format!("{one}\n{one}")] {
        assert_eq!(json(body), Err(RecordError::SingleObject), "{body}");
    }
    let said = "must be a JSON array of subtasks; wrap one object in [ ] or send it as application/x-ndjson";
    assert_eq!(RecordError::SingleObject.to_string(), said);
    for body in ["null", "1", "\"a\"", "true"] {
        assert_eq!(json(body), Err(RecordError::NotAnArray), "{body}");
    }
    let array = ndjson("\n [\n");
    assert_eq!(
        array,
        Err(RecordError::Line(2, "must be a JSON object; an array of them is sent as application/json".into()))
    );
}

/// Only one, and only at the start.
#[test]
fn a_byte_order_mark_is_skipped() {
    let (bom, one) = ("\u{feff}", with(""));
    assert_eq!(json(&format!("{bom}[{one}]")), json(&format!("[{one}]")));
    assert_eq!(ndjson(&format!("{bom}{one}")), ndjson(&one));
    assert_eq!((ndjson(bom), ndjson(&format!("{bom}\r\n"))), (Ok(vec![]), Ok(vec![])));
    for body in [format!("{bom}{bom}[{one}]"), format!(" {bom}[{one}]"), bom.into()] {
        assert!(matches!(json(&body), Err(RecordError::InvalidJson(_))), "{body}");
    }
    assert_eq!(json(&format!("[{bom}{one}]")), Err(RecordError::Record(1, "expected value".into())));
    for (body, line) in [(format!("{bom}{bom}{one}"), 1), (format!("\n{bom}{one}"), 2), (format!("{one}\n{bom}"), 2)] {
        assert!(matches!(ndjson(&body), Err(RecordError::Line(at, _)) if at == line), "{body}");
    }
    assert_eq!(json(&format!("{bom}{one}")), Err(RecordError::SingleObject));
}

#[test]
fn a_load_line_names_its_project() {
    let (project, sub_job) = from_load_line(FULL.replace('\n', "").as_bytes(), &types()).unwrap();
    assert_eq!((project.as_str(), sub_job), ("p", json(&format!("[{FULL}]")).unwrap().remove(0)));
    let refused = |line: String| from_load_line(line.as_bytes(), &types()).unwrap_err();
    assert_eq!(refused(with("")), "missing field `project_id`");
    assert!(refused(with(",\"project_id\":\"a/b\"")).starts_with("project_id must not hold"));
}
