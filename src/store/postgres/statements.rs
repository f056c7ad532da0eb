//! The statements of a write lane.

use tokio_postgres::{Client, Error, Statement};

use crate::domain::Status;

/// Registers a lane, or ends its epoch: a transaction of the epoch before can no longer commit. Waits for one that is committing.
pub(super) const REGISTER: &str = "INSERT INTO writer AS w (lane, epoch, tx, seen) VALUES ($1, 1, 0, now()) \
    ON CONFLICT (lane) DO UPDATE SET epoch = w.epoch + 1, seen = now() RETURNING epoch, tx";

const FENCE: &str = "UPDATE writer SET tx = $1, seen = now() WHERE lane = $2 AND epoch = $3";

const LOCK: &str = "SELECT u.ord, s.job, s.job_type, s.status, s.version, s.seq, s.ended, s.details \
    FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS u(project, id, ord) \
    JOIN sub_job s ON s.project = u.project AND s.id = u.id ORDER BY u.ord FOR UPDATE OF s";

const LOCK_PROJECT: &str = "SELECT id, job, job_type, status, version, seq, ended, details FROM sub_job \
    WHERE project = $1 ORDER BY id FOR UPDATE";

const BLOCK: &str = "SELECT nextval('sub_job_block')";

const INSERT: &str = "INSERT INTO sub_job (project, id, job, job_type, status, version, seq, ended, details) \
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::uuid[], $4::smallint[], $5::smallint[], $6::bigint[], $7::bigint[], \
        $8::bigint[], $9::bytea[])";

const UPDATE: &str = "UPDATE sub_job s SET job = u.job, job_type = u.job_type, status = u.status, version = u.version, \
        seq = u.seq, ended = u.ended, details = u.details \
    FROM unnest($1::bigint[], $2::text[], $3::uuid[], $4::smallint[], $5::smallint[], $6::bigint[], $7::bigint[], \
        $8::bigint[], $9::bytea[]) AS u(project, id, job, job_type, status, version, seq, ended, details) \
    WHERE s.project = u.project AND s.id = u.id";

const DELETE: &str = "DELETE FROM sub_job s USING unnest($1::bigint[], $2::text[]) AS u(project, id) \
    WHERE s.project = u.project AND s.id = u.id";

const REMOVE_JOBS: &str = "DELETE FROM job_tally t USING unnest($1::bigint[], $2::uuid[]) AS u(project, job) \
    WHERE t.project = u.project AND t.job = u.job AND \
        t.s0 = 0 AND t.s1 = 0 AND t.s2 = 0 AND t.s3 = 0 AND t.s4 = 0 AND t.s5 = 0 AND t.s6 = 0";

const REVISIONS: &str = "INSERT INTO project_revision AS r (project, revision) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[]) \
    ON CONFLICT (project) DO UPDATE SET revision = r.revision + excluded.revision";

const PROJECTS: &str = "SELECT id, no FROM project WHERE id = ANY($1::text[])";

const ADD_PROJECTS: &str = "INSERT INTO project (id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";

/// The prepared statements of a connection.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) fence: Statement,
    pub(super) lock: Statement,
    pub(super) lock_project: Statement,
    pub(super) block: Statement,
    pub(super) insert: Statement,
    pub(super) update: Statement,
    pub(super) delete: Statement,
    pub(super) of_jobs: Statement,
    pub(super) remove_jobs: Statement,
    pub(super) of_projects: Statement,
    pub(super) revisions: Statement,
    pub(super) projects: Statement,
    pub(super) add_projects: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let (of_jobs, of_projects) = (of_jobs(), of_projects());
        Ok(Self {
            fence: client.prepare(FENCE).await?,
            lock: client.prepare(LOCK).await?,
            lock_project: client.prepare(LOCK_PROJECT).await?,
            block: client.prepare(BLOCK).await?,
            insert: client.prepare(INSERT).await?,
            update: client.prepare(UPDATE).await?,
            delete: client.prepare(DELETE).await?,
            of_jobs: client.prepare(&of_jobs).await?,
            remove_jobs: client.prepare(REMOVE_JOBS).await?,
            of_projects: client.prepare(&of_projects).await?,
            revisions: client.prepare(REVISIONS).await?,
            projects: client.prepare(PROJECTS).await?,
            add_projects: client.prepare(ADD_PROJECTS).await?,
        })
    }
}

/// A list with an item for each status.
pub(super) fn of_statuses(item: impl Fn(usize) -> String) -> String {
    (0..Status::COUNT).map(item).collect::<Vec<_>>().join(", ")
}

