//! Compares `docs/openapi.yaml` with the publisher's definition of CountSubJobs, and with the document that the server sends. Each
//! difference is named here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use subjobs::domain::{Family, JobTypes, SettableClock};
use subjobs::internal::{self, Internal, TestControl, TestOperations};
use subjobs::web::faults::FaultRules;
use subjobs::web::operation::Operation;

const PATH: &str = "/v1/{project_id}/app-server-sub-jobs/actions/count";

fn ours() -> Value {
    serde_saphyr::from_str(include_str!("../../../docs/openapi.yaml")).expect("YAML that JSON can hold")
}

fn publishers() -> Value {
    serde_json::from_str(include_str!("../../fixtures/count-sub-jobs.publisher.json")).expect("JSON")
}

fn operation(document: &Value) -> &Value {
    &document["paths"][PATH]["get"]
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The target of a `$ref`, or the value itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    resolve(document, target.unwrap_or_else(|| panic!("{reference} is dangling")))
}

/// Each parameter by location and name: whether it is required, and its limits.
fn parameters(document: &Value) -> BTreeMap<String, Map<String, Value>> {
    let list = operation(document)["parameters"].as_array().expect("a list");
    let bounding = |keyword: &str| !keyword.starts_with("x-") && !matches!(keyword, "in" | "name");
    let bounds = list.iter().map(|parameter| {
        let parameter = resolve(document, parameter);
        let key = format!("{} {}", parameter["in"].as_str().expect("in"), parameter["name"].as_str().expect("name"));
        let schema = parameter.get("schema").unwrap_or(parameter).as_object().expect("an object");
        let kept = schema.iter().filter(|(keyword, _)| bounding(keyword));
        let mut bounds: Map<_, _> = kept.map(|(keyword, value)| (keyword.clone(), value.clone())).collect();
        bounds.insert("required".into(), parameter["required"].clone());
        (key, bounds)
    });
    let by_name: BTreeMap<_, _> = bounds.collect();
    assert_eq!(by_name.len(), list.len(), "a parameter stands twice");
    by_name
}

/// Each response by status.
fn responses(document: &Value) -> BTreeMap<&str, &Value> {
    let responses = operation(document)["responses"].as_object().expect("an object");
    responses.iter().map(|(status, response)| (status.as_str(), resolve(document, response))).collect()
}

fn content(response: &Value) -> &Value {
    assert_eq!(keys(&response["content"]), ["application/json"]);
    &response["content"]["application/json"]
}

/// A schema's properties without their descriptions.
fn properties(schema: &Value) -> Value {
    let mut properties = schema["properties"].clone();
    for property in properties.as_object_mut().expect("an object").values_mut() {
        property.as_object_mut().expect("an object").remove("description");
    }
    properties
}

#[test]
fn the_count_has_the_published_path_and_operation_id() {
    let (ours, publishers) = (ours(), publishers());
    assert_eq!(keys(&publishers["paths"]), [PATH]);
    // Exactly the operations of the internal listener name it as their server.
    let paths = ours["paths"].as_object().expect("an object");
    let internal: Vec<_> = paths.iter().filter(|(_, item)| item.get("servers").is_some()).collect();
    let listed: BTreeSet<_> = internal.iter().map(|(path, _)| path.as_str()).collect();
    let public: BTreeSet<_> = subjobs::api::operations().iter().map(|operation| operation.path).collect();
    let operations = internal_operations();
    // The summary is on both listeners.
    let only_internal = operations.iter().map(|operation| operation.path).filter(|path| !public.contains(path));
    assert_eq!(listed, only_internal.collect());
    for (path, item) in internal {
        assert_eq!(item["servers"][0]["variables"]["origin"]["default"], "http://127.0.0.1:9090", "{path}");
    }
    assert_eq!(keys(&ours["paths"][PATH]), keys(&publishers["paths"][PATH]));
    assert_eq!(operation(&ours)["operationId"], operation(&publishers)["operationId"]);
    assert_eq!(ours["info"]["version"], publishers["info_version"]);
}

/// Every operation that the internal listener can have.
fn internal_operations() -> Vec<Operation<Arc<Internal>>> {
    let faults = Arc::new(FaultRules::new(Vec::new()));
    let control = TestControl { faults, clock: SettableClock::default(), retain_finished: None };
    internal::operations(&TestOperations::All(Arc::new(control)))
}

/// Method, path and id of every operation that the document describes.
fn described(document: &Value) -> BTreeSet<(String, String, String)> {
    let paths = document["paths"].as_object().expect("an object").iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().expect("an object").iter().filter(|(key, _)| *key != "servers");
        methods.map(move |(method, operation)| {
            let id = operation["operationId"].as_str().expect("an id");
            (method.to_uppercase(), path.clone(), id.to_owned())
        })
    });
    operations.collect()
}

