//! A repair of the counters: they are computed from the subtasks again, in one transaction.

use std::fmt;

use tokio_postgres::Client;

use super::connect::{Purpose, connect};
use super::error::DatabaseError;
use super::statements::{CLASS_LOCKS, CLASSES, counted, difference, of_statuses};
use super::target::Target;

/// What a repair of a database has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// How many projects had a wrong counter.
    pub projects: usize,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.projects {
            0 => f.write_str("no counter was wrong"),
            1 => f.write_str("the counters of 1 project were wrong, and were computed again"),
            projects => write!(f, "the counters of {projects} projects were wrong, and were computed again"),
        }
    }
}

/// Computes the counters of all projects that have a wrong one from their subtasks. Reads the whole table. Reports wait meanwhile, or
/// are refused with 503; counts see the old counters until all new ones are there.
///
/// # Errors
///
/// If the database cannot be used or reached, or a job's counters are gone with its id, which nothing else has.
pub async fn repair_database(target: &Target) -> Result<Repaired, DatabaseError> {
    let connection = connect(target, Purpose::Whole).await?;
    // Without COMMIT the server rolls back when the connection closes.
    repair(&connection.client).await
}

async fn repair(client: &Client) -> Result<Repaired, DatabaseError> {
    // Each transaction that changes subtasks holds a class, so none is under way once all classes are held.
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = '60s'; \
         SELECT pg_advisory_xact_lock({CLASS_LOCKS}, class) FROM generate_series(0, {}) AS class",
        CLASSES - 1
    );
    client.batch_execute(&begin).await?;
    let rows = client.query(&wrong_projects(), &[]).await?;
    let projects: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if !projects.is_empty() {
        let lost: i64 = client.query_one(JOBS_WITHOUT_ID, &[&projects]).await?.try_get(0)?;
        if lost > 0 {
            return Err(DatabaseError::Failed(format!(
                "job_tally has no row of {lost} of the jobs, whose ids are nowhere else: report a change of a subtask of each, or \
                 restore a backup"
            )));
        }
        client.execute(&of_jobs(), &[&projects]).await?;
        for statement in [EMPTY_JOBS, "DELETE FROM project_tally WHERE project = ANY($1)", &of_projects(), REVISIONS] {
            client.execute(statement, &[&projects]).await?;
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(Repaired { projects: projects.len() })
}

/// The projects that have a counter that differs from the subtasks.
fn wrong_projects() -> String {
    let (counted, summed) = (counted(), of_statuses(|status| format!("sum(s{status}) AS s{status}")));
    let difference = difference("a", "b");
    format!(
        "WITH r AS MATERIALIZED (SELECT project, job, job_type, {counted} FROM sub_job GROUP BY 1, 2, 3), \
             rp AS (SELECT project, job_type, {summed} FROM r GROUP BY 1, 2), \
             p AS (SELECT project, job_type, {summed} FROM project_tally GROUP BY 1, 2) \
         SELECT project FROM r a FULL JOIN job_tally b USING (project, job, job_type) WHERE {difference} > 0 \
         UNION SELECT project FROM rp a FULL JOIN p b USING (project, job_type) WHERE {difference} > 0"
    )
}

const JOBS_WITHOUT_ID: &str = "SELECT count(*) FROM (SELECT DISTINCT project, job FROM sub_job WHERE project = ANY($1) \
    EXCEPT SELECT project, job FROM job_tally) s";

/// A job has a row for each type. One that is gone gets the id that another row of the job has.
fn of_jobs() -> String {
    format!(
        "INSERT INTO job_tally AS t (project, job, job_type, job_id, {columns}) \
         SELECT r.project, r.job, r.job_type, \
                (SELECT job_id FROM job_tally o WHERE o.project = r.project AND o.job = r.job LIMIT 1), {of_r} \
         FROM (SELECT project, job, job_type, {counted} FROM sub_job WHERE project = ANY($1) GROUP BY 1, 2, 3) r \
         ON CONFLICT (project, job, job_type) DO UPDATE SET {set}",
        columns = of_statuses(|status| format!("s{status}")),
        of_r = of_statuses(|status| format!("r.s{status}")),
        counted = counted(),
        set = of_statuses(|status| format!("s{status} = excluded.s{status}")),
    )
}

/// A job without subtasks does not exist.
const EMPTY_JOBS: &str = "DELETE FROM job_tally t WHERE t.project = ANY($1) AND NOT EXISTS (SELECT FROM sub_job s \
    WHERE s.project = t.project AND s.job = t.job AND s.job_type = t.job_type)";

fn of_projects() -> String {
    let (columns, summed) =
        (of_statuses(|status| format!("s{status}")), of_statuses(|status| format!("sum(s{status})")));
    format!(
        "INSERT INTO project_tally (project, stripe, job_type, {columns}) \
         SELECT project, 0, job_type, {summed} FROM job_tally WHERE project = ANY($1) GROUP BY project, job_type"
    )
}

/// So that requests that wait for a change look again.
const REVISIONS: &str = "INSERT INTO project_revision AS r (project, revision) SELECT unnest($1::bigint[]), 1 \
    ON CONFLICT (project) DO UPDATE SET revision = r.revision + 1";
