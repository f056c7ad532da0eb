//! What a start finds: no database, or one that it cannot use.

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::program::{run, serve, text};
use crate::support::replicas::{begin, count_at_last, migrated, report_at_last, start};
use crate::support::wait::until;

#[test]
fn a_server_waits_for_a_database_that_is_not_there_yet() {
    let (files, mut cluster) = (Files::new(), Cluster::start(Version::System));
    let url = cluster.url(&migrated(&cluster));
    cluster.stop();
    let program = begin(&files, &url, &[]);
    assert_eq!((program.internal_status("/readyz"), program.internal_status("/healthz")), (503, 200));
    cluster.restart();
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    report_at_last(&program, "1");
    assert_eq!(count_at_last(&program), 1);
}

#[test]
fn a_start_on_a_database_that_cannot_be_used_is_exit_2() {
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let refused = |url: &str, reason: &str| {
        let output = run(&mut serve(&["--access", &files.access(), "--store", url]), "");
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(reason), "{said}");
    };
    refused(&cluster.url(&cluster.create_database(None)), "the database has no schema: run subjobs migrate");
    let database = migrated(cluster);
    cluster.sql(&database, "INSERT INTO subjobs_schema (version, oldest_program) VALUES (2, 2)");
    refused(&cluster.url(&database), "use a newer program");
    cluster.sql(&database, "TRUNCATE subjobs_schema");
    refused(&cluster.url(&database), "run subjobs migrate");
    let database = migrated(cluster);
    cluster.sql(
        &database,
        "INSERT INTO job_type VALUES (1000, 'LATER'); INSERT INTO project_tally VALUES (1, 0, 1000, 1, 0, 0, 0, 0, 0, 0)",
    );
    refused(&cluster.url(&database), "--job-type LATER");
    let latin = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'";
    cluster.sql("postgres", latin);
    refused(&cluster.url("latin"), "the database has the encoding LATIN1, and identifiers need UTF8");
    let unsafe_cluster = Cluster::start_with(Version::System, "full_page_writes = off");
    refused(&unsafe_cluster.url("postgres"), "full_page_writes = off");
}

#[test]
fn a_type_without_subtasks_needs_no_option() {
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let database = migrated(cluster);
    let url = cluster.url(&database);
    drop(start(&files, &url, &["--job-type", "LATER"]));
    let program = start(&files, &url, &[]);
    report_at_last(&program, "1");
    // The counters of subtasks of that type that were deleted.
    let counters = "INSERT INTO project_tally SELECT p.no, 0, t.no, 0, 0, 0, 0, 0, 0, 0 FROM project p, job_type t WHERE t.name = 'LATER'";
    cluster.sql(&database, counters);
    assert_eq!(count_at_last(&program), 1);
    assert_eq!(count_at_last(&start(&files, &url, &[])), 1);
}
