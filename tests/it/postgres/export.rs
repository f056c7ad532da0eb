//! `subjobs export --store`: all subtasks of one moment.

use std::process::{Output, Stdio};

use crate::support::postgres::{Cluster, Version};
use crate::support::program::{run, subjobs, text};
use crate::support::wait::until;

/// Two projects, whose subtasks are stored in another order than that of their first reports.
const SUB_JOBS: &str = "\
    INSERT INTO job_type VALUES (0, 'CREATE_SERVER'), (1, 'ADDED');
    INSERT INTO project VALUES (1, 'second'), (2, 'first');
    INSERT INTO sub_job (project, id, job, job_type, status, version, seq) VALUES
        (1, 'a', '00000000-0000-0000-0000-000000000001', 0, 1, 7, 3),
        (1, 'b', '00000000-0000-0000-0000-000000000001', 0, 0, 0, 2),
        (2, 'a', '00000000-0000-0000-0000-000000000002', 1, 4, 1, 9);
    INSERT INTO job_tally VALUES
        (1, '00000000-0000-0000-0000-000000000001', 0, 'j', 1, 1, 0, 0, 0, 0, 0),
        (2, '00000000-0000-0000-0000-000000000002', 1, 'k', 0, 0, 0, 0, 1, 0, 0);";

fn export(args: &[&str]) -> Output {
    run(subjobs(&["export", "--log-format", "text"]).args(args), "")
}

#[test]
fn export_writes_projects_by_name_and_subtasks_in_the_order_of_first_reports() {
    for version in Version::installed() {
        let cluster = Cluster::shared(version);
        let database = cluster.create_database(None);
        let url = cluster.url(&database);
        let without_schema = export(&["--store", &url]);
        assert_eq!(without_schema.status.code(), Some(2), "{without_schema:?}");
        assert!(run(&mut subjobs(&["migrate", "--store", &url]), "").status.success());
        cluster.sql(&database, SUB_JOBS);
        let exported = export(&["--store", &url, "--job-type", "ADDED"]);
        assert_eq!(exported.status.code(), Some(0), "{exported:?}");
        let lines = text(&exported.stdout);
        let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<_> = lines
            .iter()
            .map(|line| ["project_id", "id", "job_id", "job_type", "status"].map(|name| line[name].clone()))
            .collect();
        let expected = [
            ["first", "a", "k", "ADDED", "ABNORMAL"],
            ["second", "b", "j", "CREATE_SERVER", "WAITING"],
            ["second", "a", "j", "CREATE_SERVER", "RUNNING"],
        ];
        assert_eq!(found, expected.map(|line| line.map(serde_json::Value::from)));
        assert_eq!(lines[2]["version"], 7);

        let unknown = export(&["--store", &url]);
        assert_eq!(unknown.status.code(), Some(2));
        assert!(
            text(&unknown.stderr).contains("job type ADDED, which this server does not know: give --job-type ADDED"),
            "{unknown:?}"
        );
    }
}

/// A database with so many subtasks of one job.
fn with_sub_jobs(cluster: &Cluster, count: u32) -> String {
    let database = cluster.create_database(None);
    assert!(run(&mut subjobs(&["migrate", "--store", &cluster.url(&database)]), "").status.success());
    let job = "'00000000-0000-0000-0000-000000000001'::uuid";
    cluster.sql(
        &database,
        &format!(
            "INSERT INTO job_type VALUES (0, 'CREATE_SERVER'); INSERT INTO project VALUES (1, 'p');
             INSERT INTO sub_job (project, id, job, job_type, status, version, seq)
                 SELECT 1, n::text, {job}, 0, 0, 0, n FROM generate_series(1, {count}) n;
             INSERT INTO job_tally VALUES (1, {job}, 0, 'j', {count}, 0, 0, 0, 0, 0, 0);"
        ),
    );
    database
}

#[test]
fn an_export_waits_for_the_reader_of_its_output() {
    let cluster = Cluster::shared(Version::System);
    let database = with_sub_jobs(cluster, 10_000);
    let mut command = subjobs(&["export", "--store", &cluster.url(&database)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let query = "SELECT coalesce(extract(epoch FROM max(now() - state_change)), -1) FROM pg_stat_activity \
        WHERE datname = current_database() AND state = 'idle in transaction'";
    let waits = || cluster.value(&database, query).parse::<f64>().unwrap();
    until("the export waits", || (waits() >= 0.5).then_some(()));
    // Longer than any other session may be idle in a transaction.
    until("it has waited long, or was ended", || (!(0.0..6.0).contains(&waits())).then_some(()));
    let exported = child.wait_with_output().unwrap();
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    assert_eq!(text(&exported.stdout).lines().count(), 10_000);
}

#[test]
fn an_export_that_lacks_subtasks_fails() {
    let cluster = Cluster::shared(Version::System);
    let database = with_sub_jobs(cluster, 2);
    let more = "INSERT INTO sub_job (project, id, job, job_type, status, version, seq) VALUES (1, 'a', gen_random_uuid(), 0, 0, 0, 9)";
    cluster.sql(&database, more);
    let output = export(&["--store", &cluster.url(&database)]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("2 of 3 subtasks were written"), "{output:?}");
}

#[test]
fn export_needs_one_source_that_can_be_read() {
    for (args, code, reason) in [
        (&[][..], 2, "give --data-dir DIR or --store URL"),
        (&["--store", "postgres://u@127.0.0.1:1/d", "--data-dir", "d"], 2, "exclude each other"),
        (&["--store", "postgres://u:hidden@127.0.0.1:1/d"], 1, "127.0.0.1:1: "),
    ] {
        let output = export(args);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(reason) && !said.contains("hidden"), "{said}");
    }
}
