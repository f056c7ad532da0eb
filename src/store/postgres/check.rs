//! A check of the whole database: every counter against the subtasks, in one snapshot.

use std::fmt;

use tokio_postgres::SimpleQueryMessage;

use super::connect::{Purpose, connect};
use super::error::DatabaseError;
use super::schema;
use super::statements::{counted, difference, of_statuses};
use super::target::Target;

/// What a check of a database has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCheck {
    /// The version of the schema.
    pub schema: u32,
    /// The server's version, as `15.18`.
    pub server: String,
    /// How many subtasks there are.
    pub sub_jobs: u64,
    /// How many jobs have subtasks.
    pub jobs: u64,
    /// How many projects have subtasks.
    pub projects: u64,
    /// By how many subtasks the counters of jobs differ from the subtasks.
    pub job_drift: u64,
    /// By how many subtasks the counters of projects differ from the subtasks.
    pub project_drift: u64,
}

impl StoreCheck {
    /// Whether every counter is right.
    pub fn is_good(&self) -> bool {
        self.job_drift == 0 && self.project_drift == 0
    }
}

impl fmt::Display for StoreCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, server, sub_jobs, jobs, projects, job_drift, project_drift } = self;
        if !self.is_good() {
            return write!(f, "the counters of jobs are off by {job_drift}, those of projects by {project_drift}");
        }
        let plural = |count: &u64, one: &str| format!("{count} {one}{}", if *count == 1 { "" } else { "s" });
        let (sub_jobs, jobs, projects) =
            (plural(sub_jobs, "subtask"), plural(jobs, "job"), plural(projects, "project"));
        write!(f, "schema {schema}, PostgreSQL {server}, {sub_jobs} of {jobs} in {projects}")
    }
}

/// Connects to a database, checks its schema and the role's rights, and counts all subtasks: reads the whole table once. Reports go on
/// meanwhile.
///
/// # Errors
///
/// If the database cannot be used or reached.
pub async fn check_database(target: &Target) -> Result<StoreCheck, DatabaseError> {
    let connection = connect(target, Purpose::Whole).await?;
    let client = &connection.client;
    let schema = schema::read_version(client).await?;
    let rows = client.simple_query(&statement()).await?;
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| DatabaseError::Failed("the database counts with no row".into()))?;
    let number = |at: usize| {
        let value = row.get(at).and_then(|value| value.parse().ok());
        value.ok_or_else(|| DatabaseError::Failed("a count is not a number".into()))
    };
    Ok(StoreCheck {
        schema,
        server: row.get(5).unwrap_or_default().split(' ').next().unwrap_or_default().to_owned(),
        sub_jobs: number(0)?,
        jobs: number(1)?,
        projects: number(2)?,
        job_drift: number(3)?,
        project_drift: number(4)?,
    })
}

/// One statement, hence one snapshot.
fn statement() -> String {
    let (counted, difference) = (counted(), difference("a", "b"));
    let summed = of_statuses(|status| format!("sum(s{status}) AS s{status}"));
    let columns = of_statuses(|status| format!("s{status}"));
    format!(
        "WITH r AS MATERIALIZED (SELECT project, job, job_type, {counted} FROM sub_job GROUP BY 1, 2, 3), \
             rp AS (SELECT project, job_type, {summed} FROM r GROUP BY 1, 2), \
             t AS (SELECT project, job, job_type, {columns} FROM job_tally), \
             p AS (SELECT project, job_type, {summed} FROM project_tally GROUP BY 1, 2) \
         SELECT (SELECT coalesce(sum({all}), 0) FROM r), \
                (SELECT count(DISTINCT (project, job)) FROM r), \
                (SELECT count(DISTINCT project) FROM r), \
                (SELECT coalesce(sum({difference}), 0) FROM r a FULL JOIN t b USING (project, job, job_type)), \
                (SELECT coalesce(sum({difference}), 0) FROM rp a FULL JOIN p b USING (project, job_type)), \
                current_setting('server_version')",
        all = columns.replace(", ", " + ")
    )
}
