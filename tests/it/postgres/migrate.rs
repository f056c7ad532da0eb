//! `subjobs migrate`: the schema and its versions.

use std::process::{Output, Stdio};

use crate::support::fixtures::{Files, OPS};
use crate::support::postgres::{Cluster, Version};
use crate::support::program::{run, subjobs, text};
use crate::support::replicas::{assert_unavailable, count_at_last, migrated, report, report_at_last, start};
use crate::support::wait::until;

/// Runs a command against a database.
fn command(name: &str, url: &str) -> Output {
    run(&mut subjobs(&[name, "--store", url]), "")
}

#[test]
fn migrate_makes_the_schema_once() {
    for version in Version::installed() {
        let cluster = Cluster::shared(version);
        let database = cluster.create_database(None);
        let url = cluster.url(&database);
        for end in ["schema 1, made", "schema 1, nothing to do"] {
            let output = command("migrate", &url);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert_eq!(
                text(&output.stdout),
                format!("postgres://postgres@{}/{}: {end}\n", cluster.address(), encoded(&database))
            );
        }
        assert_eq!(cluster.value(&database, "SELECT count(*) FROM subjobs_schema"), "1");
    }
}

/// A database's name as a URL has it.
fn encoded(database: &str) -> String {
    database.replace('_', "%5F")
}

#[test]
fn migrations_at_the_same_time_wait_for_each_other() {
    let cluster = Cluster::shared(Version::System);
    let url = cluster.url(&cluster.create_database(None));
    let start = |_| subjobs(&["migrate", "--store", &url]).stdout(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..4).map(start).collect();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    let made = outputs.iter().filter(|output| text(&output.stdout).ends_with(": schema 1, made\n")).count();
    assert_eq!(made, 1, "{outputs:?}");
}

#[test]
fn a_failed_migration_changes_nothing() {
    let cluster = Cluster::shared(Version::System);
    let database = cluster.create_database(None);
    // A table of another owner, which the schema's would replace.
    cluster.sql(&database, "CREATE TABLE lease (n int)");
    let output = command("migrate", &cluster.url(&database));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("relation \"lease\" already exists (42P07)"), "{output:?}");
    assert_eq!(cluster.value(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "1");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let cluster = Cluster::shared(Version::System);
    let database = cluster.create_database(None);
    let url = cluster.url(&database);
    assert!(command("migrate", &url).status.success());
    cluster.sql(&database, "INSERT INTO subjobs_schema (version, oldest_program) VALUES (2, 2)");
    let output = command("migrate", &url);
    assert_eq!(output.status.code(), Some(2));
    let reason = "the schema has version 2, and this program knows 1 at most: use a newer program";
    assert!(text(&output.stderr).contains(reason), "{output:?}");
    let checked = command("check", &url);
    assert_eq!(checked.status.code(), Some(2));
    assert!(text(&checked.stdout).contains(reason), "{checked:?}");
}

#[test]
fn a_server_goes_on_with_a_newer_schema_that_it_can_use() {
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let database = migrated(cluster);
    let url = cluster.url(&database);
    let program = start(&files, &url, &[]);
    report_at_last(&program, "1");
    let end_sessions = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
    cluster.sql(&database, "INSERT INTO subjobs_schema (version, oldest_program) VALUES (2, 1)");
    cluster.sql("postgres", &end_sessions);
    report_at_last(&program, "2");
    assert_eq!(count_at_last(&program), 2);
    let checked = command("check", &url);
    assert!(checked.status.success() && text(&checked.stdout).contains(": good, schema 2, "), "{checked:?}");

    // The next version removes what this program needs.
    cluster.sql(&database, "INSERT INTO subjobs_schema (version, oldest_program) VALUES (3, 2)");
    cluster.sql("postgres", &end_sessions);
    until("it is refused", || (program.ask(OPS, "").status == 503).then_some(()));
    assert_unavailable(&report(&program, "3"));
    cluster.sql(&database, "DELETE FROM subjobs_schema WHERE version = 3");
    report_at_last(&program, "3");
}

#[test]
fn migrate_needs_a_database_that_can_be_reached() {
    let without = run(&mut subjobs(&["migrate"]), "");
    assert_eq!(without.status.code(), Some(2));
    assert!(text(&without.stderr).contains("give --store URL"), "{without:?}");
    let unreachable = command("migrate", "postgres://u:secret@127.0.0.1:1/d");
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(text(&unreachable.stderr).contains("postgres://u@127.0.0.1:1/d: 127.0.0.1:1: "), "{unreachable:?}");
}
