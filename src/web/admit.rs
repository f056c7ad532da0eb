//! Who asks for which project, and whether it may: the part of a decision that all operations share.
//!
//! Order: credential (401), permission (403), the inputs that every operation has (400). What an operation adds to the
//! inputs comes next, and last whether the project exists (404).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Version, header};

use super::body::Payload;
use super::decode;
use super::error::{CredentialError, Error};
use crate::access::{Access, Action, Principal, Signature, SignatureError, Token};
use crate::domain::{ProjectId, Timestamp};

/// The published API's header for a token.
pub const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The project that the path names, if the caller may do `action` in it.
///
/// The path is `/v1/{project_id}/…`, as the router has made sure.
pub async fn admit(access: &Access, parts: &Parts, payload: &mut Payload, action: Action) -> Result<ProjectId, Error> {
    let principal = authenticate(access, parts, payload).await?;
    let project = project(parts.uri.path());
    principal.authorize(project.as_ref().ok(), action)?;
    message(parts)?;
    project
}

/// Who calls: the holder of the token, the signer of the request, or one who is both.
pub async fn authenticate(access: &Access, parts: &Parts, payload: &mut Payload) -> Result<Arc<Principal>, Error> {
    let signature = Signature::read(&parts.headers, Timestamp::now)?;
    let token = token(&parts.headers)?;
    let signer = match &signature {
        None => None,
        // A body is read only for a key that somebody has, so that nobody else can make the server wait for one.
        Some(signature) if !access.knows_key(signature) => return Err(SignatureError::Invalid.into()),
        Some(signature) => Some(access.signer(signature, parts, &payload.digest().await?)?),
    };
    let holder = match token {
        None => None,
        Some(token) => Some(access.authenticate(token).await?),
    };
    match (holder, signer) {
        (None, None) => Err(CredentialError::Missing.into()),
        (Some(holder), None) => Ok(holder),
        (None, Some(signer)) => Ok(signer.clone()),
        (Some(holder), Some(signer)) if Arc::ptr_eq(&holder, signer) => Ok(holder),
        (Some(_), Some(_)) => Err(CredentialError::Different.into()),
    }
}

/// Last in the order: the project is one of those that exist.
pub fn project_exists(access: &Access, project: &ProjectId) -> Result<(), Error> {
    if access.project_exists(project) { Ok(()) } else { Err(Error::Project) }
}

fn token(headers: &HeaderMap) -> Result<Option<Token<'_>>, CredentialError> {
    let mut given = headers.get_all(X_AUTH_TOKEN).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(token), None) => Token::new(token.as_bytes()).map(Some).ok_or(CredentialError::Empty),
        (Some(_), Some(_)) => Err(CredentialError::Repeated),
    }
}

fn project(path: &str) -> Result<ProjectId, Error> {
    let segment = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let text = decode::segment(segment).map_err(|error| Error::input("project_id", error.to_string()))?;
    ProjectId::parse(&text).map_err(|error| Error::input("project_id", error.to_string()))
}

/// What must be right of the message itself. Host: exactly one in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112, section 3.2).
/// Transfer-Encoding: nothing but one `chunked`, though the HTTP layer takes more (section 6.1): what another coding hides
/// nobody here could read, and a second `chunked` is how requests are smuggled.
pub fn message(parts: &Parts) -> Result<(), Error> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Error::input("Host", "must be given once")),
        (None, None) if parts.version >= Version::HTTP_11 => return Err(Error::input("Host", "is missing")),
        _ => {}
    }
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Error::input("Transfer-Encoding", "must be chunked, once")),
    }
}
