//! Who asks for which project, and whether it may: the part of a decision that all operations share.
//!
//! Order: credential (401), permission (403), the inputs that every operation has (400). What an operation adds to the
//! inputs comes next, and last whether the project exists (404).

use http::request::Parts;
use http::{HeaderMap, HeaderName, Version, header};

use super::decode;
use super::error::{CredentialError, Error};
use crate::access::{Access, Action, Token};
use crate::domain::{ProjectId, Timestamp};

/// The published API's header for a token.
pub const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The project that the path names, if the caller may do `action` in it.
///
/// The path is `/v1/{project_id}/…`, as the router has made sure.
pub fn admit(access: &Access, parts: &Parts, action: Action) -> Result<ProjectId, Error> {
    let project = project(parts.uri.path());
    let principal = access.authenticate(token(&parts.headers)?, Timestamp::now).map_err(CredentialError::Token)?;
    principal.authorize(project.as_ref().ok(), action)?;
    host(parts)?;
    project
}

/// Last in the order: the project is one of those that exist.
pub fn project_exists(access: &Access, project: &ProjectId) -> Result<(), Error> {
    if access.project_exists(project) { Ok(()) } else { Err(Error::Project) }
}

fn token(headers: &HeaderMap) -> Result<Token<'_>, CredentialError> {
    let mut given = headers.get_all(X_AUTH_TOKEN).iter();
    match (given.next(), given.next()) {
        (None, _) => Err(CredentialError::Missing),
        (Some(token), None) => Token::new(token.as_bytes()).ok_or(CredentialError::Empty),
        (Some(_), Some(_)) => Err(CredentialError::Repeated),
    }
}

fn project(path: &str) -> Result<ProjectId, Error> {
    let segment = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let text = decode::segment(segment).map_err(|error| Error::input("project_id", error.to_string()))?;
    ProjectId::parse(&text).map_err(|error| Error::input("project_id", error.to_string()))
}

/// RFC 9112, section 3.2: exactly one in HTTP/1.1, at most one in HTTP/1.0.
fn host(parts: &Parts) -> Result<(), Error> {
    let mut given = parts.headers.get_all(header::HOST).iter();
    match (given.next(), given.next()) {
        (_, Some(_)) => Err(Error::input("Host", "must be given once")),
        (None, None) if parts.version >= Version::HTTP_11 => Err(Error::input("Host", "is missing")),
        _ => Ok(()),
    }
}
