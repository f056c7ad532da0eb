//! `GET /openapi.json`: `docs/openapi.yaml` with the job types of this server.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::Internal;
use crate::domain::{Family, JobTypes};
use crate::web::error::Error;

/// `docs/openapi.yaml`, which the build script writes as JSON.
const DOCUMENT: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// Where the document lists the job types.
const NAMES: &str = "/components/schemas/JobType/enum";

/// Where it says what a list of them looks like.
const LIST: &str = "/components/schemas/JobTypes/pattern";

pub(super) async fn openapi(State(internal): State<Arc<Internal>>) -> Result<impl IntoResponse, Error> {
    let text = with_job_types(&internal.api.job_types).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], text))
}

/// The document for a server that knows these types. It is made for each request: few ask for it, and seldom.
fn with_job_types(job_types: &JobTypes) -> serde_json::Result<String> {
    let names: Vec<_> = job_types.of_family(Family::App).map(|job_type| job_types.name(job_type)).collect();
    // A name holds nothing that means something in a pattern.
    let one = format!("({})", names.join("|"));
    let pattern = format!("^({one}(,{one})*)?$");
    let mut document: Value = serde_json::from_str(DOCUMENT)?;
    for (permit, value) in [(NAMES, names.into()), (LIST, pattern.into())] {
        if let Some(found) = document.pointer_mut(permit) {
            *found = value;
        }
    }
    serde_json::to_string(&document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_itself_has_the_built_in_types() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let served = with_job_types(&JobTypes::default()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&served).unwrap(), document);
    }

    #[test]
    fn added_types_are_in_the_list_and_in_the_pattern() {
        let served: Value = serde_json::from_str(&with_job_types(&JobTypes::new(["NEW_1"]).unwrap()).unwrap()).unwrap();
        let names = served.pointer(NAMES).and_then(Value::as_array).unwrap();
        assert_eq!((names.len(), &names[19]), (20, &"NEW_1".into()));
        let pattern = served.pointer(LIST).and_then(Value::as_str).unwrap();
        assert_eq!(pattern.matches("|NEW_1)").count(), 2, "{pattern}");
    }
}
