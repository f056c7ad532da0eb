//! Compares `docs/openapi.yaml` with the publisher's definitions of all ten operations: parameters with their limits, bodies,
//! status codes and the fields of responses. Each difference is named here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The keywords that limit a parameter or a list.
const BOUNDS: [&str; 9] =
    ["type", "minLength", "maxLength", "minimum", "maximum", "default", "minItems", "maxItems", "uniqueItems"];

fn ours() -> Value {
    serde_saphyr::from_str(include_str!("../../../docs/openapi.yaml")).expect("YAML that JSON can hold")
}

/// The publisher's definitions, trimmed: without descriptions, references and the token's header.
fn publishers() -> Vec<Value> {
    serde_json::from_str(include_str!("../../fixtures/operations.publisher.json")).expect("a list")
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    resolve(document, target.unwrap_or_else(|| panic!("{reference} is dangling")))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// Calls `check` with the id, the publisher's definition and our definition of each published operation.
fn for_each_operation(document: &Value, check: impl Fn(&str, &Value, &Value)) {
    let all = publishers();
    assert_eq!(all.len(), 10);
    for theirs in &all {
        let (id, ours) = (text(&theirs["id"]), &document["paths"][text(&theirs["path"])][text(&theirs["method"])]);
        assert_eq!(ours["operationId"], id);
        check(id, theirs, ours);
    }
}

/// Each parameter of a list, by location and name.
fn parameters<'a>(document: &'a Value, list: &'a Value) -> BTreeMap<String, &'a Value> {
    let list = list.as_array().expect("a list").iter().map(|parameter| resolve(document, parameter));
    list.map(|parameter| (format!("{} {}", text(&parameter["in"]), text(&parameter["name"])), parameter)).collect()
}

/// The values that a schema lists, through its references and alternatives.
fn listed(document: &Value, schema: &Value) -> BTreeSet<String> {
    let schema = resolve(document, schema);
    let own = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let empty = (schema["maxLength"] == 0).then(String::new);
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    own.chain(empty).chain(alternatives.flat_map(|one| listed(document, one))).collect()
}

fn assert_same_bounds(theirs: &Value, ours: &Value, name: &str) {
    for bound in BOUNDS.iter().filter(|bound| theirs.get(**bound).is_some()) {
        assert_eq!(ours[bound], theirs[bound], "{name}: {bound}");
    }
}

#[test]
fn parameters_are_as_published() {
    let document = ours();
    for_each_operation(&document, |id, theirs, ours| {
        let (expected, mut given) =
            (parameters(&document, &theirs["parameters"]), parameters(&document, &ours["parameters"]));
        // More: X-Request-Id, and If-None-Match of counts.
        assert!(given.remove("header X-Request-Id").is_some(), "{id}");
        let is_count = id.starts_with("Count");
        assert_eq!(given.remove("header If-None-Match").is_some(), is_count, "{id}");
        assert!(given.keys().eq(expected.keys()), "{id}: {:?}, published {:?}", given.keys(), expected.keys());
        for (name, theirs) in expected {
            let (ours, name) = (given[&name], format!("{id}: {name}"));
            assert_eq!(ours["required"], theirs["required"], "{name}");
            assert_same_bounds(theirs, &ours["schema"], &name);
            let Some(pattern) = theirs["pattern"].as_str() else { continue };
            let names = pattern.strip_prefix("^(").and_then(|rest| rest.strip_suffix(")?$")).expect(&name);
            let published: BTreeSet<_> = names.split('|').chain([""]).map(str::to_owned).collect();
            let known = listed(&document, &ours["schema"]);
            // More: a list accepts each type that the count accepts.
            let same = if name.ends_with("job_type") { known.is_superset(&published) } else { known == published };
            assert!(same, "{name}: {known:?}, published {published:?}");
        }
    });
}

#[test]
fn request_bodies_are_as_published() {
    let document = ours();
    for_each_operation(&document, |id, theirs, ours| {
        assert_eq!(ours.get("requestBody").is_some(), theirs.get("body").is_some(), "{id}");
        let Some(theirs) = theirs.get("body") else { return };
        let body = &ours["requestBody"];
        assert_eq!((&body["required"], keys(&body["content"])), (&json!(true), ["application/json"].into()), "{id}");
        let schema = resolve(&document, &body["content"]["application/json"]["schema"]);
        assert_eq!((&schema["type"], &schema["required"]), (&theirs["type"], &theirs["required"]), "{id}");
        // Stricter: no other key.
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(keys(&schema["properties"]), keys(&theirs["properties"]), "{id}");
        let (ours, theirs) = (&schema["properties"]["items"], &theirs["properties"]["items"]);
        assert_same_bounds(theirs, ours, id);
        assert_same_bounds(&theirs["items"], &ours["items"], id);
    });
}

#[test]
fn status_codes_are_as_published() {
    let document = ours();
    for_each_operation(&document, |id, theirs, ours| {
        let mut expected: BTreeSet<_> = theirs["statuses"].as_array().expect("a list").iter().map(text).collect();
        // More: 404, 405 and 503, which two definitions do not have.
        if ["ShowJob", "ShowJobDetail"].contains(&id) {
            expected.extend(["404", "405", "503"]);
        }
        // More: 304 of counts, and 413 and 415 of bodies.
        expected.extend(id.starts_with("Count").then_some("304"));
        expected.extend(theirs.get("body").into_iter().flat_map(|_| ["413", "415"]));
        assert_eq!(keys(&ours["responses"]), expected, "{id}");
        // The definition does not say that it is deprecated; its page does.
        assert_eq!(ours["deprecated"] == true, id == "ShowJob", "{id}");
    });
}

/// Compares the fields of a response and of its nested objects.
fn assert_same_fields(document: &Value, theirs: &Value, ours: &Value, name: &str) {
    let ours = resolve(document, ours);
    for (field, theirs) in theirs["properties"].as_object().into_iter().flatten() {
        // Less: no worker reports when a job is expected to end.
        if field == "expected_end_time" {
            continue;
        }
        let name = format!("{name}.{field}");
        let ours = ours["properties"].get(field).unwrap_or_else(|| panic!("{name} is missing"));
        let ours = resolve(document, ours);
        assert_same_bounds(theirs, ours, &name);
        assert_eq!(ours["format"] == "date-time", theirs["format"] == "date-time", "{name}");
        let published: BTreeSet<_> = theirs["enum"].as_array().into_iter().flatten().map(text).collect();
        let known = listed(document, ours);
        assert!(published.iter().all(|value| known.contains(*value)), "{name}: {known:?}, published {published:?}");
        assert_same_fields(document, theirs, ours, &name);
    }
    // More: fields of other operations' subtasks, so that all subtasks have one form.
    let more: BTreeSet<_> = keys(&ours["properties"]).difference(&keys(&theirs["properties"])).copied().collect();
    let known = ["error_code", "error_message", "job_execute_info"].into();
    assert!(theirs.get("properties").is_none() || more.is_subset(&known), "{name}: {more:?}");
    if let Some(theirs) = theirs.get("items") {
        assert_same_fields(document, theirs, &ours["items"], name);
    }
}

#[test]
fn fields_of_responses_are_as_published() {
    let document = ours();
    for_each_operation(&document, |id, theirs, ours| {
        let ours = &resolve(&document, &ours["responses"]["200"])["content"];
        match theirs.get("answer") {
            Some(theirs) => assert_same_fields(&document, theirs, &ours["application/json"]["schema"], id),
            None => assert!(ours.is_null(), "{id}: 200 has no body"),
        }
    });
}

#[test]
fn the_document_lists_the_job_statuses_of_the_server() {
    let statuses = subjobs::domain::JobStatus::ALL.map(|status| status.as_str());
    assert_eq!(ours()["components"]["schemas"]["JobStatus"]["enum"], json!(statuses));
}
