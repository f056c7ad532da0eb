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

/// The parameters of an operation, by place and name.
fn parameters<'a>(document: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let list = document["paths"][path]["get"]["parameters"].as_array().expect("a list").iter();
    let named = list.map(|parameter| {
        let parameter = resolve(document, parameter);
        (format!("{} {}", parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap()), parameter)
    });
    named.collect()
}

#[test]
fn the_jobs_are_the_publishers() {
    let document = ours();
    for (id, path, most) in [
        ("ShowJobDetail", "/v2/{project_id}/job/{job_id}", 255),
        ("ShowJob", "/v1/{project_id}/job/{job_id}", 255),
        ("ShowImageJob", "/v1/{project_id}/image-server-jobs/{job_id}", 128),
    ] {
        let operation = &document["paths"][path]["get"];
        assert_eq!((&operation["operationId"], operation["deprecated"] == true), (&json!(id), id == "ShowJob"));
        let parameters = parameters(&document, path);
        let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["path project_id", "path job_id", "header X-Request-Id"], "{id}");
        let schema = &parameters[1].1["schema"];
        assert_eq!([&schema["minLength"], &schema["maxLength"]], [&json!(1), &json!(most)], "{id}");
    }
    let path = "/v1/{project_id}/image-server-jobs";
    assert_eq!(document["paths"][path]["get"]["operationId"], "ListImageJobs");
    let list = parameters(&document, path);
    let names: Vec<_> = list.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["path project_id", "query status", "query job_type", "query offset", "query limit", "header X-Request-Id"];
    assert_eq!(names, expected);
    assert_eq!((&list[1].1["required"], &list[2].1["required"]), (&json!(false), &json!(true)));
    assert_eq!(list[1].1["schema"]["pattern"], "^(WAITING|RUNNING|SUCCESS|FAILED)?$");
    // More: the statuses that the publisher's definitions of ShowJob and ShowJobDetail lack.
    for path in [path, "/v2/{project_id}/job/{job_id}", "/v1/{project_id}/job/{job_id}"] {
        let statuses = keys(&document["paths"][path]["get"]["responses"]);
        assert_eq!(statuses, ["200", "400", "401", "403", "404", "405", "500", "503"], "{path}");
    }
}

#[test]
fn a_job_has_the_fields_that_the_publisher_shows() {
    let document = ours();
    let of_a_job = "begin_time end_time id job_type status sub_jobs_total";
    let of_numbers = "begin_time end_time execute_code execute_message job_id job_status job_type";
    for (schema, expected) in [
        ("Job", format!("{of_a_job} sub_jobs")),
        ("ImageJob", format!("{of_a_job} sub_jobs")),
        ("ImageJobSummary", of_a_job.into()),
        ("JobInNumbers", "job".into()),
        ("JobInfo", format!("{of_numbers} sub_jobs")),
        ("SubJobInNumbers", format!("{of_numbers} entities")),
    ] {
        let mut expected: Vec<_> = expected.split(' ').collect();
        let mut names = keys(&document["components"]["schemas"][schema]["properties"]);
        expected.sort_unstable();
        names.sort_unstable();
        assert_eq!(names, expected, "{schema}");
    }
    assert_eq!(
        document["components"]["schemas"]["JobStatus"]["enum"],
        json!(subjobs::domain::JobStatus::ALL.map(|status| status.as_str()))
    );
}
