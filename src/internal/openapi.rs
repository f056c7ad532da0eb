//! `GET /openapi.json`: `docs/openapi.yaml` with the job types and the operations of this server.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::{Internal, TestOperations};
use crate::domain::{Family, JobTypes};
use crate::web::error::Error;

/// `docs/openapi.yaml`, which the build script writes as JSON.
const DOCUMENT: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// Where the document lists the job types.
const NAMES: &str = "/components/schemas/JobType/enum";

/// Where it says what a list of them looks like.
const LIST: &str = "/components/schemas/JobTypes/pattern";

/// Where the schemas are.
const SCHEMAS: &str = "/components/schemas";

/// The tag of the operations that only `--allow-reset` adds, or `--ephemeral`.
const RESET_TAG: &str = "Test";

/// The tag of the operations that only `--ephemeral` adds.
const EPHEMERAL_TAG: &str = "Ephemeral";

pub(super) async fn openapi(
    State(internal): State<Arc<Internal>>,
    absent_tags: &'static [&'static str],
) -> Result<impl IntoResponse, Error> {
    let document =
        document(&internal.api.job_types, absent_tags).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], document.to_string()))
}

/// The document of a server that knows these types. It is made for each request, because requests for it are rare.
fn document(job_types: &JobTypes, absent_tags: &[&str]) -> serde_json::Result<Value> {
    let names: Vec<_> = job_types.of_family(Family::App).map(|job_type| job_types.name(job_type)).collect();
    // A name holds nothing that means something in a pattern.
    let one = format!("({})", names.join("|"));
    let pattern = format!("^({one}(,{one})*)?$");
    let mut document: Value = serde_json::from_str(DOCUMENT)?;
    for (pointer, value) in [(NAMES, names.into()), (LIST, pattern.into())] {
        if let Some(found) = document.pointer_mut(pointer) {
            *found = value;
        }
    }
    absent_tags.iter().for_each(|tag| remove_tag(&mut document, tag));
    remove_unused_schemas(&mut document);
    Ok(document)
}

/// Removes the schemas that only removed operations have used, because linters complain about them.
fn remove_unused_schemas(document: &mut Value) {
    loop {
        let mut used = HashSet::new();
        collect_references(document, &mut used);
        let Some(schemas) = document.pointer_mut(SCHEMAS).and_then(Value::as_object_mut) else { return };
        let before = schemas.len();
        schemas.retain(|name, _| used.contains(&format!("#{SCHEMAS}/{name}")));
        // A schema that is gone may have been the only user of another one.
        if schemas.len() == before {
            return;
        }
    }
}

/// Adds every `$ref` in a value.
fn collect_references(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect_references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// The tags of the operations that a server with these operations for tests does not have.
pub(super) fn absent_tags(tests: &TestOperations) -> &'static [&'static str] {
    match tests {
        TestOperations::None => &[RESET_TAG, EPHEMERAL_TAG],
        TestOperations::ResetOfProject => &[EPHEMERAL_TAG],
        TestOperations::All(_) => &[],
    }
}

/// Removes a tag and the paths whose operations have it.
fn remove_tag(document: &mut Value, name: &str) {
    let has_tag =
        |operation: &Value| operation["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == name));
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|_, item| !item.as_object().is_some_and(|item| item.values().any(has_tag)));
    }
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|tag| tag["name"] != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_built_in_types() {
        let own: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document(&JobTypes::default(), &[]).unwrap(), own);
    }

    #[test]
    fn added_types_are_in_the_list_and_in_the_pattern() {
        let served = document(&JobTypes::new(["NEW_1"]).unwrap(), &[]).unwrap();
        let names = served.pointer(NAMES).and_then(Value::as_array).unwrap();
        assert_eq!((names.len(), &names[19]), (20, &"NEW_1".into()));
        let pattern = served.pointer(LIST).and_then(Value::as_str).unwrap();
        assert_eq!(pattern.matches("|NEW_1)").count(), 2, "{pattern}");
    }

    #[test]
    fn operations_for_tests_are_described_only_where_they_exist() {
        let described = |absent_tags: &[&str]| {
            let text = document(&JobTypes::default(), absent_tags).unwrap().to_string().to_lowercase();
            let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
            [
                has(&["resetsubjobs", "/reset", "allow-reset"]),
                has(&["resetall", "ephemeral", "faultsetting", "clockreading"]),
            ]
        };
        assert_eq!(described(absent_tags(&TestOperations::None)), [false, false]);
        assert_eq!(described(absent_tags(&TestOperations::ResetOfProject)), [true, false]);
        assert_eq!(described(&[]), [true, true]);
    }
}
