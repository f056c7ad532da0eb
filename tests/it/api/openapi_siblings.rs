//! `docs/openapi.yaml` against what the publisher's definitions of the siblings of CountSubJobs say: requests, parameters with
//! their bounds, and statuses. What is stricter here is named.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What the publisher defines of an operation, beside `project_id` of 1 to 128 characters.
struct Defined {
    id: &'static str,
    method: &'static str,
    path: &'static str,
    parameters: &'static [Parameter],
}

/// A parameter of the publisher's.
#[derive(Clone, Copy)]
enum Parameter {
    /// In the query, optional: one of these or empty.
    OneOf(&'static str, &'static [&'static str]),
    /// In the query, mandatory: one of these or empty. What can be counted can be listed, so more are taken here.
    MandatoryOneOf(&'static str, &'static [&'static str]),
    /// In the query, optional: a text of at most so many characters.
    Text(&'static str, u32),
    /// In the query, optional: a number from the first to the second, by default the third.
    Number(&'static str, u32, u32, u32),
}
use Parameter::{MandatoryOneOf, Number, OneOf, Text};

const STATUS: Parameter =
    OneOf("status", &["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"]);
const OFFSET: Parameter = Number("offset", 0, 2_147_483_647, 0);
const LIMIT: Parameter = Number("limit", 1, 100, 10);
const JOB_ID: Parameter = Text("job_id", 128);
const LISTED_TYPES: [&str; 10] = [
    "CREATE_SERVER",
    "DELETE_SERVER",
    "REJOIN_DOMAIN",
    "CHANGE_SERVER_IMAGE",
    "REINSTALL_OS",
    "MIGRATE_SERVER",
    "UPDATE_SERVER_TSVI",
    "UPGRADE_ACCESS_AGENT",
    "SCHEDULED_TASK",
    "UPDATE_FREEZE_STATUS",
];
const LISTED_IMAGE_TYPES: [&str; 3] = ["CREATE_SERVER", "CREATE_SERVER_IMAGE", "DELETE_SERVER"];

const DEFINED: [Defined; 3] = [
    Defined {
        id: "ListSubJobs",
        method: "get",
        path: "/v1/{project_id}/app-server-sub-jobs",
        parameters: &[STATUS, MandatoryOneOf("job_type", &LISTED_TYPES), OFFSET, LIMIT, JOB_ID],
    },
    Defined {
        id: "CountImageSubJobs",
        method: "get",
        path: "/v1/{project_id}/image-server-sub-jobs/actions/count",
        parameters: &[STATUS, Text("job_type", 128), JOB_ID],
    },
    Defined {
        id: "ListImageSubJobs",
        method: "get",
        path: "/v1/{project_id}/image-server-sub-jobs",
        parameters: &[STATUS, MandatoryOneOf("job_type", &LISTED_IMAGE_TYPES), OFFSET, LIMIT, JOB_ID],
    },
];

/// The statuses that every definition has.
const STATUSES: [&str; 8] = ["200", "400", "401", "403", "404", "405", "500", "503"];

fn ours() -> Value {
    serde_saphyr::from_str(include_str!("../../../docs/openapi.yaml")).expect("YAML that JSON can hold")
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    resolve(document, target.unwrap_or_else(|| panic!("{reference} is dangling")))
}

/// Each parameter of an operation by place and name.
fn parameters<'a>(document: &'a Value, operation: &'a Value) -> BTreeMap<String, &'a Value> {
    let list = operation["parameters"].as_array().expect("a list").iter();
    let named = list.map(|parameter| {
        let parameter = resolve(document, parameter);
        (format!("{} {}", parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap()), parameter)
    });
    named.collect()
}

/// The values that a schema lists, through its references and alternatives.
fn listed(document: &Value, schema: &Value) -> Vec<String> {
    let schema = resolve(document, schema);
    let own = schema["enum"].as_array().into_iter().flatten().map(|value| value.as_str().unwrap().to_owned());
    let empty = (schema["maxLength"] == 0).then(String::new);
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    own.chain(empty).chain(alternatives.flat_map(|one| listed(document, one))).collect()
}

fn check(document: &Value, parameter: Parameter, ours: &Value) {
    let (schema, required) = (&ours["schema"], &ours["required"]);
    match parameter {
        OneOf(_, names) => {
            let expected: Vec<_> = [""].iter().chain(names).map(|name| (*name).to_owned()).collect();
            assert_eq!((listed(document, schema), required), (expected, &json!(false)));
        }
        MandatoryOneOf(name, names) => {
            let listed = listed(document, schema);
            assert!(names.iter().chain(&[""]).all(|name| listed.iter().any(|one| one == name)), "{name}: {listed:?}");
            assert_eq!(required, true);
        }
        Text(name, most) => {
            assert_eq!((&schema["minLength"], &schema["maxLength"]), (&json!(0), &json!(most)), "{name}");
            assert_eq!((&schema["type"], required), (&json!("string"), &json!(false)), "{name}");
        }
        Number(name, least, most, default) => {
            let bounds = [&schema["minimum"], &schema["maximum"], &schema["default"]];
            assert_eq!(bounds, [&json!(least), &json!(most), &json!(default)], "{name}");
            assert_eq!((&schema["type"], required), (&json!("integer"), &json!(false)), "{name}");
        }
    }
}

#[test]
fn the_siblings_are_the_publishers() {
    let document = ours();
    for Defined { id, method, path, parameters: expected } in DEFINED {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["operationId"], id);
        let mut ours = parameters(&document, operation);
        let project = ours.remove("path project_id").expect(id);
        let bounds = [&project["schema"]["minLength"], &project["schema"]["maxLength"], &project["required"]];
        assert_eq!(bounds, [&json!(1), &json!(128), &json!(true)], "{id}");
        // More: any X-Request-Id is taken. The token is a security scheme here.
        assert!(ours.remove("header X-Request-Id").is_some(), "{id}");
        for parameter in expected {
            let (OneOf(name, _) | MandatoryOneOf(name, _) | Text(name, _) | Number(name, ..)) = *parameter;
            let ours = ours.remove(&format!("query {name}")).unwrap_or_else(|| panic!("{id} has no {name}"));
            check(&document, *parameter, ours);
        }
        assert!(ours.is_empty(), "{id}: {ours:?}");
        let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, STATUSES, "{id}");
    }
}

#[test]
fn an_answers_fields_are_those_that_the_publisher_shows() {
    let document = ours();
    let properties = |name: &str| {
        let properties = document["components"]["schemas"][name]["properties"].as_object().unwrap();
        let mut names: Vec<_> = properties.keys().map(String::as_str).collect();
        names.sort_unstable();
        names.join(" ")
    };
    let of_a_sub_job = "begin_time end_time error_code error_message id job_execute_info job_id job_resource_info \
                        job_type project_id status";
    for (sub_job, list) in [("SubJobInfo", "SubJobList"), ("ImageSubJobInfo", "ImageSubJobList")] {
        assert_eq!((properties(sub_job), properties(list)), (of_a_sub_job.into(), "count items".into()));
        let items = &document["components"]["schemas"][list]["properties"]["items"];
        assert_eq!([&items["minItems"], &items["maxItems"]], [&json!(0), &json!(100)]);
    }
}
