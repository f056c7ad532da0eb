//! Every error that a caller can see. Here and nowhere else it becomes a response.
//!
//! The error codes are the examples in the publisher's definition of the operation, one for each status. Those for 413 and 415
//! follow the pattern of its code for 405.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::access::{AuthenticationError, Denied, SignatureError};
use crate::store::StoreError;

/// The most characters of an `error_msg`, as published.
const MAX_MESSAGE: usize = 255;

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input breaks a rule.
    #[error("{input} {reason}")]
    Input {
        /// The input's name, as the caller knows it.
        input: &'static str,
        /// What is wrong, as the rest of a sentence. Never a credential.
        reason: Cow<'static, str>,
    },
    /// The credential is missing or not accepted.
    #[error("{0}")]
    Credential(CredentialError),
    /// The caller may not do this.
    #[error("{0}")]
    Permission(Denied),
    /// No route has this path.
    #[error("no such path")]
    Path,
    /// The access file lists the existing projects, and this one is not among them.
    #[error("the project does not exist")]
    Project,
    /// The project has no such job.
    #[error("the job does not exist")]
    Job,
    /// The path exists and does not have this method.
    #[error("the method is not allowed for this path")]
    Method,
    /// The body is larger than the operation takes.
    #[error("the body must have at most {0} bytes")]
    TooLarge(usize),
    /// The body is larger than the operation takes, once it is decoded.
    #[error("the body must have at most {0} bytes when decoded")]
    DecodedTooLarge(usize),
    /// The connection was lost, or the caller stopped sending, before the end of the body.
    #[error("the body is not complete: its sender has stopped")]
    IncompleteBody,
    /// The body is of another kind than the operation takes.
    #[error("Content-Type must be {0}")]
    MediaType(&'static str),
    /// The body has a content coding that the operation does not know, or several.
    #[error("Content-Encoding must be gzip, zstd or identity")]
    ContentCoding,
    /// The request cannot be served now; the same request may succeed later.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// An error of the server. The text goes to the log and not to the caller.
    #[error("{0}")]
    Internal(String),
}

/// What is wrong with a credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is none.
    #[error("neither X-Auth-Token nor a signature is given")]
    Missing,
    /// It says nothing.
    #[error("X-Auth-Token is empty")]
    Empty,
    /// There are several.
    #[error("X-Auth-Token is given more than once")]
    Repeated,
    /// It is not accepted.
    #[error("X-Auth-Token {0}")]
    Token(AuthenticationError),
    /// The request's signature is not accepted.
    #[error("{0}")]
    Signature(SignatureError),
    /// Token and signature belong to different principals.
    #[error("X-Auth-Token and Authorization are of different callers")]
    Different,
}

/// Why a request cannot be served now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Subtasks are still being loaded.
    #[error("the service is starting")]
    Starting,
    /// The server drains.
    #[error("the service is shutting down")]
    Draining,
    /// The concurrency limit is reached.
    #[error("the service is overloaded")]
    Overloaded,
    /// The limit of buffered report bytes is reached.
    #[error("too many bytes of reports are being held")]
    ReportsHeld,
    /// Writing to the data directory fails.
    #[error("changes cannot be stored")]
    NotStored,
    /// The database does not answer.
    #[error("the database does not answer")]
    Database,
    /// The identity service does not answer.
    #[error("the identity service gives no answer")]
    Identity,
    /// The request's timeout expired, most likely while its body was read.
    #[error("the request timed out")]
    TimedOut,
}

/// Every `reason` label of `Error::parts`. Each is in the metrics from the start.
pub const REASONS: [&str; 19] = [
    "input",
    "cut_off",
    "credential",
    "permission",
    "path",
    "project",
    "job",
    "method",
    "too_large",
    "media_type",
    "fault",
    "starting",
    "draining",
    "overloaded",
    "reports_held",
    "not_stored",
    "database",
    "identity",
    "timed_out",
];

/// What [`super::instrument`] records of an error response, apart from its status.
#[derive(Debug, Clone)]
pub struct ErrorReport {
    /// The `reason` label in the metrics.
    pub reason: &'static str,
    /// The text for the log, which is not in the response.
    pub internal_error: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    error_code: &'a str,
    error_msg: &'a str,
}

impl Error {
    /// An input that breaks a rule.
    pub fn input(input: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Input { input, reason: reason.into() }
    }

    /// The status of its response.
    pub fn status(&self) -> StatusCode {
        self.parts().0
    }

