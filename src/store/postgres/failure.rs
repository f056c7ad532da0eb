//! Why a transaction has not been committed, and what follows.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::error::log_refusal;

/// Why a transaction has not been committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another transaction was in the way, with that SQLSTATE: repeat it.
    Repeat(&'static str),
    /// Another session has had a lock for too long: repeat it later.
    Locked,
    /// The lane was registered again elsewhere: register it, and repeat.
    Fenced,
    /// The connection is lost before COMMIT was sent: the transaction is not committed.
    Lost,
    /// The connection is lost after COMMIT was sent.
    Unknown,
    /// The database has no resources: the transaction is not committed.
    NoResources,
    /// A right or a table is missing, which an operator can change. It has been logged.
    Denied,
    /// A statement took longer than the session allows. It has been logged.
    TooLong,
    /// The database refuses a statement. It has been logged.
    Refused,
}

impl Failure {
    /// The error of a statement in the flight that ends with COMMIT. An error that the server has sent ended the transaction.
    pub(super) fn of_commit(error: &Error) -> Self {
        match Self::from_error(error) {
            Self::Lost if !error.as_db_error().is_some_and(has_old_statements) => Self::Unknown,
            other => other,
        }
    }

    fn from_error(error: &Error) -> Self {
        let Some(code) = error.code() else { return Self::Lost };
        // A new connection has new statements.
        if error.as_db_error().is_some_and(has_old_statements) {
            log_refusal(error);
            return Self::Lost;
        }
        let repeated = [
            (&SqlState::T_R_SERIALIZATION_FAILURE, "40001"),
            (&SqlState::T_R_DEADLOCK_DETECTED, "40P01"),
            (&SqlState::UNIQUE_VIOLATION, "23505"),
        ];
        if let Some((_, name)) = repeated.iter().find(|(repeated, _)| *repeated == code) {
            return Self::Repeat(name);
        }
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            return Self::Locked;
        }
        if *code == SqlState::QUERY_CANCELED {
            log_refusal(error);
            return Self::TooLong;
        }
        match &code.code()[..2] {
            // 40003: the outcome is unknown. 57P01 to 57P05: the server ends the session. 25006: it is read-only, a standby.
            "08" | "40" | "57" | "25" => Self::Lost,
            "53" => {
                log_refusal(error);
                Self::NoResources
            }
            "28" | "42" => {
                log_refusal(error);
                Self::Denied
            }
            _ => {
                log_refusal(error);
                Self::Refused
            }
        }
    }
}

/// Whether the session no longer has the prepared statements that it had, or their tables have other columns since.
fn has_old_statements(error: &DbError) -> bool {
    // 0A000 has other causes too. The routine is the same in each language, as the text is not.
    let is_changed =
        *error.code() == SqlState::FEATURE_NOT_SUPPORTED && error.routine() == Some("RevalidateCachedQuery");
    is_changed || *error.code() == SqlState::INVALID_SQL_STATEMENT_NAME
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from_error(&error)
    }
}
