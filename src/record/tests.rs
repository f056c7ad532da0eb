//! Every rule of a record, in both forms of a body.

use super::*;

const FULL: &str = r#"{"id":"s1","job_id":"j1","job_type":"CREATE_SERVER","status":"FAILED","version":7,"project_id":"p",
"begin_time":"2022-03-07T10:40:43.858Z","end_time":null,"job_resource_info":{ "resource_id":"r" },
"error_code":"WKS.1","error_message":"no"}"#;

fn types() -> JobTypes {
    JobTypes::default()
}

fn json(body: &str) -> Result<Vec<SubJob>, Refused> {
    from_json(body.as_bytes(), &ProjectId::parse("p").unwrap(), &types())
}

fn ndjson(body: &str) -> Result<Vec<SubJob>, Refused> {
    from_ndjson(body.as_bytes(), &ProjectId::parse("p").unwrap(), &types())
}

/// A record with the required fields and what is added.
fn with(more: &str) -> String {
    format!(r#"{{"id":"s","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING"{more}}}"#)
}

#[test]
fn every_field_arrives() {
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
fn null_is_as_if_absent() {
    let fields = "version project_id begin_time end_time job_resource_info job_execute_info error_code error_message";
    let nulls: String = fields.split(' ').map(|field| format!(",\"{field}\":null")).collect();
    assert_eq!(json(&format!("[{}]", with(&nulls))), json(&format!("[{}]", with(""))));
}

#[test]
fn empty_bodies() {
    assert_eq!(json("[]"), Ok(vec![]));
    assert_eq!(ndjson(""), Ok(vec![]));
    assert_eq!(ndjson("\n \r\n"), Ok(vec![]));
    for body in ["", "{}", "null", "1", "nonsense", &with("")] {
        assert!(matches!(json(body), Err(Refused::Body(_))), "{body}");
    }
}

#[test]
fn bounds_are_kept_to_the_letter() {
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
        (",\"version\":-1".into(), "invalid value"),
        (",\"version\":1.0".into(), "invalid type"),
        (",\"version\":\"1\"".into(), "invalid type"),
        (format!(",\"error_code\":\"{}\"", "é".repeat(65)), "error_code must have at most 64"),
        (format!(",\"error_message\":\"{}\"", "é".repeat(1025)), "error_message must have at most 1024"),
        (format!(",\"job_resource_info\":{}", object(8193)), "job_resource_info must have at most 8192 bytes"),
        (format!(",\"job_execute_info\":{}", object(8193)), "job_execute_info must have at most 8192 bytes"),
        (",\"job_resource_info\":[]".into(), "job_resource_info must be an object"),
        (",\"job_execute_info\":\"{}\"".into(), "job_execute_info must be an object"),
        (",\"begin_time\":\"yesterday\"".into(), "begin_time must be an RFC 3339"),
        (",\"end_time\":5".into(), "invalid type"),
        (",\"project_id\":\"q\"".into(), "project_id must be that of the path"),
        (",\"colour\":\"red\"".into(), "unknown field `colour`"),
        (",\"id\":\"s\"".into(), "duplicate field `id`"),
        (",\"version\":1,\"version\":1".into(), "duplicate field `version`"),
        (",\"end_time\":null,\"end_time\":null".into(), "duplicate field `end_time`"),
    ] {
        let record = with(&more);
        let of_line = ndjson(&format!("\n{}\n{record}", with(""))).unwrap_err();
        let of_array = json(&format!("[{},{record}]", with(""))).unwrap_err();
        let Refused::Line(3, said) = of_line else { panic!("{record}: {of_line:?}") };
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
        assert_eq!(of_array, Refused::Record(2, said));
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
        ("id", "null", "invalid type: null"),
        ("id", "1", "invalid type"),
        ("id", "\"\"", "id must not be empty"),
        ("id", "\"a\\u0000\"", "id must not hold a control character"),
        ("id", "\"\\ud800\"", "unexpected end of hex escape"),
        ("id", &long, "id must have at most 128"),
        ("job_id", &long, "job_id must have at most 128"),
        ("job_type", "\"create_server\"", "job_type is not a known job type"),
        ("job_type", "\"\"", "job_type is not a known job type"),
        ("status", "\"Running\"", "status must be one of"),
    ] {
        let Err(Refused::Line(1, said)) = ndjson(&record(field, value)) else { panic!("{field} {value}") };
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
    }
}

#[test]
fn a_bad_record_is_known_by_its_place() {
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
        assert!(matches!(error, Refused::Record(at, _) if at == place), "{error:?}");
        assert!(!error.to_string().contains(" at line "), "{error}");
    }
    let not_utf8 = [good.as_bytes(), b"\n\n{\"id\":\"\xff\"}"].concat();
    let error = from_ndjson(&not_utf8, &ProjectId::parse("p").unwrap(), &types()).unwrap_err();
    assert!(matches!(error, Refused::Line(3, _)), "{error:?}");
    assert!(matches!(ndjson(&format!("{good} {good}")), Err(Refused::Line(1, _))));
    assert!(matches!(ndjson(&format!("[{good}]")), Err(Refused::Line(1, _))));
}

#[test]
fn a_record_is_an_object_and_no_list_of_values() {
    let list = r#"["s","j","CREATE_SERVER","RUNNING",1,null,null,null,null,null,null,null]"#;
    for body in [list, "[]", "null", "5"] {
        let of_line = Refused::Line(1, format!("invalid type: {}, expected an object", kind(body)));
        assert_eq!(ndjson(body), Err(of_line));
        assert!(matches!(json(&format!("[{body}]")), Err(Refused::Record(1, _))), "{body}");
        assert!(from_load_line(body.as_bytes(), &types()).is_err());
    }
    fn kind(body: &str) -> &str {
        match body {
            "null" => "null",
            "5" => "integer `5`",
            _ => "sequence",
        }
    }
}

#[test]
fn a_load_line_names_its_project() {
    let (project, sub_job) = from_load_line(FULL.replace('\n', "").as_bytes(), &types()).unwrap();
    assert_eq!((project.as_str(), sub_job), ("p", json(&format!("[{FULL}]")).unwrap().remove(0)));
    let refused = |line: String| from_load_line(line.as_bytes(), &types()).unwrap_err();
    assert_eq!(refused(with("")), "missing field `project_id`");
    assert!(refused(with(",\"project_id\":\"a/b\"")).starts_with("project_id must not hold"));
}
