//! The statements of a write lane.
//!
//! While the tables are small, the planner finds it as cheap to read a whole project for each key as one row, and a lane keeps its plans.
//! So each key is looked up by a LATERAL query, which OFFSET keeps in a loop over the keys, and what is changed is joined by ctid: the
//! rows are locked before, so they do not move. And a write lane makes its plans again from time to time ([`PlanAge`]).

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, Error, Statement};

use crate::domain::Status;

/// Registers a lane, or ends its epoch: a transaction of the epoch before can no longer commit. Waits for one that is committing.
pub(super) const REGISTER: &str = "INSERT INTO writer AS w (lane, epoch, tx, seen) VALUES ($1, 1, 0, now()) \
    ON CONFLICT (lane) DO UPDATE SET epoch = w.epoch + 1, seen = now() RETURNING epoch, tx";

const FENCE: &str = "UPDATE writer SET tx = $1, seen = now() WHERE lane = $2 AND epoch = $3";

/// The first key of the advisory locks of the classes of projects.
pub(super) const CLASS_LOCKS: i32 = 1_937_072_746;

/// How many classes of projects have a lock each. A group takes at most so many.
pub(super) const CLASSES: i64 = 64;

/// The first keys of the advisory locks that keep the order of lists, of finer classes. All transactions that add subtasks share the
/// first lock, but one that takes long ([`is_alone`](super::pace::is_alone)) has it alone. The short ones also share the second lock,
/// which a list has alone for the moment that it sees. So a list does not wait for a long one.
const ADD_LOCKS: i32 = CLASS_LOCKS + 1;
pub(super) const LIST_LOCKS: i32 = CLASS_LOCKS + 2;

/// How many classes have these two. A transaction holds at most so many of each, and the lock table of the database has 1,280 entries for
/// a server of 20 connections with 2 lanes.
const ORDER_CLASSES: i64 = 256;

/// The class of a project for these two.
pub(super) fn order_class(project: i64) -> i32 {
    (project % ORDER_CLASSES) as i32
}

/// Locks the classes of projects: shared for changes of some subtasks, and alone for those that change all subtasks of a project, which
/// need to see every row and to wait for no other.
fn share() -> String {
    format!(
        "SELECT CASE WHEN u.is_alone THEN pg_advisory_xact_lock({CLASS_LOCKS}, u.class)::text \
             ELSE pg_advisory_xact_lock_shared({CLASS_LOCKS}, u.class)::text END \
         FROM unnest($1::int[], $2::bool[]) AS u(class, is_alone)"
    )
}

/// Locks in the order of the keys. Reads only the length of details, since those of all rows could be more than memory holds.
const LOCK: &str = "SELECT u.ord, s.* FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS u(project, id, ord), \
    LATERAL (SELECT job, job_type, status, version, seq, ended, octet_length(details) FROM sub_job s \
        WHERE s.project = u.project AND s.id = u.id OFFSET 0 FOR UPDATE) s";

/// The next rows of a whole project after an identifier.
const LOCK_PROJECT: &str = "SELECT id, job, job_type, status, version, seq, ended, octet_length(details) FROM sub_job \
    WHERE project = $1 AND id > $2 ORDER BY id LIMIT $3 FOR UPDATE";

/// Whether one of these subtasks is stored.
const EXISTS: &str = "SELECT EXISTS (SELECT FROM unnest($1::bigint[], $2::text[]) AS u(project, id), \
    LATERAL (SELECT FROM sub_job s WHERE s.project = u.project AND s.id = u.id OFFSET 0) s)";

/// The details of rows that are locked.
const DETAILS: &str = "SELECT u.place, s.details FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS u(project, id, place), \
    LATERAL (SELECT details FROM sub_job s WHERE s.project = u.project AND s.id = u.id OFFSET 0) s";

/// Locks classes of projects, alone if `$2`, and then takes the number of the block for new subtasks, which [`insert`] and [`update`] of
/// the same transaction use. The first locks of all classes come before the second ones, which lists wait for. The two counts make one
/// row, which is there when all are locked.
fn block() -> String {
    format!(
        "SELECT nextval('sub_job_block'), first.locks, second.locks FROM \
             (SELECT count(CASE WHEN $2 THEN pg_advisory_xact_lock({ADD_LOCKS}, class)::text \
                 ELSE pg_advisory_xact_lock_shared({ADD_LOCKS}, class)::text END) AS locks FROM unnest($1::int[]) AS class) first, \
             LATERAL (SELECT count(pg_advisory_xact_lock_shared({LIST_LOCKS}, class)::text) AS locks FROM unnest($1::int[]) AS class \
                 WHERE first.locks > 0 AND NOT $2::bool) second"
    )
}

