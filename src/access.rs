//! Authentication and authorization.
//!
//! [`Access::authenticate`] and [`Access::verify_signature`] turn a credential into a [`Principal`]: a token of the access file, a
//! token of the identity service, or a signature. [`Principal::authorize`] decides the same way for all three. An `Access` never
//! changes: a reload replaces it, see [`AccessHandle`].

mod file;
mod handle;
mod identity;
mod policy;
mod public_host;
mod remembered_digests;
mod secret;
mod signature;
mod summary;
mod token;

use hashbrown::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http::request::Parts;

use self::identity::{IdentityError, IdentityService, Roles};
use self::secret::Secret;
use crate::bounded_read;
use crate::domain::{Clock, ProjectId, Timestamp};
pub use handle::{AccessHandle, AccessSource};
pub use policy::{Action, ActionSet};
use public_host::PublicHosts;
pub use public_host::{InvalidHost, MAX_PUBLIC_HOSTS, PublicHost};
pub use signature::{BodyDigest, MAX_SKEW, Signature, SignatureError, SignatureId};
pub use summary::Summary;
pub use token::{Token, TokenDigest, random as random_token};

/// The most bytes of an access file: some hundred thousand principals.
const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;

/// How long the first read of the access file may take, in which it may be a pipe.
const FIRST_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an access file cannot be used: its name and the reason, with the line if it is known.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}", name = path.display())]
pub struct AccessError {
    path: PathBuf,
    reason: String,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// No principal has this token.
    #[error("is not valid")]
    Unknown,
    /// The token has expired.
    #[error("has expired")]
    Expired,
    /// The identity service does not answer.
    #[error("cannot be checked now")]
    Unavailable,
}

/// Why a principal is not authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The principal has no access to the project.
    #[error("the caller has no access to this project")]
    Project,
    /// The principal has no permission for the action.
    #[error("the caller has no permission for {0}")]
    Action(Action),
}

/// The owner of a credential: an account or an IAM user.
#[derive(Debug)]
pub struct Principal {
    name: String,
    projects: Projects,
    permissions: ActionSet,
}

#[derive(Debug)]
enum Projects {
    All,
    These(HashSet<ProjectId>),
}

impl Principal {
    /// Its name in the access file, or its user id at the identity service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has access to the project.
    pub fn has_project(&self, project: &ProjectId) -> bool {
        match &self.projects {
            Projects::All => true,
            Projects::These(projects) => projects.contains(project),
        }
    }

    /// Checks whether it may do `action` in `project`. `None` stands for a malformed project id: only a principal with access
    /// to every project passes, so that it is told what is wrong with the id.
    ///
    /// # Errors
    ///
    /// The principal has no access to the project, or no permission for the action.
    pub fn authorize(&self, project: Option<&ProjectId>, action: Action) -> Result<(), Denied> {
        let is_own_project = match project {
            Some(project) => self.has_project(project),
            None => matches!(self.projects, Projects::All),
        };
        if !is_own_project {
            Err(Denied::Project)
        } else if !self.permissions.contains(action) {
            Err(Denied::Action(action))
        } else {
            Ok(())
        }
    }
}

#[derive(Debug)]
struct TokenEntry {
    expires_at: Option<Timestamp>,
    principal: Arc<Principal>,
}

#[derive(Debug)]
struct AccessKey {
    secret: Secret,
    principal: Arc<Principal>,
}

/// The principals and credentials of one version of the access file.
#[derive(Debug, Default)]
pub struct Access {
    /// The number of principals, with a credential or without.
    principals: usize,
    tokens: HashMap<TokenDigest, TokenEntry>,
    keys: HashMap<Box<str>, AccessKey>,
    /// The environment variables that `secret_env` names.
    secret_variables: HashSet<Box<str>>,
    /// The projects that exist; `None` means that every project does.
    projects: Option<HashSet<ProjectId>>,
    /// The projects that have names.
    names: Vec<(ProjectId, String)>,
    /// The identity service for other tokens, and what its roles allow.
    identity: Option<(identity::Settings, Roles)>,
    service: Option<Arc<IdentityService>>,
    /// Hosts that callers may have signed in place of the Host received.
    hosts: Arc<PublicHosts>,
    /// The clock by which tokens expire.
    clock: Clock,
}

