//! The identity service: tokens that the access file does not hold are asked about, once, and remembered for a while.
//!
//! Source: the Identity API v3, as Keystone and the publisher's IAM speak it: `GET {url}/auth/tokens?nocatalog`, the token
//! itself being both the caller's and the one asked about.

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

/// How many tokens are remembered, of the good and of the refused each.
const CACHE_CAPACITY: u64 = 10_000;

/// How long a refused token is remembered.
const REFUSED_TTL: Duration = Duration::from_secs(5);

/// What the access file says of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Without a slash at the end.
    pub(super) url: String,
    /// How long a token is trusted unasked.
    pub(super) cache: Duration,
    /// For a whole call.
    pub(super) timeout: Duration,
    /// The certificates to trust, in PEM, instead of the usual roots.
    pub(super) ca: Option<Vec<u8>>,
}

impl Settings {
    /// The reason why no client can be made of them, if there is one.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.timeout.is_zero() {
            return Err("timeout must not be zero".into());
        }
        Client::new(self).map(|_| ())
    }
}

/// What each role of the service allows here.
#[derive(Debug, Default)]
pub(super) struct Roles(pub(super) HashMap<String, Permissions>);

/// What the service has said of a token.
#[derive(Debug, Clone)]
pub(super) struct ValidatedToken {
    user: String,
    /// None of an unscoped or domain-scoped token.
    project: Option<ProjectId>,
    roles: Vec<String>,
    ttl: Duration,
}

impl ValidatedToken {
    /// The principal that this makes under the roles now in force.
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
    /// The service does not know it, or no longer.
    Refused,
    /// The service gave no answer that can be believed.
    Unavailable,
}

/// The service with its memory. It outlives reloads of the access file that leave its settings as they are.
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

    /// What the service says of a token with that digest. Many requests with one new token make one call.
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
        // Neither is logged: what makes it so is, and there may be as many as there are requests.
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
                    tracing::warn!(%failure, "the identity service gave no answer");
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

/// What is wrong with an answer, and where. The library's own message quotes it, and it may hold the token.
fn describe_json_error(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "it has another form",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is no JSON",
    };
    format!("{kind}: line {}, column {}", error.line(), error.column())
}

/// Each token is trusted for as long as was found when it was asked about.
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