#[test]
fn the_document_describes_exactly_the_operations_of_the_tables() {
    let row = |method: &http::Method, path: &str, id: &str| (method.to_string(), path.to_owned(), id.to_owned());
    let public = subjobs::api::operations();
    let public = public.iter().map(|operation| row(&operation.method, operation.path, operation.id));
    let internal = internal_operations();
    let internal = internal.iter().map(|operation| row(&operation.method, operation.path, operation.id));
    let tables: BTreeSet<_> = public.chain(internal).collect();
    assert_eq!(described(&ours()), tables);
}

#[test]
fn every_placeholder_of_a_path_is_a_parameter() {
    let document = ours();
    for (path, item) in document["paths"].as_object().expect("an object") {
        let placeholders: BTreeSet<_> =
            path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
        for (method, operation) in item.as_object().expect("an object").iter().filter(|(key, _)| *key != "servers") {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters = parameters.map(|parameter| resolve(&document, parameter));
            let in_path = parameters.filter(|parameter| parameter["in"] == "path");
            let names: BTreeSet<_> = in_path.map(|parameter| parameter["name"].as_str().expect("a name")).collect();
            assert_eq!(names, placeholders, "{method} {path}");
        }
    }
}

#[test]
fn the_count_has_the_published_parameters() {
    let (ours, mut expected) = (ours(), parameters(&publishers()));

    // Stricter: a credential is required. The optional header of the publisher and the signature of its SDKs are security
    // schemes here.
    let token = expected.remove("header X-Auth-Token").expect("the publisher's token");
    assert_eq!(token["required"], false);
    assert_eq!(ours["security"], json!([{ "token": [] }, { "signature": [] }]));
    assert!(operation(&ours).get("security").is_none());
    let signature = &ours["components"]["securitySchemes"]["signature"];
    assert_eq!(
        (&signature["type"], &signature["in"], &signature["name"]),
        (&json!("apiKey"), &json!("header"), &json!("Authorization"))
    );
    let scheme = &ours["components"]["securitySchemes"]["token"];
    assert_eq!([&scheme["type"], &scheme["in"], &scheme["name"]], ["apiKey", "header", "X-Auth-Token"]);

    // Stricter: the publisher allows more characters.
    let stricter = [
        (
            "path project_id",
            "pattern",
            json!(r"^[^\u0000-\u0020\u007f-\u00a0/\\\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$"),
        ),
        ("path project_id", "not", json!({ "enum": [".", ".."] })),
        (
            "query job_type",
            "anyOf",
            json!([{ "$ref": "#/components/schemas/JobType" }, { "$ref": "#/components/schemas/JobTypes" }]),
        ),
        (
            "query status",
            "enum",
            json!(["", "WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"]),
        ),
        ("query job_id", "pattern", json!(r"^[^\u0000-\u001f\u007f-\u009f]*$")),
    ];
    for (parameter, keyword, value) in stricter {
        let bounds = expected.get_mut(parameter).expect("a parameter of the publisher");
        assert_eq!(bounds.insert(keyword.into(), value), None, "the publisher bounds {parameter} by {keyword} too");
    }

    // More: X-Request-Id and If-None-Match.
    for name in ["header X-Request-Id", "header If-None-Match"] {
        let header = json!({ "required": false, "type": "string" });
        expected.insert(name.into(), header.as_object().expect("an object").clone());
    }

    assert_eq!(parameters(&ours), expected);
}

#[test]
fn the_document_lists_the_job_types_of_the_server() {
    let ours = ours();
    let parameter = |document| {
        let list = operation(document)["parameters"].as_array().expect("a list");
        list.iter().find(|parameter| parameter["name"] == "job_type").expect("job_type")
    };
    let types = JobTypes::default();
    let of = |family| types.of_family(family).map(|job_type| types.name(job_type)).collect::<Vec<_>>();
    let known = of(Family::App);
    assert_eq!(ours["components"]["schemas"]["JobType"]["enum"], json!(known));
    assert_eq!(ours["components"]["schemas"]["ImageJobType"]["enum"], json!(of(Family::Image)));

    let publishers = publishers();
    let example = parameter(&publishers)["x-example"].as_str().expect("an example");
    for name in example.split(',') {
        assert!(known.contains(&name), "the publisher's example sends {name}");
    }
}

#[test]
fn the_count_has_the_published_status_codes_and_error_codes() {
    let (ours, publishers) = (ours(), publishers());
    let codes = |document, code: fn(&Value, &Value) -> Value| -> BTreeMap<String, Value> {
        let responses = responses(document).into_iter();
        responses.map(|(status, response)| (status.into(), code(document, response))).collect()
    };
    let expected = codes(&publishers, |document, response| {
        resolve(document, &response["schema"])["properties"]["error_code"]["example"].clone()
    });
    let mut example =
        codes(&ours, |_, response| response["content"]["application/json"]["example"]["error_code"].clone());
    // More: 304, which is not an error and has no body.
    assert_eq!(example.remove("304"), Some(Value::Null));
    assert_eq!(expected.len(), 8);
    assert_eq!(expected.values().filter(|code| code.is_null()).count(), 1, "200 has no code");
    assert_eq!(example, expected);
}