    /// Status, error code, and `reason` label in the metrics.
    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Input { .. } => (StatusCode::BAD_REQUEST, "WKS.00211102", "input"),
            Self::IncompleteBody => (StatusCode::BAD_REQUEST, "WKS.00211102", "cut_off"),
            Self::Credential(_) => (StatusCode::UNAUTHORIZED, "WKS.00211302", "credential"),
            Self::Permission(_) => (StatusCode::FORBIDDEN, "WKS.00081102", "permission"),
            Self::Path => (StatusCode::NOT_FOUND, "WKS.00211902", "path"),
            Self::Project => (StatusCode::NOT_FOUND, "WKS.00211902", "project"),
            Self::Job => (StatusCode::NOT_FOUND, "WKS.00211902", "job"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "WKS.00000405", "method"),
            Self::TooLarge(_) | Self::DecodedTooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "WKS.00000413", "too_large")
            }
            Self::MediaType(_) | Self::ContentCoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "WKS.00000415", "media_type")
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "WKS.00211401", "fault"),
            Self::Unavailable(why) => {
                let reason = match why {
                    Unavailable::Starting => "starting",
                    Unavailable::Draining => "draining",
                    Unavailable::Overloaded => "overloaded",
                    Unavailable::ReportsHeld => "reports_held",
                    Unavailable::NotStored => "not_stored",
                    Unavailable::Database => "database",
                    Unavailable::Identity => "identity",
                    Unavailable::TimedOut => "timed_out",
                };
                (StatusCode::SERVICE_UNAVAILABLE, "WKS.00050902", reason)
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, error_code, reason) = self.parts();
        let text = self.to_string();
        let is_coding = matches!(self, Self::ContentCoding);
        let (message, internal_error) = match self {
            Self::Internal(_) => ("the requested operation failed, please try again later", Some(text)),
            _ => (truncate_message(&text), None),
        };
        let body = serde_json::to_vec(&Body { error_code, error_msg: message }).unwrap_or_default();
        let mut response = (status, body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if is_coding {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, identity"));
        }
        response.extensions_mut().insert(ErrorReport { reason, internal_error });
        response
    }
}

/// The text, truncated to [`MAX_MESSAGE`] characters.
fn truncate_message(text: &str) -> &str {
    text.char_indices().nth(MAX_MESSAGE).map_or(text, |(end, _)| &text[..end])
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotStored => Unavailable::NotStored.into(),
            StoreError::Unavailable => Unavailable::Database.into(),
            StoreError::Broken
            | StoreError::Drifted(_)
            | StoreError::Full
            | StoreError::Refused
            | StoreError::Unreadable => Self::Internal(error.to_string()),
        }
    }
}

impl From<CredentialError> for Error {
    fn from(error: CredentialError) -> Self {
        Self::Credential(error)
    }
}

impl From<AuthenticationError> for Error {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Unavailable => Unavailable::Identity.into(),
            refused => CredentialError::Token(refused).into(),
        }
    }
}

impl From<SignatureError> for Error {
    fn from(error: SignatureError) -> Self {
        CredentialError::Signature(error).into()
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::Permission(denied)
    }
}

impl From<Unavailable> for Error {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Action;
    use http_body_util::BodyExt as _;

    async fn answer(error: Error) -> (u16, String, Option<HeaderValue>, Option<String>) {
        let mut response = error.into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let ErrorReport { reason, internal_error } = response.extensions_mut().remove().unwrap();
        assert!(REASONS.contains(&reason), "{reason} is not in the metrics from the start");
        let retry = response.headers().get(RETRY_AFTER).cloned();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), retry, internal_error)
    }

    #[tokio::test]
    async fn each_error_has_its_status_code_and_message() {
        for (error, status, body) in [
            (Error::input("status", "is odd"), 400, r#"{"error_code":"WKS.00211102","error_msg":"status is odd"}"#),
            (
                CredentialError::Missing.into(),
                401,
                r#"{"error_code":"WKS.00211302","error_msg":"neither X-Auth-Token nor a signature is given"}"#,
            ),
            (
                Denied::Action(Action::CountSubJobs).into(),
                403,
                r#"{"error_code":"WKS.00081102","error_msg":"the caller has no permission for workspace:jobs:countSubJobs"}"#,
            ),
            (Error::Path, 404, r#"{"error_code":"WKS.00211902","error_msg":"no such path"}"#),
            (Error::Project, 404, r#"{"error_code":"WKS.00211902","error_msg":"the project does not exist"}"#),
            (Error::Job, 404, r#"{"error_code":"WKS.00211902","error_msg":"the job does not exist"}"#),
            (
                Error::Method,
                405,
                r#"{"error_code":"WKS.00000405","error_msg":"the method is not allowed for this path"}"#,
            ),
            (
                Error::TooLarge(9),
                413,
                r#"{"error_code":"WKS.00000413","error_msg":"the body must have at most 9 bytes"}"#,
            ),
            (
                Error::DecodedTooLarge(9),
                413,
                r#"{"error_code":"WKS.00000413","error_msg":"the body must have at most 9 bytes when decoded"}"#,
            ),
            (
                Error::IncompleteBody,
                400,
                r#"{"error_code":"WKS.00211102","error_msg":"the body is not complete: its sender has stopped"}"#,
            ),
            (
                Error::MediaType("application/json or application/x-ndjson"),
                415,
                r#"{"error_code":"WKS.00000415","error_msg":"Content-Type must be application/json or application/x-ndjson"}"#,
            ),
        ] {
            assert_eq!(answer(error).await, (status, body.to_owned(), None, None));
        }
        let unavailable = answer(Unavailable::Overloaded.into()).await;
        let body = r#"{"error_code":"WKS.00050902","error_msg":"the service is overloaded"}"#;
        assert_eq!(unavailable, (503, body.to_owned(), Some(HeaderValue::from_static("1")), None));
    }

    #[tokio::test]
    async fn an_internal_error_is_hidden_from_the_caller() {
        let (status, body, _, internal_error) = answer(Error::Internal("disk sda1 is on fire".into())).await;
        assert_eq!((status, internal_error.as_deref()), (500, Some("disk sda1 is on fire")));
        assert!(!body.contains("sda1") && body.contains("WKS.00211401"), "{body}");
    }

    #[tokio::test]
    async fn messages_are_truncated_to_the_published_maximum() {
        let (_, body, _, _) = answer(Error::input("body", "é\"".repeat(300))).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error_msg"].as_str().unwrap().chars().count(), 255);
    }
}