/// Rows from arrays. In the list of results, `unnest` makes them one by one; in `FROM` it would make a copy of each array first.
const ROWS: &str = "(SELECT unnest($1::bigint[]) AS project, unnest($2::text[]) AS id, unnest($3::uuid[]) AS job, \
    unnest($4::smallint[]) AS job_type, unnest($5::smallint[]) AS status, unnest($6::bigint[]) AS version, \
    unnest($7::bigint[]) AS place, unnest($8::bigint[]) AS ended, unnest($9::bytea[]) AS details)";

fn insert() -> String {
    format!(
        "INSERT INTO sub_job (project, id, job, job_type, status, version, seq, ended, details) \
         SELECT u.project, u.id, u.job, u.job_type, u.status, u.version, (currval('sub_job_block') << 20) + u.place, u.ended, u.details \
         FROM {ROWS} u"
    )
}

/// Without a place in the block a subtask keeps its place in the order.
fn update() -> String {
    format!(
        "UPDATE sub_job s SET job = u.job, job_type = u.job_type, status = u.status, version = u.version, \
             seq = CASE WHEN u.place IS NULL THEN s.seq ELSE (currval('sub_job_block') << 20) + u.place END, \
             ended = u.ended, details = u.details \
         FROM (SELECT u.*, f.row FROM {ROWS} u, \
             LATERAL (SELECT s.ctid AS row FROM sub_job s WHERE s.project = u.project AND s.id = u.id OFFSET 0) f) u \
         WHERE s.ctid = u.row"
    )
}

const DELETE: &str = "DELETE FROM sub_job s \
    USING (SELECT f.row FROM unnest($1::bigint[], $2::text[]) AS u(project, id), \
        LATERAL (SELECT s.ctid AS row FROM sub_job s WHERE s.project = u.project AND s.id = u.id OFFSET 0) f) u \
    WHERE s.ctid = u.row";

const REMOVE_JOBS: &str = "DELETE FROM job_tally t \
    USING (SELECT f.row FROM unnest($1::bigint[], $2::uuid[]) AS u(project, job), \
        LATERAL (SELECT t.ctid AS row FROM job_tally t WHERE t.project = u.project AND t.job = u.job OFFSET 0) f) u \
    WHERE t.ctid = u.row AND t.s0 = 0 AND t.s1 = 0 AND t.s2 = 0 AND t.s3 = 0 AND t.s4 = 0 AND t.s5 = 0 AND t.s6 = 0";

/// Locks the projects until the commit.
const REVISIONS: &str = "INSERT INTO project_revision AS r (project, revision) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[]) \
    ON CONFLICT (project) DO UPDATE SET revision = r.revision + excluded.revision";

const PROJECTS: &str = "SELECT id, no FROM project WHERE id = ANY($1::text[])";

const ADD_PROJECTS: &str = "INSERT INTO project (id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";

/// The plans of a connection are used for so long, and for at most so many subtasks.
const MAX_PLAN_AGE: Duration = Duration::from_secs(1);
const MAX_PLANNED: usize = 4096;

/// How long an attempt to change a project that was locked waits for a lock. Other projects wait as long.
const BRIEF_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// How old the plans of a connection are.
#[derive(Debug)]
pub(super) struct PlanAge {
    since: Instant,
    subtasks: usize,
}

impl PlanAge {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), subtasks: 0 }
    }

    /// What begins a transaction for that many subtasks. Plans that are too old are discarded, because the tables may have grown. A brief
    /// one waits for no lock longer than [`BRIEF_LOCK_TIMEOUT`].
    pub(super) fn begin(&mut self, subtasks: usize, is_brief: bool) -> String {
        let is_old = self.since.elapsed() >= MAX_PLAN_AGE || self.subtasks >= MAX_PLANNED;
        if is_old {
            *self = Self::new();
        }
        self.subtasks += subtasks;
        let begin = if is_old { "DISCARD PLANS; BEGIN" } else { "BEGIN" };
        if is_brief {
            return format!("{begin}; SET LOCAL lock_timeout = {}", BRIEF_LOCK_TIMEOUT.as_millis());
        }
        begin.to_owned()
    }
}

