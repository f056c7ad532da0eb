//! Who asks for which project, and whether it may: the part of a decision that all operations share.
//!
//! Order: credential (401), permission (403), the inputs that every operation has (400). What an operation adds to the
//! inputs comes next, and last whether the project exists (404).

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

/// The published API's header for a token.
pub const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Who calls, and the signature by which that is known, if it is by one.
pub struct Caller {
    /// Who.
    pub principal: Arc<Principal>,
    /// Of the signature, which has been checked.
    pub signature: Option<SignatureId>,
}

/// Who calls: the holder of the token, the signer of the request, or one who is both. While the body or the identity service
/// is waited for, the request gives up its permit.
pub async fn authenticate(
    access: &Access,
    parts: &Parts,
    headers: &RequestHeaders<'_>,
    payload: &mut Payload,
    permit: &mut Permit,
) -> Result<Caller, Error> {
    let signature = if headers.authorizations == 0 { None } else { Signature::read(&parts.headers, Timestamp::now)? };
    let token = headers.token()?;
    let signer = match &signature {
        None => None,
        // A body is read only for a key that somebody has, so that nobody else can make the server wait for one.
        Some(signature) => {
            let claimed = access.key_owner(signature).ok_or(SignatureError::Invalid)?;
            payload.give_to(|| Owner::Claimed(claimed.name().into()))?;
            let body = Box::pin(permit.await_body(payload.digest())).await??;
            Some(access.verify_signature(signature, parts, &body)?)
        }
    };
    let holder = match token {
        None => None,
        Some(token) => Some(match access.look_up(token) {
            TokenLookup::Local(result) => result?,
            // Boxed, so that a request which need not ask does not carry the room for asking with it.
            TokenLookup::Remote(query) => Box::pin(permit.await_identity(query.send())).await??,
        }),
    };
    let principal = match (holder, signer) {
        (None, None) => return Err(CredentialError::Missing.into()),
        (Some(holder), None) => holder,
        (None, Some(signer)) => signer.clone(),
        (Some(holder), Some(signer)) if Arc::ptr_eq(&holder, signer) => holder,
        (Some(_), Some(_)) => return Err(CredentialError::Different.into()),
    };
    Ok(Caller { principal, signature: signature.map(|signature| signature.id()) })
}

/// What must be right of the message itself. Host: exactly one in HTTP/1.1, at most one in HTTP/1.0, and a host (RFC 9112,
/// section 3.2), as is that of a target in absolute form.
/// Transfer-Encoding: nothing but one `chunked`, though the HTTP layer takes more (section 6.1): what another coding hides
/// nobody here could read, and a second `chunked` is how requests are smuggled.
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

/// What a decision needs of the headers, found in one pass: a look-up of each by name takes longer.
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
    /// Looks through the headers.
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
