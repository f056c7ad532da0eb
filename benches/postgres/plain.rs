//! What a user would write without subjobs: a query for each count, a table with indexes for counting.

use std::ops::Range;

use tokio_postgres::{Client, NoTls, Statement};

use crate::support::sample::Random;

/// Connections, each for one task.
pub(crate) struct Plain {
    clients: Vec<(Client, Statement, Statement)>,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS bare (project text, id text, job text, job_type text, status smallint, version bigint, \
    details bytea, PRIMARY KEY (project, id)); \
    CREATE INDEX IF NOT EXISTS bare_status ON bare (project, status, job_type); \
    CREATE INDEX IF NOT EXISTS bare_job ON bare (project, job, job_type, status)";

const STORE: &str = "INSERT INTO bare AS b (project, id, job, job_type, status, version) \
    SELECT 'p', u.id, u.job, 'CREATE_SERVER', u.status, 0 FROM unnest($1::text[], $2::text[], $3::smallint[]) AS u(id, job, status) \
    ON CONFLICT (project, id) DO UPDATE SET job = excluded.job, status = excluded.status, version = excluded.version \
    WHERE excluded.version >= b.version";

const OF_PROJECT: &str =
    "SELECT sum(t.s1)::bigint FROM project p JOIN project_tally t ON t.project = p.no WHERE p.id = 'p'";
const OF_JOB: &str = "SELECT sum(t.s1)::bigint FROM project p JOIN job_tally t ON t.project = p.no \
    WHERE p.id = 'p' AND t.job = encode(substr(sha256($1::text::bytea), 1, 16), 'hex')::uuid";

async fn open(url: &str) -> Client {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

impl Plain {
    /// So many connections that count in the tables of a store.
    pub(crate) async fn connect(url: &str, connections: usize) -> Self {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let client = open(url).await;
            let (of_project, of_job) =
                (client.prepare(OF_PROJECT).await.unwrap(), client.prepare(OF_JOB).await.unwrap());
            clients.push((client, of_project, of_job));
        }
        Self { clients }
    }

    /// Counts in one query.
    pub(crate) async fn count(&self, task: usize, job: Option<String>) {
        let (client, of_project, of_job) = &self.clients[task];
        let row = match &job {
            None => client.query_one(of_project, &[]).await.unwrap(),
            Some(job) => client.query_one(of_job, &[job]).await.unwrap(),
        };
        assert!(row.get::<_, i64>(0) > 0);
    }

    /// So many connections that write to a bare table.
    pub(crate) async fn with_table(url: &str, connections: usize) -> Self {
        open(url).await.batch_execute(TABLE).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..connections {
            let client = open(url).await;
            let store = client.prepare(STORE).await.unwrap();
            clients.push((client, store.clone(), store));
        }
        Self { clients }
    }

    /// Stores these subtasks in one statement.
    pub(crate) async fn store(&self, task: usize, numbers: Range<usize>, status: i16) {
        let mut rows: Vec<(String, String)> = numbers
            .map(|number| {
                (format!("{:016x}{number:016x}", Random(number as u64).next()), format!("job {}", number / 100))
            })
            .collect();
        // In one order, so that no two statements wait for each other.
        rows.sort_unstable();
        let statuses = vec![status; rows.len()];
        let (ids, jobs): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let (client, store, _) = &self.clients[task];
        client.execute(store, &[&ids, &jobs, &statuses]).await.unwrap();
    }

    /// Stores the first `count` subtasks.
    pub(crate) async fn fill(&self, count: usize) {
        for from in (0..count).step_by(1000) {
            self.store(0, from..from + 1000, 1).await;
        }
    }
}
