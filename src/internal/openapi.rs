//! `GET /openapi.json`: `docs/openapi.yaml` with the job types and the operations of this server.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::{Internal, reset};
use crate::domain::{Family, JobTypes};
use crate::web::error::Error;

/// `docs/openapi.yaml`, which the build script writes as JSON.
const DOCUMENT: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// Where the document lists the job types.
const NAMES: &str = "/components/schemas/JobType/enum";

/// Where it says what a list of them looks like.
const LIST: &str = "/components/schemas/JobTypes/pattern";

/// The tag of the operations that only `--allow-reset` adds.
const RESET_TAG: &str = "Test";

pub(super) async fn openapi(
    State(internal): State<Arc<Internal>>,
    allow_reset: bool,
) -> Result<impl IntoResponse, Error> {
    let document =
        document(&internal.api.job_types, allow_reset).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], document.to_string()))
}

/// The document of a server that knows these types. It is made for each request, because requests for it are rare.
fn document(job_types: &JobTypes, allow_reset: bool) -> serde_json::Result<Value> {
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
    if !allow_reset {
        remove_reset(&mut document);
    }
    Ok(document)
}

/// Removes the path of the reset and its tag.
fn remove_reset(document: &mut Value) {
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.remove(reset::PATH);
    }
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|tag| tag["name"] != RESET_TAG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_built_in_types() {
        let own: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document(&JobTypes::default(), true).unwrap(), own);
    }

    #[test]
    fn added_types_are_in_the_list_and_in_the_pattern() {
        let served = document(&JobTypes::new(["NEW_1"]).unwrap(), true).unwrap();
        let names = served.pointer(NAMES).and_then(Value::as_array).unwrap();
        assert_eq!((names.len(), &names[19]), (20, &"NEW_1".into()));
        let pattern = served.pointer(LIST).and_then(Value::as_str).unwrap();
        assert_eq!(pattern.matches("|NEW_1)").count(), 2, "{pattern}");
    }

    #[test]
    fn reset_is_described_only_where_it_is_allowed() {
        let described = |allow_reset| {
            let text = document(&JobTypes::default(), allow_reset).unwrap().to_string().to_lowercase();
            text.contains("resetsubjobs") || text.contains("/reset") || text.contains("allow-reset")
        };
        assert_eq!([described(true), described(false)], [true, false]);
    }
}