#[test]
fn the_body_of_a_count_is_as_published() {
    let (ours, publishers) = (ours(), publishers());
    let theirs = resolve(&publishers, &responses(&publishers)["200"]["schema"]);
    let mut expected = resolve(&publishers, &theirs["allOf"][0])["properties"].clone();
    let count = expected["count"].as_object_mut().expect("an object");
    count.remove("example");
    count.insert("format".into(), json!("int32"));

    let answer = content(responses(&ours)["200"]);
    let schema = resolve(&ours, &answer["schema"]);
    assert_eq!(properties(schema), expected);
    // Stricter: the count is required and is the only field.
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["required"], json!(["count"]));
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(keys(&answer["example"]), ["count"]);
    assert!(answer["example"]["count"].is_u64());
}

#[test]
fn an_error_is_two_bounded_strings() {
    let ours = ours();
    for (status, response) in responses(&ours).into_iter().filter(|(status, _)| !["200", "304"].contains(status)) {
        let error = content(response);
        // No other form: a generator of clients makes exactly one class of it.
        assert_eq!(error["schema"], json!({ "$ref": "#/components/schemas/Error" }), "{status}");
        let schema = resolve(&ours, &error["schema"]);
        assert_eq!(schema["type"], "object", "{status}");
        assert_eq!(schema["required"], json!(["error_code", "error_msg"]), "{status}");
        assert_eq!(schema["additionalProperties"], false, "{status}");
        let bounds = json!({
            "error_code": { "type": "string", "minLength": 1, "maxLength": 16 },
            "error_msg": { "type": "string", "minLength": 1, "maxLength": 255 },
        });
        assert_eq!(properties(schema), bounds, "{status}");

        assert_eq!(keys(&error["example"]), ["error_code", "error_msg"], "{status}");
        for (name, most) in [("error_code", 16), ("error_msg", 255)] {
            let length = error["example"][name].as_str().expect("a string").chars().count();
            assert!((1..=most).contains(&length), "{status}: {name} has {length} characters");
        }
    }
}

#[test]
fn every_response_describes_its_headers() {
    let ours = ours();
    for (status, response) in responses(&ours) {
        let mut expected = vec!["Cache-Control", "X-Request-Id"];
        expected.extend(match status {
            "405" => Some("Allow"),
            "503" => Some("Retry-After"),
            "304" => Some("ETag"),
            _ => None,
        });
        let mut names = keys(&response["headers"]);
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected, "{status}");
        for name in names {
            let header = resolve(&ours, &response["headers"][name]);
            assert_eq!(header["required"], true, "{status}: {name}");
            assert!(header["schema"]["type"].is_string(), "{status}: {name}");
        }
    }
}

/// Compares each field of the schema with the parser of records.
#[test]
fn the_schema_of_a_record_agrees_with_the_parser() {
    let ours = ours();
    let schema = &ours["components"]["schemas"]["SubJob"];
    assert_eq!(schema["required"], json!(["id", "job_id", "job_type", "status"]));
    assert_eq!(schema["additionalProperties"], false);
    let full = crate::support::fixtures::full("1");
    let mut described = keys(&schema["properties"]);
    let mut known = keys(&full);
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known);
    let statuses = resolve(&ours, &schema["properties"]["status"])["enum"].clone();
    let all = subjobs::domain::Status::ALL.map(|status| status.as_str());
    assert_eq!(statuses, json!(all));
}

#[tokio::test]
async fn the_served_document_has_the_configured_job_types() {
    let mut config = crate::support::fixtures::config();
    config.job_types = JobTypes::new(["BRAND_NEW_1"]).unwrap();
    let server = crate::support::server::Running::start(config).await;
    let served = crate::support::response::json(server.get_internal("/openapi.json").await).await;
    let mut expected = ours();
    let names = expected["components"]["schemas"]["JobType"]["enum"].as_array_mut().unwrap();
    names.push("BRAND_NEW_1".into());
    let one = names.iter().map(|name| name.as_str().unwrap()).collect::<Vec<_>>().join("|");
    expected["components"]["schemas"]["JobTypes"]["pattern"] = json!(format!("^(({one})(,({one}))*)?$"));
    // This server has no operations for tests, so its document has none.
    for path in ["/subjobs/v1/{project_id}/reset", "/reset", "/faults", "/clock"] {
        expected["paths"].as_object_mut().unwrap().remove(path).expect("an operation for tests");
    }
    expected["tags"].as_array_mut().unwrap().retain(|tag| tag["name"] != "Test" && tag["name"] != "Ephemeral");
    for schema in ["FaultSettings", "FaultSetting", "Faults", "Fault", "ClockSetting", "ClockReading"] {
        expected["components"]["schemas"].as_object_mut().unwrap().remove(schema).expect("a schema of tests");
    }
    assert_eq!(served, expected);
}
