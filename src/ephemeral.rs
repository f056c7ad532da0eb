//! A server for one run of tests: tokens of its own, and nothing that outlives it.

use std::fmt;
use std::io;

use crate::access::{Token, random_token};

/// What makes a server ephemeral.
#[derive(Clone)]
pub struct Ephemeral {
    tokens: Option<Tokens>,
}

/// The tokens of an ephemeral server without an access file.
#[derive(Clone, serde::Serialize)]
pub struct Tokens {
    /// Of an account: it may do everything in every project.
    pub token: String,
    /// Of a user that may only report, in every project.
    pub worker_token: String,
}

impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ephemeral(…)")
    }
}

impl Ephemeral {
    /// An ephemeral server whose callers are those of an access file.
    pub fn with_access_file() -> Self {
        Self { tokens: None }
    }

    /// An ephemeral server with tokens of its own. Without `token`, which must not be empty, the account's is random too.
    ///
    /// # Errors
    ///
    /// The system has no random bytes.
    pub fn with_tokens(token: Option<String>) -> io::Result<Self> {
        let token = token.map_or_else(random_token, Ok)?;
        Ok(Self { tokens: Some(Tokens { token, worker_token: random_token()? }) })
    }

    /// The tokens, unless there is an access file.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }
}

impl Tokens {
    /// The text of the access file in which they are.
    pub fn access(&self) -> String {
        let digest = |token: &str| Token::new(token.as_bytes()).map(|token| token.digest().to_string());
        let (token, worker) = (digest(&self.token).unwrap_or_default(), digest(&self.worker_token).unwrap_or_default());
        format!(
            "[[principal]]\n\
             name = \"tests\"\n\
             kind = \"account\"\n\
             projects = [\"*\"]\n\
             tokens = [{{ sha256 = \"{token}\" }}]\n\
             [[principal]]\n\
             name = \"worker\"\n\
             kind = \"user\"\n\
             projects = [\"*\"]\n\
             tokens = [{{ sha256 = \"{worker}\" }}]\n\
             policies = [\"report\"]\n\
             [[policy.report.Statement]]\n\
             Effect = \"Allow\"\n\
             Action = [\"workspace:jobs:reportSubJobs\"]\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Access, Action};
    use crate::domain::ProjectId;

    #[tokio::test]
    async fn the_account_may_do_everything_and_the_worker_may_report() {
        let ephemeral = Ephemeral::with_tokens(None).unwrap();
        let tokens = ephemeral.tokens().unwrap();
        let access = Access::parse(&tokens.access()).unwrap();
        let project = ProjectId::parse("any").unwrap();
        for (token, may) in [(&tokens.token, &Action::ALL[..]), (&tokens.worker_token, &[Action::ReportSubJobs])] {
            let principal = access.authenticate(Token::new(token.as_bytes()).unwrap()).await.unwrap();
            for action in Action::ALL {
                let is_allowed = principal.authorize(Some(&project), action).is_ok();
                assert_eq!(is_allowed, may.contains(&action), "{action}");
            }
        }
    }

    #[test]
    fn tokens_are_random_unless_given_and_are_not_in_the_debug_text() {
        let of = |token: Option<&str>| {
            let ephemeral = Ephemeral::with_tokens(token.map(str::to_owned)).unwrap();
            assert_eq!(format!("{ephemeral:?}"), "Ephemeral(…)");
            ephemeral.tokens().unwrap().clone()
        };
        let (one, other) = (of(None), of(None));
        assert!(one.token != other.token && one.worker_token != other.worker_token && one.token != one.worker_token);
        assert_eq!(of(Some("mine")).token, "mine");
        assert!(Ephemeral::with_access_file().tokens().is_none());
    }
}
