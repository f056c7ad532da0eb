//! The numbers of principals, credentials and projects in an access file, as `check` prints them.

use std::fmt;

use super::Access;
use crate::domain::Timestamp;
use crate::output::counted;

/// The numbers of principals, credentials and projects in an access file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Principals, also those without a credential.
    pub principals: usize,
    /// Tokens, also expired ones.
    pub tokens: usize,
    /// Tokens that have expired.
    pub expired_tokens: usize,
    /// Access keys.
    pub access_keys: usize,
    /// The projects that exist; `None` if every project does.
    pub projects: Option<usize>,
    /// Whether there is an identity service.
    pub has_identity: bool,
}

impl Access {
    /// Counts what the access file has.
    pub fn summary(&self) -> Summary {
        let now = Timestamp::now();
        let is_expired = |expires_at: Option<Timestamp>| expires_at.is_some_and(|at| at <= now);
        Summary {
            principals: self.principals,
            tokens: self.tokens.len(),
            expired_tokens: self.tokens.values().filter(|entry| is_expired(entry.expires_at)).count(),
            access_keys: self.keys.len(),
            projects: self.projects.as_ref().map(|projects| projects.len()),
            has_identity: self.identity.is_some(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principals, tokens, expired_tokens, access_keys, projects, has_identity } = *self;
        write!(f, "{}, {}", counted(principals, "principal"), counted(tokens, "token"))?;
        if expired_tokens > 0 {
            write!(f, " ({expired_tokens} expired)")?;
        }
        write!(f, ", {}, ", counted(access_keys, "access key"))?;
        match projects {
            Some(projects) => write!(f, "{}", counted(projects, "project"))?,
            None => write!(f, "any project")?,
        }
        write!(f, ", {} identity service", if has_identity { "an" } else { "no" })
    }
}
