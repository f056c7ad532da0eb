//! The identity service: validates tokens that the access file does not have, and caches the results.
//!
//! Source: the Identity API v3, as Keystone and the publisher's IAM speak it: `GET {url}/auth/tokens?nocatalog`, the token
//! being both the caller's and the subject.

mod circuit_breaker;
mod client;

use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;

use self::circuit_breaker::CircuitBreaker;
use self::client::{Client, ClientError};
pub(super) use super::policy::Permissions;
use super::{Principal, Projects, Token, TokenDigest};
use crate::domain::{ProjectId, Timestamp};
use crate::metrics::IdentityMetrics;

/// The most tokens in each cache, of accepted and of refused ones.
const CACHE_CAPACITY: u64 = 10_000;

/// How long a refused token is cached.
const REFUSED_TTL: Duration = Duration::from_secs(5);

/// The settings of the service, from the access file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The base URL, without a slash at the end.
    pub(super) url: String,
    /// How long an accepted token is cached.
    pub(super) cache: Duration,
    /// Time limit of a call.
    pub(super) timeout: Duration,
    /// The certificate authorities to trust, in PEM, instead of the public ones.
    pub(super) ca: Option<Vec<u8>>,
}

impl Settings {
    /// Checks that a client can be made with these settings.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.timeout.is_zero() {
            return Err("timeout must not be zero".into());
        }
        Client::new(self).map(|_| ())
    }
}

/// The permissions of each role of the service.
#[derive(Debug, Default)]
pub(super) struct Roles(pub(super) HashMap<String, Permissions>);

/// A token that the service has accepted.
#[derive(Debug, Clone)]
pub(super) struct ValidatedToken {
    user: String,
    /// `None` for an unscoped or domain-scoped token.
    project: Option<ProjectId>,
    roles: Vec<String>,
    ttl: Duration,
}

impl ValidatedToken {
    /// The principal of the token, with the permissions of the current roles.
    pub(super) fn principal(&self, roles: &Roles) -> Principal {
        let granted = self.roles.iter().filter_map(|role| roles.0.get(role));
        let permissions = granted.fold(Permissions::default(), |all, granted| all.union(*granted));
        Principal {
            name: self.user.clone(),
            projects: Projects::These(HashSet::from_iter(self.project.clone())),
            permissions: permissions.effective(),
        }
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdentityError {
    /// The service refuses the token, or it has expired.
    Refused,
    /// The service gave no valid answer.
    Unavailable,
}

/// The service with its caches. Reloads of the access file keep it if the settings are unchanged.
#[derive(Debug)]
pub(super) struct IdentityService {
    settings: Settings,
    client: Client,
    breaker: CircuitBreaker,
    accepted: Cache<TokenDigest, Arc<ValidatedToken>>,
    refused: Cache<TokenDigest, ()>,
    metrics: IdentityMetrics,
}

impl IdentityService {
    pub(super) fn new(settings: Settings, metrics: IdentityMetrics) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(&settings)?,
            breaker: CircuitBreaker::new(),
            settings,
            accepted: Cache::builder().max_capacity(CACHE_CAPACITY).expire_after(TokenExpiry).build(),
            refused: Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(REFUSED_TTL).build(),
            metrics,
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Validates a token, from the cache or by a call. Concurrent requests with one new token share one call.
    pub(super) async fn validate(
        &self,
        token: Token<'_>,
        digest: TokenDigest,
    ) -> Result<Arc<ValidatedToken>, IdentityError> {
        if self.refused.contains_key(&digest) {
            self.metrics.refused_hit();
            return Err(IdentityError::Refused);
        }
        if let Some(validated) = self.accepted.get(&digest).await {
            self.metrics.hit();
            return Ok(validated);
        }
        self.metrics.miss();
        self.accepted.try_get_with(digest, self.call(token, digest)).await.map_err(|rejected| *rejected)
    }

    async fn call(&self, token: Token<'_>, digest: TokenDigest) -> Result<Arc<ValidatedToken>, IdentityError> {
        let start = Instant::now();
        // Not logged here: the failed call is, and there may be as many refusals as requests.
        let _permit = self.breaker.try_acquire(start).map_err(|_| IdentityError::Unavailable)?;
        let response = self.client.get_token(token).await;
        match &response {
            Err(ClientError::Unreachable(_) | ClientError::Timeout) => self.breaker.record_failure(Instant::now()),
            _ => self.breaker.record_success(),
        }
        let response = response.and_then(|body| self.parse_response(&body));
        let outcome = match &response {
            Ok(_) => "accepted",
            Err(ClientError::Refused) => "refused",
            Err(_) => "failed",
        };
        self.metrics.called(outcome, start.elapsed());
        match response {
            Ok(validated) => Ok(Arc::new(validated)),
            Err(ClientError::Refused) => {
                self.refused.insert(digest, ()).await;
                Err(IdentityError::Refused)
            }
            Err(failure) => {
                if self.breaker.may_warn(Instant::now()) {
                    tracing::warn!(%failure, "identity service call failed");
                }
                Err(IdentityError::Unavailable)
            }
        }
    }

    fn parse_response(&self, body: &[u8]) -> Result<ValidatedToken, ClientError> {
        let TokenResponse { token } =
            serde_json::from_slice(body).map_err(|error| ClientError::InvalidResponse(describe_json_error(&error)))?;
        let project = token.project.map(|project| ProjectId::parse(&project.id)).transpose();
        let project = project.map_err(|error| ClientError::InvalidResponse(format!("the project's id {error}")))?;
        let expires_at: Timestamp =
            token.expires_at.parse().map_err(|error| ClientError::InvalidResponse(format!("expires_at {error}")))?;
        let left = Timestamp::now().until(expires_at);
        if left.is_zero() {
            return Err(ClientError::Refused);
        }
        Ok(ValidatedToken {
            user: token.user.id,
            project,
            roles: token.roles.into_iter().map(|role| role.name).collect(),
            ttl: self.settings.cache.min(left),
        })
    }
}

/// The kind and position of a JSON error. The error's own message quotes the response, which may contain the token.
fn describe_json_error(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "unexpected structure",
        serde_json::error::Category::Eof => "unexpected end",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
    };
    format!("{kind}: line {}, column {}", error.line(), error.column())
}

/// Each token has its own time to live.
struct TokenExpiry;

impl Expiry<TokenDigest, Arc<ValidatedToken>> for TokenExpiry {
    fn expire_after_create(&self, _: &TokenDigest, validated: &Arc<ValidatedToken>, _: Instant) -> Option<Duration> {
        Some(validated.ttl)
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    expires_at: String,
    project: Option<WithId>,
    user: WithId,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct WithId {
    id: String,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[cfg(test)]
mod tests;