impl Access {
    /// Reads and checks an access file. It may be a pipe. Returns within 30 s.
    ///
    /// # Errors
    ///
    /// The file cannot be read in time, or breaks a rule.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let (sender, receiver) = mpsc::channel();
        let error = |reason: String| AccessError { path: path.into(), reason };
        let own = path.to_owned();
        // A read from a network file system may hang for ever; then only this thread hangs.
        let thread = std::thread::Builder::new().name("access".into());
        let thread = thread.spawn(move || {
            // Fails if the receiver has timed out.
            let _ = sender.send(Self::read_and_parse(&own, bounded_read::read_file_or_pipe));
        });
        thread.map_err(|cause| error(cause.to_string()))?;
        match receiver.recv_timeout(FIRST_READ_TIMEOUT) {
            Ok(read) => read,
            Err(_) => Err(error(format!("reading it took longer than {} s", FIRST_READ_TIMEOUT.as_secs()))),
        }
    }

    /// As [`Access::read`], but only for a regular file and without a time limit.
    fn reread(path: &Path) -> Result<Self, AccessError> {
        Self::read_and_parse(path, bounded_read::read_file)
    }

    fn read_and_parse(path: &Path, read: fn(&Path, usize) -> Result<Vec<u8>, String>) -> Result<Self, AccessError> {
        let parse = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).map_err(|error| file::not_utf8(&error))?;
            file::parse(&text, path.parent().unwrap_or(Path::new("")))
        };
        read(path, MAX_FILE_BYTES).and_then(parse).map_err(|reason| AccessError { path: path.into(), reason })
    }

    /// Parses the text of an access file.
    ///
    /// # Errors
    ///
    /// The reason, with the line if it is known.
    pub fn parse(text: &str) -> Result<Self, String> {
        file::parse(text, Path::new(""))
    }

    /// Finds the principal of a token, in the access file or at the identity service.
    ///
    /// # Errors
    ///
    /// The token is unknown or expired, or the identity service does not answer.
    pub async fn authenticate(&self, token: Token<'_>) -> Result<Arc<Principal>, AuthenticationError> {
        match self.look_up(token) {
            TokenLookup::Local(result) => result.cloned(),
            // Boxed, so that the future of other requests stays small.
            TokenLookup::Remote(query) => Box::pin(query.send()).await,
        }
    }

    /// Looks a token up in the access file only; never waits.
    pub fn look_up<'a>(&'a self, token: Token<'a>) -> TokenLookup<'a> {
        let digest = remembered_digests::digest(token);
        match (self.find_token(digest, || self.clock.now()), &self.identity, &self.service) {
            (Err(AuthenticationError::Unknown), Some((_, roles)), Some(service)) => {
                TokenLookup::Remote(IdentityQuery { token, digest, roles, service })
            }
            (found, _, _) => TokenLookup::Local(found),
        }
    }

    /// Finds the principal of the token with that digest in the access file.
    fn find_token(
        &self,
        digest: TokenDigest,
        now: impl Fn() -> Timestamp,
    ) -> Result<&Arc<Principal>, AuthenticationError> {
        let entry = self.tokens.get(&digest).ok_or(AuthenticationError::Unknown)?;
        match entry.expires_at {
            Some(expires_at) if expires_at <= now() => Err(AuthenticationError::Expired),
            _ => Ok(&entry.principal),
        }
    }

    /// The principal of the access key that a signature names. The signature itself is not verified yet.
    pub fn key_owner(&self, signature: &Signature<'_>) -> Option<&Principal> {
        self.keys.get(signature.access()).map(|key| &*key.principal)
    }

    /// Verifies the signature of a request and returns the principal of its access key.
    ///
    /// # Errors
    ///
    /// The access key is unknown, or the signature does not match.
    pub fn verify_signature(
        &self,
        signature: &Signature<'_>,
        parts: &Parts,
        body: &BodyDigest,
    ) -> Result<&Arc<Principal>, SignatureError> {
        let key = self.keys.get(signature.access()).ok_or(SignatureError::Invalid)?;
        let verified = signature.verify(parts, body, &key.secret, self.hosts.names());
        if verified == Err(SignatureError::Invalid) && signature.covers_host() {
            let host = parts.headers.get(http::header::HOST).map(|host| host.as_bytes()).unwrap_or_default();
            self.hosts.warn_of_mismatch(signature.access(), host);
        }
        verified.map(|()| &key.principal)
    }

    /// Whether the access file takes a secret from the environment variable of that name.
    pub fn reads_variable(&self, name: &str) -> bool {
        self.secret_variables.contains(name)
    }

    /// Whether the project exists. Without a list of projects in the access file every project does.
    pub fn project_exists(&self, project: &ProjectId) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(project))
    }

    /// The named projects to which the principal has access.
    pub fn named_projects(&self, principal: &Principal) -> impl Iterator<Item = (&ProjectId, &str)> {
        let own = self.names.iter().filter(move |(project, _)| principal.has_project(project));
        own.map(|(project, name)| (project, name.as_str()))
    }
}

/// The result of looking a token up in the access file.
#[derive(Debug)]
pub enum TokenLookup<'a> {
    /// The access file decides.
    Local(Result<&'a Arc<Principal>, AuthenticationError>),
    /// The access file does not have the token; the identity service decides.
    Remote(IdentityQuery<'a>),
}

/// A query to the identity service about a token.
#[derive(Debug)]
pub struct IdentityQuery<'a> {
    token: Token<'a>,
    digest: TokenDigest,
    roles: &'a Roles,
    service: &'a IdentityService,
}

impl IdentityQuery<'_> {
    /// Returns the principal of the token, from the cache or from the service.
    ///
    /// # Errors
    ///
    /// The service refuses the token or does not answer.
    pub async fn send(self) -> Result<Arc<Principal>, AuthenticationError> {
        match self.service.validate(self.token, self.digest).await {
            Ok(validated) => Ok(Arc::new(validated.principal(self.roles))),
            Err(IdentityError::Refused) => Err(AuthenticationError::Unknown),
            Err(IdentityError::Unavailable) => Err(AuthenticationError::Unavailable),
        }
    }
}

#[cfg(test)]
mod tests;
