//! Who calls, and what they may do.
//!
//! [`Access::authenticate`] turns a credential into a [`Principal`]; [`Principal::authorize`] decides, without knowing
//! where the principal came from. An `Access` never changes: a reload makes a new one, see [`AccessHandle`].

mod file;
mod policy;
mod secret;
mod signature;
mod token;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::domain::{ProjectId, Timestamp};
pub use policy::{Action, ActionSet};
pub use signature::{Signature, SignatureError};
pub use token::{Token, TokenDigest, random as random_token};

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

    /// Whether it may do `action` in `project`. `None` is a project that cannot exist: it belongs to those who may enter
    /// every project, so that they learn what is wrong with it, and to nobody else.
    pub fn authorize(&self, project: Option<&ProjectId>, action: Action) -> Result<(), Denied> {
        let has_project = match &self.projects {
            Projects::All => true,
            Projects::These(projects) => project.is_some_and(|project| projects.contains(project)),
        };
        if !has_project {
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
    digest: TokenDigest,
    expires_at: Option<Timestamp>,
    principal: Arc<Principal>,
}

/// Who may call, as one reading of the access file says.
#[derive(Debug, Default)]
pub struct Access {
    /// By the first bytes of the digest; the whole of it is compared in constant time.
    tokens: HashMap<u64, Vec<TokenEntry>>,
    /// The projects that exist; without a list any may.
    projects: Option<HashSet<ProjectId>>,
}

impl Access {
    /// Reads and checks an access file.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let error = |reason| AccessError { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|cause| error(cause.to_string()))?;
        file::parse(&text).map_err(error)
    }

    /// Takes the text of an access file; the error is the reason, with the line where that is known.
    pub fn parse(text: &str) -> Result<Self, String> {
        file::parse(text)
    }

    /// Whose token this is, at the moment `now` tells.
    pub fn authenticate(
        &self,
        token: Token<'_>,
        now: impl Fn() -> Timestamp,
    ) -> Result<&Arc<Principal>, AuthenticationError> {
        let digest = token.digest();
        let candidates = self.tokens.get(&digest.prefix()).map(Vec::as_slice).unwrap_or_default();
        let entry = candidates.iter().find(|entry| entry.digest == digest).ok_or(AuthenticationError::Unknown)?;
        match entry.expires_at {
            Some(expires_at) if expires_at <= now() => Err(AuthenticationError::Expired),
            _ => Ok(&entry.principal),
        }
    }

    /// False if the access file lists the projects that exist and this is not one of them.
    pub fn project_exists(&self, project: &ProjectId) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(project))
    }
}

/// Where an access file's text comes from.
#[derive(Debug, Clone)]
pub enum AccessSource {
    /// A file, read again on each reload.
    File(PathBuf),
    /// The text itself, as tests and the demo have it; a reload changes nothing.
    Text(String),
}

/// The access in force, which a reload replaces whole.
#[derive(Debug)]
pub struct AccessHandle {
    source: AccessSource,
    current: ArcSwap<Access>,
}

impl AccessHandle {
    /// Reads the source for the first time.
    pub fn open(source: AccessSource) -> Result<Self, AccessError> {
        let current = ArcSwap::from_pointee(source.read()?);
        Ok(Self { source, current })
    }

    /// The access in force now; a request holds on to one for as long as it decides.
    pub fn load(&self) -> Guard<Arc<Access>> {
        self.current.load()
    }

    /// Reads the source again. A good one is in force for every later request, a bad one changes nothing.
    pub fn reload(&self) -> Result<(), AccessError> {
        self.current.store(Arc::new(self.source.read()?));
        Ok(())
    }
}

impl AccessSource {
    fn read(&self) -> Result<Access, AccessError> {
        match self {
            Self::File(path) => Access::read(path),
            Self::Text(text) => {
                Access::parse(text).map_err(|reason| AccessError { path: "access text".into(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests;
