//! Why there is no connection to the database, and why a command cannot use it.

use tokio_postgres::error::SqlState;

use super::url::Endpoint;

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ConnectError {
    /// The database is not one that this version can use. At the start this ends the program.
    #[error("{0}")]
    Unusable(String),
    /// The server refuses the role, or the role lacks a right.
    #[error("{0}")]
    Denied(String),
    /// There is no answer, or the server is not the primary or not ready.
    #[error("{0}")]
    Unavailable(String),
}

impl ConnectError {
    /// The error of a statement or of the protocol.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let text = describe(error);
        match error.code() {
            Some(code) if is_denied(code) => Self::Denied(text),
            _ => Self::Unavailable(text),
        }
    }

    /// How serious it is.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Unavailable(_) => 0,
            Self::Denied(_) => 1,
            Self::Unusable(_) => 2,
        }
    }

    /// The error with the name of the server.
    pub(super) fn at(self, endpoint: &Endpoint) -> Self {
        match self {
            Self::Unusable(reason) => Self::Unusable(format!("{endpoint}: {reason}")),
            Self::Denied(reason) => Self::Denied(format!("{endpoint}: {reason}")),
            Self::Unavailable(reason) => Self::Unavailable(format!("{endpoint}: {reason}")),
        }
    }
}

/// Whether only an operator can change what the server refuses: no such role, password, database or right.
fn is_denied(code: &SqlState) -> bool {
    code.code().starts_with("28") || [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::INVALID_CATALOG_NAME].contains(code)
}

/// The text of an error with its causes: the client's own text says only in which step it was.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Why a command cannot use a database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// The database is not one that this version can use.
    #[error("{0}")]
    Unusable(String),
    /// The database cannot be reached, or refuses the role or a statement.
    #[error("{0}")]
    Failed(String),
}

impl From<ConnectError> for DatabaseError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unusable(reason) => Self::Unusable(reason),
            ConnectError::Denied(reason) | ConnectError::Unavailable(reason) => Self::Failed(reason),
        }
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        ConnectError::of(&error).into()
    }
}

/// Logs why there is no connection, once for each text.
pub(super) fn log_connect_error(error: &ConnectError, logged: &mut Option<String>) {
    let text = error.to_string();
    if logged.as_ref() != Some(&text) {
        tracing::error!(error = %text, "no connection to the database");
        *logged = Some(text);
    }
}

/// Logs a statement that the database refuses.
pub(super) fn log_refusal(error: &tokio_postgres::Error) {
    tracing::error!(error = %describe(error), "the database refuses a statement");
}

/// Why a round trip has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error(
        "there are subtasks of job type number {0}, which another server has added: restart this one with its --job-type"
    )]
    UnknownType(i16),
    #[error("the subtask or job {0:?} in the database cannot be read")]
    Unreadable(String),
}
