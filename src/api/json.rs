//! A response of JSON.

use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::web::error::Error;

/// The media type.
pub(super) const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response whose body is that value.
///
/// # Errors
///
/// 500 if the value has no form in JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Response, Error> {
    let body = serde_json::to_vec(value).map_err(|error| Error::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, APPLICATION_JSON)], body).into_response())
}
