//! Signed requests: SDK-HMAC-SHA256, as the publisher's SDKs sign by default.
//!
//! Source: the SDKs' own signers, whose captured requests are the tests' vectors. The string to sign is the algorithm's name,
//! the date and the digest of the canonical request, a line each; the key of the HMAC is the secret itself. The canonical
//! request is method, path, query, headers, names of the signed headers and the body's digest, a line each.

mod canonical;

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, header};
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;

use super::public_host::PublicHost;
use super::secret::Secret;
use crate::domain::Timestamp;

const ALGORITHM: &str = "SDK-HMAC-SHA256";

const X_SDK_DATE: &str = "x-sdk-date";

/// How far the signer's clock may be ahead of or behind the server's.
pub const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// The SHA-256 of a request's body.
pub type BodyDigest = [u8; 32];

/// Why a signature is not accepted. No text names a secret, and an unknown key cannot be told from a wrong signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Several `Authorization` headers, at least one of them a signature.
    #[error("Authorization is given more than once")]
    Repeated,
    /// The header is malformed.
    #[error("Authorization must be SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…")]
    Form,
    /// X-Sdk-Date is missing, repeated, malformed or not signed.
    #[error("X-Sdk-Date must be given once, as 20220307T104043Z, and be signed")]
    Date,
    /// The request was signed too long ago, or its date is in the future.
    #[error("X-Sdk-Date must be within 15 minutes of the server's time")]
    Skew,
    /// A signed header is missing or repeated.
    #[error("every signed header must be given once")]
    Header,
    /// The body is too long to be read.
    #[error("the body is too long to be signed")]
    Body,
    /// The access key is unknown, or the signature does not match.
    #[error("the access key or the signature is not valid")]
    Invalid,
}

/// Identifies a signature, and says when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureId {
    /// The SHA-256 of the access key's id and the signature.
    pub digest: [u8; 32],
    /// The value of X-Sdk-Date.
    pub signed_at: Timestamp,
}

/// The content of `Authorization` and `X-Sdk-Date`, not verified yet.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    access: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    date: &'a str,
    signed_at: Timestamp,
}

impl<'a> Signature<'a> {
    /// Parses the signature of a request; `None` if it has none, or an `Authorization` of another scheme. The date and the
    /// signed headers are checked here, because that needs no key.
    ///
    /// # Errors
    ///
    /// The signature is repeated or malformed, its date is too far from `now`, or a signed header is missing or repeated.
    pub fn read(headers: &'a HeaderMap, now: impl FnOnce() -> Timestamp) -> Result<Option<Self>, SignatureError> {
        let all = headers.get_all(header::AUTHORIZATION);
        let Some(value) = all.iter().find(|value| scheme(value.as_bytes()) == ALGORITHM.as_bytes()) else {
            return Ok(None);
        };
        if all.iter().count() > 1 {
            return Err(SignatureError::Repeated);
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| SignatureError::Form)?;
        let [access, signed_headers, signature] =
            parse_fields(&value[ALGORITHM.len()..]).ok_or(SignatureError::Form)?;
        if !signed_headers.split(';').any(|name| name == X_SDK_DATE) {
            return Err(SignatureError::Date);
        }
        let date = single_value(headers, X_SDK_DATE)
            .and_then(|date| std::str::from_utf8(date).ok())
            .ok_or(SignatureError::Date)?;
        let signed_at = parse_date(date).ok_or(SignatureError::Date)?;
        let now = now();
        if now.until(signed_at).max(signed_at.until(now)) > MAX_SKEW {
            return Err(SignatureError::Skew);
        }
        if !canonical::are_given_once(headers, signed_headers) {
            return Err(SignatureError::Header);
        }
        Ok(Some(Self { access, signed_headers, signature, date, signed_at }))
    }

    /// The access key's identifier.
    pub fn access(&self) -> &'a str {
        self.access
    }

    /// Identifies this signature.
    pub fn id(&self) -> SignatureId {
        let mut digest = digest::Context::new(&digest::SHA256);
        // A header value has no line feed, so the parts cannot run into each other.
        for part in [self.access, "\n", self.signature] {
            digest.update(part.as_bytes());
        }
        let mut id = [0; 32];
        id.copy_from_slice(digest.finish().as_ref());
        SignatureId { digest: id, signed_at: self.signed_at }
    }

    /// Whether Host is signed.
    pub(super) fn covers_host(&self) -> bool {
        canonical::include_host(self.signed_headers)
    }

    /// Verifies the signature of a request with a body of that digest. If Host is signed, each of `hosts` is tried in place of
    /// the Host received.
    pub(super) fn verify(
        &self,
        parts: &Parts,
        body: &BodyDigest,
        secret: &Secret,
        hosts: &[PublicHost],
    ) -> Result<(), SignatureError> {
        let mut target = digest::Context::new(&digest::SHA256);
        canonical::push_target(&mut target, parts);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        let hosts = if self.covers_host() { hosts } else { &[] };
        for host in std::iter::once(None).chain(hosts.iter().map(|host| Some(host.as_str()))) {
            let mut digest = target.clone();
            canonical::push_headers(&mut digest, &parts.headers, self.signed_headers, host, body)
                .ok_or(SignatureError::Header)?;
            if sign(digest.finish(), self.date, &key).as_bytes().ct_eq(self.signature.as_bytes()).into() {
                return Ok(());
            }
        }
        Err(SignatureError::Invalid)
    }
}

/// Signs a canonical request by its digest; lower-case hexadecimal digits.
fn sign(canonical: digest::Digest, date: &str, key: &hmac::Key) -> String {
    let to_sign = format!("{ALGORITHM}\n{date}\n{}", hex(canonical.as_ref()));
    hex(hmac::sign(key, to_sign.as_bytes()).as_ref())
}

/// The scheme of an `Authorization` header: its first word.
fn scheme(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// The values of `Access`, `SignedHeaders` and `Signature`; `None` unless each is given once and nothing else is.
fn parse_fields(text: &str) -> Option<[&str; 3]> {
    let mut values = [None; 3];
    for field in text.split(',') {
        let (name, value) = field.trim().split_once('=')?;
        let at = ["Access", "SignedHeaders", "Signature"].iter().position(|known| *known == name)?;
        if value.is_empty() || values[at].replace(value).is_some() {
            return None;
        }
    }
    let [access, signed_headers, signature] = values;
    Some([access?, signed_headers?, signature?])
}

/// The value of a header that is given exactly once.
fn single_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut given = headers.get_all(name).iter();
    match (given.next(), given.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

/// Parses a date such as `20220307T104043Z`.
fn parse_date(date: &str) -> Option<Timestamp> {
    let digits = |from: usize, to: usize| date.get(from..to);
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let (hour, minute, second) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
    if date.len() != 16 || digits(8, 9)? != "T" || digits(15, 16)? != "Z" {
        return None;
    }
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests;
