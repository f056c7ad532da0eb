//! `docs/openapi.yaml` describes every response that an operation can give.

use std::collections::BTreeSet;

use serde_json::Value;

fn ours() -> Value {
    serde_saphyr::from_str(include_str!("../../../docs/openapi.yaml")).expect("YAML that JSON can hold")
}

/// Every operation with its path.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let paths = document["paths"].as_object().expect("an object").iter();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().expect("an object").iter().filter(|(key, _)| *key != "servers");
        methods.map(move |(_, operation)| (path.as_str(), operation))
    })
}

#[test]
fn every_error_is_described() {
    let document = ours();
    for (path, operation) in operations(&document) {
        // `#` in the target, another method, a panic, and a timeout or load.
        let mut expected = BTreeSet::from(["200", "400", "405", "500", "503"]);
        let needs_no_credential = operation["security"].as_array().is_some_and(Vec::is_empty);
        expected.extend((!needs_no_credential).then_some("401"));
        expected.extend(path.contains("{project_id}").then_some(["403", "404"]).into_iter().flatten());
        expected.extend(path.contains("{file}").then_some("404"));
        expected.extend(operation.get("requestBody").and(Some(["413", "415"])).into_iter().flatten());
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let is_conditional = parameters.clone().any(|one| one["$ref"] == "#/components/parameters/IfNoneMatch");
        expected.extend(is_conditional.then_some("304"));
        let described: BTreeSet<_> = operation["responses"].as_object().expect("an object").keys().collect();
        assert!(described.iter().map(|status| status.as_str()).eq(expected), "{path}: {described:?}");
    }
}

#[test]
fn every_error_has_the_same_form_in_all_operations() {
    let document = ours();
    for (path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("an object") {
            let is_shared = response["$ref"].as_str().is_some_and(|name| name.starts_with("#/components/responses/"));
            assert_eq!(is_shared, status != "200", "{path}: {status}");
        }
    }
}
