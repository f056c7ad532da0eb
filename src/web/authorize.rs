//! Authentication of a request, and the checks of the headers that frame it.
//!
//! The order of decisions: credential (401), permission (403), inputs that all operations have (400), the operation's own
//! inputs (400), whether the project exists (404).

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Version, header};

use super::body::Payload;
use super::budget::Owner;
use super::concurrency::Permit;
use super::error::{CredentialError, Error};
use super::host::is_host;
use crate::access::{Access, Principal, Signature, SignatureError, SignatureId, Token, TokenLookup};
use crate::domain::Timestamp;

/// The header for a token, as published.
pub const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// An authenticated caller.
pub struct Caller<'a> {
    /// Who the credential belongs to: borrowed from the access file if that has it, because a count of references would be changed by
    /// all cores.
    pub principal: Cow<'a, Arc<Principal>>,
    /// The id of the request's signature, if it has one. The signature is valid.
    pub signature: Option<SignatureId>,
}

/// Authenticates the caller by a token, a signature, or both if they belong to the same principal. The request releases its
/// permit while it waits for its body or for the identity service.
///
/// # Errors
///
/// 401 for a missing or refused credential; 503 if the identity service does not answer, or a limit for bodies is reached; the
/// errors of reading a body.
pub async fn authenticate<'a>(
    access: &'a Access,
    parts: &Parts,
    headers: &RequestHeaders<'a>,
    payload: &mut Payload,
    permit: &mut Permit,
) -> Result<Caller<'a>, Error> {
    let signature = if headers.authorizations == 0 { None } else { Signature::read(&parts.headers, Timestamp::now)? };
    let token = headers.token()?;
    let signer = match &signature {
        None => None,
        // The body is read only if the access key exists, so that a caller without a key cannot make the server wait for one.
        Some(signature) => {
            let claimed = access.key_owner(signature).ok_or(SignatureError::Invalid)?;
            payload.set_owner(|| Owner::Unverified(claimed.name().into()))?;
            let body = Box::pin(permit.await_body(payload.digest())).await??;
            Some(access.verify_signature(signature, parts, &body)?)
        }
    };
    let holder = match token {
        None => None,
        Some(token) => Some(match access.look_up(token) {
            TokenLookup::Local(result) => Cow::Borrowed(result?),
            // Boxed, so that the futures of all other requests stay small.
            TokenLookup::Remote(query) => Cow::Owned(Box::pin(permit.await_identity(query.send())).await??),
        }),
    };
    let principal = match (holder, signer) {
        (None, None) => return Err(CredentialError::Missing.into()),
        (Some(holder), None) => holder,
        (None, Some(signer)) => Cow::Borrowed(signer),
        (Some(holder), Some(signer)) if Arc::ptr_eq(&holder, signer) => holder,
        (Some(_), Some(_)) => return Err(CredentialError::Different.into()),
    };
    Ok(Caller { principal, signature: signature.map(|signature| signature.id()) })
}

/// Checks the headers that frame the message.
///
/// - Host: exactly one in HTTP/1.1, at most one in HTTP/1.0, and a valid host (RFC 9112, section 3.2). The host of a target in
///   absolute form must be valid too.
/// - Transfer-Encoding: one `chunked` only (section 6.1). The HTTP layer accepts more, but this server decodes no other coding,
///   and a second `chunked` is a means of request smuggling.
///
/// # Errors
///
/// 400 for any other value.
pub fn check_framing_headers(parts: &Parts, headers: &RequestHeaders<'_>) -> Result<(), Error> {
    match headers.hosts {
        0 if parts.version >= Version::HTTP_11 => return Err(Error::input("Host", "is missing")),
        0 | 1 if is_host(headers.host) => {}
        0 | 1 => return Err(Error::input("Host", "must be a host, with a port or none")),
        _ => return Err(Error::input("Host", "must be given once")),
    }
    if parts.uri.authority().is_some_and(|authority| !is_host(authority.as_str().as_bytes())) {
        return Err(Error::input("the request target", "must have a host, with a port or none"));
    }
    match (headers.transfer_encodings, headers.transfer_encoding) {
        (0, _) => Ok(()),
        (1, Some(transfer_encoding)) if transfer_encoding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Error::input("Transfer-Encoding", "must be chunked, once")),
    }
}

/// The headers that authentication and framing need, found in one pass, which is faster than a look-up for each name.
#[derive(Default)]
pub struct RequestHeaders<'a> {
    tokens: usize,
    token: &'a [u8],
    authorizations: usize,
    hosts: usize,
    host: &'a [u8],
    transfer_encodings: usize,
    transfer_encoding: Option<&'a [u8]>,
}

impl<'a> RequestHeaders<'a> {
    /// Finds them.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            if name == X_AUTH_TOKEN {
                found.tokens += 1;
                found.token = value.as_bytes();
            } else if name == header::HOST {
                found.hosts += 1;
                found.host = value.as_bytes();
            } else if name == header::AUTHORIZATION {
                found.authorizations += 1;
            } else if name == header::TRANSFER_ENCODING {
                found.transfer_encodings += 1;
                found.transfer_encoding = Some(value.as_bytes());
            }
        }
        found
    }

    fn token(&self) -> Result<Option<Token<'a>>, CredentialError> {
        match self.tokens {
            0 => Ok(None),
            1 => Token::new(self.token).map(Some).ok_or(CredentialError::Empty),
            _ => Err(CredentialError::Repeated),
        }
    }
}
