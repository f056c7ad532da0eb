//! Who calls, and what they may do.
//!
//! [`Access::authenticate`] and [`Access::signer`] turn a credential into a [`Principal`]: a token of the access file, a
//! token of the identity service, or a signature. [`Principal::authorize`] decides, without knowing which it was. An `Access` never
//! changes: a reload makes a new one, see [`AccessHandle`].

mod bounded_read;
mod file;
mod handle;
mod identity;
mod policy;
mod public_host;
mod reload;
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
use crate::domain::{ProjectId, Timestamp};
pub use handle::{AccessHandle, AccessSource};
pub use policy::{Action, ActionSet};
use public_host::PublicHosts;
pub use public_host::{InvalidHost, MAX_PUBLIC_HOSTS, PublicHost};
pub use reload::reload_on_signal;
pub use signature::{BodyDigest, MAX_SKEW, Signature, SignatureError, SignatureId};
pub use summary::Summary;
pub use token::{Token, TokenDigest, random as random_token};

/// The most bytes of an access file: some hundred thousand principals.
const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;

/// How long the first reading may take.
const FIRST_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// An access file that cannot be used, with its name and the line where that is known.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}", name = path.display())]
pub struct AccessError {
    path: PathBuf,
    reason: String,
}

/// Why a credential is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// Nobody has this token.
    #[error("is not valid")]
    Unknown,
    /// Somebody had it.
    #[error("has expired")]
    Expired,
    /// The identity service, which would know, gives no answer.
    #[error("cannot be checked now")]
    Unavailable,
}

/// Why a principal may not do what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The project is not one of the principal's.
    #[error("the caller has no access to this project")]
    Project,
    /// No policy allows the action, or one denies it.
    #[error("the caller has no permission for {0}")]
    Action(Action),
}

/// Somebody who may call: an account or an IAM user.
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
    /// The name in the access file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the project is one of its own.
    pub fn has_project(&self, project: &ProjectId) -> bool {
        match &self.projects {
            Projects::All => true,
            Projects::These(projects) => projects.contains(project),
        }
    }

    /// Whether it may do `action` in `project`. `None` is a project that cannot exist: it belongs to those who may enter
    /// every project, so that they learn what is wrong with it, and to nobody else.
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

/// Who may call, as one reading of the access file says.
#[derive(Debug, Default)]
pub struct Access {
    /// How many there are, with a credential or without.
    principals: usize,
    tokens: HashMap<TokenDigest, TokenEntry>,
    keys: HashMap<Box<str>, AccessKey>,
    /// The environment variables that `secret_env` names.
    secret_variables: HashSet<Box<str>>,
    /// The projects that exist; without a list any may.
    projects: Option<HashSet<ProjectId>>,
    /// Those of them that have names.
    names: Vec<(ProjectId, String)>,
    /// Where other tokens are asked about, and what the answers allow.
    identity: Option<(identity::Settings, Roles)>,
    service: Option<Arc<IdentityService>>,
    /// What callers may have signed in place of the Host that comes.
    hosts: Arc<PublicHosts>,
}

impl Access {
    /// Reads and checks an access file, which may be a pipe here. Whatever it is, this ends.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let (sender, receiver) = mpsc::channel();
        let error = |reason: String| AccessError { path: path.into(), reason };
        let own = path.to_owned();
        // A network's disk may never answer, and then neither does the thread.
        let thread = std::thread::Builder::new().name("access".into());
        let thread = thread.spawn(move || {
            // Nobody hears it who has given up.
            let _ = sender.send(Self::read_and_parse(&own, bounded_read::read_file_or_pipe));
        });
        thread.map_err(|cause| error(cause.to_string()))?;
        match receiver.recv_timeout(FIRST_READ_TIMEOUT) {
            Ok(read) => read,
            Err(_) => Err(error(format!("it could not be read within {} s", FIRST_READ_TIMEOUT.as_secs()))),
        }
    }

    /// As [`Access::read`], of a regular file and for as long as it takes.
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

    /// Takes the text of an access file; the error is the reason, with the line where that is known.
    pub fn parse(text: &str) -> Result<Self, String> {
        file::parse(text, Path::new(""))
    }

    /// Whose token this is. One that the file does not hold is asked about, if there is anybody to ask.
    pub async fn authenticate(&self, token: Token<'_>) -> Result<Arc<Principal>, AuthenticationError> {
        match self.look_up(token) {
            TokenLookup::Local(result) => result,
            // Boxed, so that a request which need not ask does not carry the room for asking with it.
            TokenLookup::Remote(query) => Box::pin(query.send()).await,
        }
    }

    /// Whose token this is as far as the file says; never waits.
    pub fn look_up<'a>(&'a self, token: Token<'a>) -> TokenLookup<'a> {
        let digest = token.digest();
        match (self.find_token(digest, Timestamp::now), &self.identity, &self.service) {
            (Err(AuthenticationError::Unknown), Some((_, roles)), Some(service)) => {
                TokenLookup::Remote(IdentityQuery { token, digest, roles, service })
            }
            (found, _, _) => TokenLookup::Local(found.cloned()),
        }
    }

    /// Whose token has that digest as the file says, at the moment `now` tells.
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

    /// Who has the access key that a signature names, so that its body is worth reading. Anybody may name it.
    pub fn key_owner(&self, signature: &Signature<'_>) -> Option<&Principal> {
        self.keys.get(signature.access()).map(|key| &*key.principal)
    }

    /// Whose signature this is of that request.
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

    /// False if the access file lists the projects that exist and this is not one of them.
    pub fn project_exists(&self, project: &ProjectId) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(project))
    }

    /// The projects with names that the principal may enter.
    pub fn named_projects(&self, principal: &Principal) -> impl Iterator<Item = (&ProjectId, &str)> {
        let own = self.names.iter().filter(move |(project, _)| principal.has_project(project));
        own.map(|(project, name)| (project, name.as_str()))
    }
}

/// What the access file says of a token.
#[derive(Debug)]
pub enum TokenLookup<'a> {
    /// All that is needed.
    Local(Result<Arc<Principal>, AuthenticationError>),
    /// Nothing; the identity service may know.
    Remote(IdentityQuery<'a>),
}

/// A token to ask the identity service about.
#[derive(Debug)]
pub struct IdentityQuery<'a> {
    token: Token<'a>,
    digest: TokenDigest,
    roles: &'a Roles,
    service: &'a IdentityService,
}

impl IdentityQuery<'_> {
    /// Whose token it is, as the service says or has said.
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
