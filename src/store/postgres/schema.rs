//! The schema of the database: its versions, and the check of each connection.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::error::ConnectError;

/// What leads to a version of the schema from the one before.
pub(super) struct Version {
    pub(super) statements: &'static str,
    /// Programs whose newest version is lower cannot use this one.
    pub(super) oldest_program: u32,
}

/// The versions; the first is version 1.
pub(super) const VERSIONS: [Version; 1] = [Version { statements: include_str!("schema/001.sql"), oldest_program: 1 }];

/// The newest version, which a migration makes.
pub(super) const NEWEST: u32 = VERSIONS.len() as u32;

/// The oldest version that this program can use.
const OLDEST: u32 = 1;

/// The version of the schema: 0 if there is none. A table of another schema is found by the search path of the session.
const VERSION: &str = "\
    SELECT CASE WHEN to_regclass('subjobs_schema') IS NULL THEN 0 ELSE 1 END";

/// The oldest program that can use the newest version of the schema.
const OLDEST_PROGRAM: &str = "SELECT oldest_program FROM subjobs_schema ORDER BY version DESC LIMIT 1";

/// What the role lacks, as `SELECT on sub_job`.
const MISSING_RIGHTS: &str = "\
    SELECT needed.right_ || ' on ' || needed.name FROM ( \
        SELECT t.name, r.right_ FROM unnest(ARRAY['job_type', 'project', 'project_revision', 'sub_job', 'project_tally', 'job_tally', \
            'writer', 'lease']) AS t(name), unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r(right_) \
    ) AS needed WHERE NOT has_table_privilege(needed.name, needed.right_) \
    UNION ALL SELECT 'USAGE on sub_job_block' WHERE NOT has_sequence_privilege('sub_job_block', 'USAGE')";

/// Fails unless this program can use the schema and the role has the rights that it needs.
pub(super) async fn check(client: &Client) -> Result<(), ConnectError> {
    let version = read_version(client).await.map_err(|error| ConnectError::of(&error))?;
    let unusable = |reason| Err(ConnectError::Unusable(reason));
    if version == 0 {
        return unusable("the database has no schema: run subjobs migrate".into());
    }
    if version < OLDEST {
        return unusable(format!(
            "the schema has version {version}, and this program needs {OLDEST}: run subjobs migrate"
        ));
    }
    if version > NEWEST {
        // Servers of this program go on beside a newer one until they are restarted.
        let oldest_program = read_number(client, OLDEST_PROGRAM).await.map_err(|error| ConnectError::of(&error))?;
        if oldest_program > NEWEST {
            return unusable(newer(version));
        }
    }
    let missing = client.simple_query(MISSING_RIGHTS).await.map_err(|error| ConnectError::of(&error))?;
    let missing: Vec<_> = missing.iter().filter_map(first_value).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ConnectError::Denied(format!("the role lacks {}", missing.join(", "))))
    }
}

/// What is wrong with a schema of a newer program.
pub(super) fn newer(version: u32) -> String {
    format!("the schema has version {version}, and this program knows {NEWEST} at most: use a newer program")
}

/// The version of the schema; 0 if there is none.
pub(super) async fn read_version(client: &Client) -> Result<u32, tokio_postgres::Error> {
    let has_schema = client.simple_query(VERSION).await?;
    if has_schema.iter().find_map(first_value) != Some("1") {
        return Ok(0);
    }
    read_number(client, "SELECT coalesce(max(version), 0) FROM subjobs_schema").await
}

/// The number that a statement selects; 0 if there is none.
async fn read_number(client: &Client, statement: &str) -> Result<u32, tokio_postgres::Error> {
    let rows = client.simple_query(statement).await?;
    Ok(rows.iter().find_map(first_value).and_then(|number| number.parse().ok()).unwrap_or(0))
}

pub(super) fn first_value(message: &SimpleQueryMessage) -> Option<&str> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    }
}
