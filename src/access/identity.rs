//! The identity service: tokens that the access file does not hold are asked about, once, and remembered for a while.
//!
//! Source: the Identity API v3, as Keystone and the publisher's IAM speak it: `GET {url}/auth/tokens?nocatalog`, the token
//! itself being both the caller's and the one asked about.

mod client;
mod gate;

use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;

use self::client::{Client, Failure};
use self::gate::Gate;
pub(super) use super::policy::Permissions;
use super::{Principal, Projects, Token, TokenDigest};
use crate::domain::{ProjectId, Timestamp};
use crate::metrics::IdentityMetrics;

/// How many tokens are remembered, of the good and of the refused each.
const REMEMBERED: u64 = 10_000;

/// How long a refused token is remembered.
const REFUSED_FOR: Duration = Duration::from_secs(5);

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
pub(super) struct Validated {
    user: String,
    /// None of an unscoped or domain-scoped token.
    project: Option<ProjectId>,
    roles: Vec<String>,
    trusted_for: Duration,
}

impl Validated {
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
pub(super) enum Rejected {
    /// The service does not know it, or no longer.
    Refused,
    /// The service gave no answer that can be believed.
    Unavailable,
}

/// The service with its memory. It outlives reloads of the access file that leave its settings as they are.
#[derive(Debug)]
pub(super) struct Identity {
    settings: Settings,
    client: Client,
    gate: Gate,
    good: Cache<TokenDigest, Arc<Validated>>,
    refused: Cache<TokenDigest, ()>,
    metrics: IdentityMetrics,
}

impl Identity {
    pub(super) fn new(settings: Settings, metrics: IdentityMetrics) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(&settings)?,
            gate: Gate::new(),
            settings,
            good: Cache::builder().max_capacity(REMEMBERED).expire_after(Trust).build(),
            refused: Cache::builder().max_capacity(REMEMBERED).time_to_live(REFUSED_FOR).build(),
            metrics,
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the service says of a token with that digest. Many requests with one new token make one call.
    pub(super) async fn ask(&self, token: Token<'_>, digest: TokenDigest) -> Result<Arc<Validated>, Rejected> {
        if self.refused.contains_key(&digest) {
            self.metrics.refused_hit();
            return Err(Rejected::Refused);
        }
        if let Some(validated) = self.good.get(&digest).await {
            self.metrics.hit();
            return Ok(validated);
        }
        self.metrics.miss();
        self.good.try_get_with(digest, self.call(token, digest)).await.map_err(|rejected| *rejected)
    }

    async fn call(&self, token: Token<'_>, digest: TokenDigest) -> Result<Arc<Validated>, Rejected> {
        let start = Instant::now();
        // Neither is logged: what makes it so is, and there may be as many as there are requests.
        let _permit = self.gate.enter(start).map_err(|_| Rejected::Unavailable)?;
        let answer = self.client.get_token(token).await;
        match &answer {
            Err(Failure::Transport(_) | Failure::Timeout) => self.gate.unanswered(Instant::now()),
            _ => self.gate.answered(),
        }
        let answer = answer.and_then(|body| self.read(&body));
        let outcome = match &answer {
            Ok(_) => "accepted",
            Err(Failure::Refused) => "refused",
            Err(_) => "failed",
        };
        self.metrics.called(outcome, start.elapsed());
        match answer {
            Ok(validated) => Ok(Arc::new(validated)),
            Err(Failure::Refused) => {
                self.refused.insert(digest, ()).await;
                Err(Rejected::Refused)
            }
            Err(failure) => {
                if self.gate.may_warn(Instant::now()) {
                    tracing::warn!(%failure, "the identity service gave no answer");
                }
                Err(Rejected::Unavailable)
            }
        }
    }

    fn read(&self, body: &[u8]) -> Result<Validated, Failure> {
        let Answer { token } = serde_json::from_slice(body).map_err(|error| Failure::Answer(kind_and_place(&error)))?;
        let project = token.project.map(|project| ProjectId::parse(&project.id)).transpose();
        let project = project.map_err(|error| Failure::Answer(format!("the project's id {error}")))?;
        let expires_at: Timestamp =
            token.expires_at.parse().map_err(|error| Failure::Answer(format!("expires_at {error}")))?;
        let left = Timestamp::now().until(expires_at);
        if left.is_zero() {
            return Err(Failure::Refused);
        }
        Ok(Validated {
            user: token.user.id,
            project,
            roles: token.roles.into_iter().map(|role| role.name).collect(),
            trusted_for: self.settings.cache.min(left),
        })
    }
}

/// What is wrong with an answer, and where. The library's own message quotes it, and it may hold the token.
fn kind_and_place(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "it has another form",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is no JSON",
    };
    format!("{kind}: line {}, column {}", error.line(), error.column())
}

/// Each token is trusted for as long as was found when it was asked about.
struct Trust;

impl Expiry<TokenDigest, Arc<Validated>> for Trust {
    fn expire_after_create(&self, _: &TokenDigest, validated: &Arc<Validated>, _: Instant) -> Option<Duration> {
        Some(validated.trusted_for)
    }
}

#[derive(Deserialize)]
struct Answer {
    token: TokenAnswer,
}

#[derive(Deserialize)]
struct TokenAnswer {
    expires_at: String,
    project: Option<Named>,
    user: Named,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[cfg(test)]
mod tests;