/// Changes the counters of jobs. Two jobs with one hash would make the row's name NULL, which the table refuses.
fn of_jobs() -> String {
    format!(
        "INSERT INTO job_tally AS t (project, job, job_id, job_type, {columns}) \
         SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::smallint[], {arrays}) \
         ON CONFLICT (project, job, job_type) DO UPDATE SET {sums}, \
             job_id = CASE WHEN excluded.job_id IN (t.job_id, '') THEN t.job_id END",
        columns = of_statuses(|status| format!("s{status}")),
        arrays = of_statuses(|status| format!("${}::bigint[]", status + 5)),
        sums = of_statuses(|status| format!("s{status} = t.s{status} + excluded.s{status}")),
    )
}

fn of_projects() -> String {
    format!(
        "INSERT INTO project_tally AS t (project, job_type, {columns}, stripe) \
         SELECT *, 0 FROM unnest($1::bigint[], $2::smallint[], {arrays}) \
         ON CONFLICT (project, stripe, job_type) DO UPDATE SET {sums}",
        columns = of_statuses(|status| format!("s{status}")),
        arrays = of_statuses(|status| format!("${}::bigint[]", status + 3)),
        sums = of_statuses(|status| format!("s{status} = t.s{status} + excluded.s{status}")),
    )
}

/// The counters of projects, by identifier.
pub(super) fn counters_of_projects() -> String {
    let sums = of_statuses(|status| format!("sum(t.s{status})::bigint"));
    format!(
        "SELECT p.id, r.revision, t.job_type, {sums} FROM project p JOIN project_revision r ON r.project = p.no \
         LEFT JOIN project_tally t ON t.project = p.no WHERE p.id = ANY($1::text[]) \
         GROUP BY p.id, r.revision, t.job_type"
    )
}

/// The counters of jobs, by project and hash. OFFSET keeps the planner from joining by the project alone.
pub(super) fn counters_of_jobs() -> String {
    let columns = of_statuses(|status| format!("t.s{status}"));
    format!(
        "SELECT k.ord, r.revision, t.job_type, {columns} \
         FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k(project, job, ord) \
         JOIN project p ON p.id = k.project JOIN project_revision r ON r.project = p.no \
         LEFT JOIN LATERAL (SELECT * FROM job_tally t WHERE t.project = p.no AND t.job = k.job OFFSET 0) t ON true"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cluster::{Cluster, Version};

    /// The plan that a lane makes, with the settings of its session.
    fn plan(database: &str, types: &str, statement: &str, values: &str) -> String {
        let settings = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; \
            SET plan_cache_mode = force_generic_plan";
        let cluster = Cluster::shared(Version::System);
        let explain = format!("{settings}; PREPARE it({types}) AS {statement}; EXPLAIN EXECUTE it({values})");
        let rows = cluster.sql(database, &explain);
        rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
    }

    /// A lane keeps the plan that it made for empty tables.
    #[test]
    fn statements_by_key_use_the_whole_key_of_an_index() {
        let cluster = Cluster::shared(Version::System);
        let database = cluster.create_database(None);
        cluster.sql(&database, include_str!("schema/001.sql"));
        let (uuid, arrays) = ("'{00000000-0000-0000-0000-000000000000}'", "'{1}', '{a}'");
        for (types, statement, values, key) in [
            ("bigint[], text[]", LOCK.to_owned(), arrays.to_owned(), "(project = u.project) AND (id = (u.id)::text)"),
            ("bigint[], text[]", DELETE.to_owned(), arrays.to_owned(), "(project = u.project) AND (id = (u.id)::text)"),
            (
                "bigint[], uuid[]",
                REMOVE_JOBS.to_owned(),
                format!("'{{1}}', {uuid}"),
                "(project = u.project) AND (job = u.job)",
            ),
            ("text[]", counters_of_projects(), "'{p}'".to_owned(), "(project = p.no)"),
            ("text[], uuid[]", counters_of_jobs(), format!("'{{p}}', {uuid}"), "(project = p.no) AND (job = k.job)"),
        ] {
            let plan = plan(&database, types, &statement, &values);
            assert!(
                plan.contains(&format!("Index Cond: ({key})")) || plan.contains(&format!("Index Cond: {key}")),
                "{plan}"
            );
            assert!(
                !plan.contains("Seq Scan") && !plan.contains("Hash Join") && !plan.contains("Join Filter"),
                "{plan}"
            );
        }
    }
}