/// The prepared statements of a connection.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) fence: Statement,
    pub(super) share: Statement,
    pub(super) lock: Statement,
    pub(super) lock_project: Statement,
    pub(super) exists: Statement,
    pub(super) details: Statement,
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
        let (share, block, insert, update) = (share(), block(), insert(), update());
        let (of_jobs, of_projects) = (of_jobs(), of_projects());
        Ok(Self {
            fence: client.prepare(FENCE).await?,
            share: client.prepare(&share).await?,
            lock: client.prepare(LOCK).await?,
            lock_project: client.prepare(LOCK_PROJECT).await?,
            exists: client.prepare(EXISTS).await?,
            details: client.prepare(DETAILS).await?,
            block: client.prepare(&block).await?,
            insert: client.prepare(&insert).await?,
            update: client.prepare(&update).await?,
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
    joined(", ", item)
}

fn joined(separator: &str, item: impl Fn(usize) -> String) -> String {
    (0..Status::COUNT).map(item).collect::<Vec<_>>().join(separator)
}

/// By how many subtasks the counters of two rows differ. One of the rows may be missing.
pub(super) fn difference(one: &str, other: &str) -> String {
    joined(" + ", |status| format!("abs(coalesce({one}.s{status}, 0) - coalesce({other}.s{status}, 0))"))
}

/// The columns `s0` to `s6` of a group of subtasks.
pub(super) fn counted() -> String {
    of_statuses(|status| format!("count(*) FILTER (WHERE status = {status}) AS s{status}"))
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

/// The number and the revision of the project of a key `k`.
const PROJECT_OF_KEY: &str = "\
    LATERAL (SELECT no FROM project p WHERE p.id = k.project OFFSET 0) p, \
    LATERAL (SELECT revision FROM project_revision r WHERE r.project = p.no OFFSET 0) r";

/// The counters of projects, by identifier, each given once.
pub(super) fn counters_of_projects() -> String {
    let sums = of_statuses(|status| format!("sum(t.s{status})::bigint"));
    format!(
        "SELECT k.project, r.revision, t.job_type, {sums} FROM unnest($1::text[]) AS k(project), {PROJECT_OF_KEY} \
         LEFT JOIN LATERAL (SELECT * FROM project_tally t WHERE t.project = p.no OFFSET 0) t ON true \
         GROUP BY k.project, r.revision, t.job_type"
    )
}

/// The counters of jobs, by project and hash.
pub(super) fn counters_of_jobs() -> String {
    let columns = of_statuses(|status| format!("t.s{status}"));
    format!(
        "SELECT k.ord, r.revision, t.job_type, {columns} \
         FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k(project, job, ord), {PROJECT_OF_KEY} \
         LEFT JOIN LATERAL (SELECT * FROM job_tally t WHERE t.project = p.no AND t.job = k.job OFFSET 0) t ON true"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cluster::{Cluster, Version};
    use crate::store::postgres::connect::{PINNED_PLANNER, Purpose, connect};
    use crate::store::{Target, migrate};

    /// The plan with the settings of a lane's session, or with another mode of the plan cache.
    fn plan(database: &str, types: &str, statement: &str, values: &str, mode: &str) -> String {
        let cluster = Cluster::shared(Version::System);
        let explain = format!(
            "{PINNED_PLANNER} SET plan_cache_mode = {mode}; PREPARE it({types}) AS {statement}; EXPLAIN EXECUTE it({values})"
        );
        let rows = cluster.sql(database, &explain);
        rows.into_iter().flatten().flatten().collect::<Vec<_>>().join("\n")
    }

    /// A lane keeps the plan that it made for empty or small tables, and for tables without statistics.
    #[test]
    fn statements_by_key_use_the_whole_key_of_an_index() {
        let cluster = Cluster::shared(Version::System);
        let database = cluster.create_database(None);
        cluster.sql(&database, include_str!("schema/001.sql"));
        let uuid = "'00000000-0000-0000-0000-000000000000'::uuid";
        let array = |item: &str| format!("array_fill({item}, ARRAY[64])");
        let (numbers, texts, uuids) = (array("1::bigint"), array("'a'::text"), array(uuid));
        let (small, bytes) = (array("1::smallint"), array("''::bytea"));
        let updated =
            format!("{numbers}, {texts}, {uuids}, {small}, {small}, {numbers}, {numbers}, {numbers}, {bytes}");
        let by_id = "(project = u.project) AND (id = ";
        let cases = [
            ("bigint[], text[]", LOCK.to_owned(), format!("{numbers}, {texts}"), by_id),
            ("bigint[], text[], bigint[]", DETAILS.to_owned(), format!("{numbers}, {texts}, {numbers}"), by_id),
            ("bigint[], text[]", DELETE.to_owned(), format!("{numbers}, {texts}"), by_id),
            (
                "bigint[], text[], uuid[], smallint[], smallint[], bigint[], bigint[], bigint[], bytea[]",
                update(),
                updated,
                by_id,
            ),
            (
                "bigint[], uuid[]",
                REMOVE_JOBS.to_owned(),
                format!("{numbers}, {uuids}"),
                "(project = u.project) AND (job = ",
            ),
            ("text[]", counters_of_projects(), texts.clone(), "project = p.no"),
            ("text[], uuid[]", counters_of_jobs(), format!("{texts}, {uuids}"), "(project = p.no) AND (job = "),
        ];
        let one_row = format!(
            "INSERT INTO project (id) VALUES ('a'); INSERT INTO project_revision VALUES (1, 1); \
             INSERT INTO sub_job (project, id, job, job_type, status, version, seq) VALUES (1, 'a', {uuid}, 1, 1, 1, 1); ANALYZE"
        );
        // Without statistics the planner takes two rows for one key of so many.
        let many_rows = format!(
            "INSERT INTO sub_job (project, id, job, job_type, status, version, seq) \
             SELECT 1, n::text, {uuid}, 1, 1, 1, n FROM generate_series(1, 100000) n"
        );
        for statements in ["", &one_row, &many_rows] {
            cluster.sql(&database, statements);
            for (types, statement, values, key) in &cases {
                for mode in ["force_generic_plan", "force_custom_plan"] {
                    let plan = plan(&database, types, statement, values, mode);
                    let is_by_key = plan.contains(&format!("Index Cond: ({key}"));
                    // A target of a change has its row's address.
                    let is_by_row = !statement.contains("ctid") || plan.contains("TID Cond");
                    assert!(is_by_key && is_by_row, "{statement}\n{plan}");
                    let slow = ["Seq Scan", "Bitmap", "Hash Join", "Merge Join", "Join Filter"];
                    assert!(!slow.iter().any(|step| plan.contains(step)), "{statement}\n{plan}");
                }
            }
        }
    }

    /// Otherwise each slice of a project would read all of it.
    #[test]
    fn a_slice_of_a_project_is_read_by_its_key() {
        let cluster = Cluster::shared(Version::System);
        let database = cluster.create_database(None);
        cluster.sql(&database, include_str!("schema/001.sql"));
        let rows = "INSERT INTO sub_job (project, id, job, job_type, status, version, seq) \
            SELECT 1, n::text, '00000000-0000-0000-0000-000000000000', 1, 1, 1, n FROM generate_series(1, 5000) n; ANALYZE";
        for statements in ["", rows] {
            cluster.sql(&database, statements);
            let plan = plan(&database, "bigint, text, bigint", LOCK_PROJECT, "1, 'a', 10", "force_generic_plan");
            assert!(plan.contains("Index Cond: ((project = $1) AND (id > $2))") && !plan.contains("Sort"), "{plan}");
        }
    }

    /// To plan a read of a few keys takes longer than to execute it.
    #[test]
    fn a_lane_uses_the_same_plan_for_all_keys() {
        let cluster = Cluster::shared(Version::System);
        let target = Target::new(cluster.url(&cluster.create_database(None)).parse().unwrap(), None, None).unwrap();
        let read = async {
            migrate(&target).await.unwrap();
            let connection = connect(&target, Purpose::Lane).await.unwrap();
            let (client, text) = (&connection.client, counters_of_projects());
            let statement = client.prepare(&text).await.unwrap();
            for project in ["p", "q", "r"] {
                client.query(&statement, &[&[project].as_slice()]).await.unwrap();
            }
            let executions = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1";
            let row = client.query_one(executions, &[&text]).await.unwrap();
            (row.get::<_, i64>(0), row.get::<_, i64>(1))
        };
        assert_eq!(tokio::runtime::Runtime::new().unwrap().block_on(read), (3, 0));
    }
}
