//! Makes and upgrades the schema.

use std::fmt;

use super::connect::{Purpose, connect};
use super::error::DatabaseError;
use super::schema::{NEWEST, VERSIONS, Version, newer, read_version};
use super::target::Target;

/// The key of the advisory lock that migrations hold: the bytes of "subjobs" as a number.
const LOCK: i64 = 0x73_75_62_6a_6f_62_73;

/// What a migration has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 if there was no schema.
    pub from: u32,
    /// The version now.
    pub to: u32,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { from: 0, to } => write!(f, "schema {to}, made"),
            Self { from, to } if from == to => write!(f, "schema {to}, nothing to do"),
            Self { from, to } => write!(f, "schema {to}, upgraded from {from}"),
        }
    }
}

/// Makes the schema, or upgrades it to the newest version: each version in a transaction of its own. Migrations of several processes
/// wait for each other.
///
/// # Errors
///
/// If the database cannot be used or reached, has a newer schema, or refuses a statement.
pub async fn migrate(target: &Target) -> Result<Migrated, DatabaseError> {
    let connection = connect(target, Purpose::Migration).await?;
    let client = &connection.client;
    let mut from = None;
    loop {
        // The lock is the transaction's. The version is read after it is held.
        client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
        let version = read_version(client).await?;
        let from = *from.get_or_insert(version);
        if version > NEWEST {
            return Err(DatabaseError::Unusable(newer(version)));
        }
        let Some(Version { statements, oldest_program }) = VERSIONS.get(version as usize) else {
            client.batch_execute("COMMIT").await?;
            return Ok(Migrated { from, to: version });
        };
        client.batch_execute(statements).await?;
        let next = version + 1;
        let record = format!("INSERT INTO subjobs_schema (version, oldest_program) VALUES ({next}, {oldest_program})");
        client.batch_execute(&format!("{record}; COMMIT")).await?;
    }
}
