//! `docs/openapi.yaml` against what the publisher's definitions say of the operations that delete subtasks and show jobs. What is
//! stricter here, or more, is named.

use serde_json::{Value, json};

fn ours() -> Value {
    serde_saphyr::from_str(include_str!("../../../docs/openapi.yaml")).expect("YAML that JSON can hold")
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    resolve(document, target.unwrap_or_else(|| panic!("{reference} is dangling")))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_batch_delete_is_the_publishers() {
    let document = ours();
    for (method, path, id) in [
        ("post", "/v1/{project_id}/app-server-sub-jobs/actions/batch-delete", "BatchDeleteAppSubJobs"),
        ("patch", "/v1/{project_id}/image-server-sub-jobs/actions/batch-delete", "BatchDeleteImageSubJobs"),
    ] {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["operationId"], id);
        let body = &operation["requestBody"];
        assert_eq!((&body["required"], keys(&body["content"])), (&json!(true), vec!["application/json"]), "{id}");
        let schema = resolve(&document, &body["content"]["application/json"]["schema"]);
        assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["items"])));
        // Stricter: no other key.
        assert_eq!((keys(&schema["properties"]), &schema["additionalProperties"]), (vec!["items"], &json!(false)));
        let items = &schema["properties"]["items"];
        let bounds = ["type", "minItems", "maxItems", "uniqueItems"].map(|name| &items[name]);
        assert_eq!(bounds, [&json!("array"), &json!(1), &json!(20), &json!(true)]);
        let bounds = ["type", "minLength", "maxLength"].map(|name| &items["items"][name]);
        assert_eq!(bounds, [&json!("string"), &json!(1), &json!(128)]);
        // More: the statuses of a body of another type or size.
        let statuses = keys(&operation["responses"]);
        assert_eq!(statuses, ["200", "400", "401", "403", "404", "405", "413", "415", "500", "503"]);
        assert!(resolve(&document, &operation["responses"]["200"])["content"].is_null(), "200 has no body");
    }
}
