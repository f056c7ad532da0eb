//! Reports of many subtasks.

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, outcome, record, report_path};
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Program;
use crate::support::replicas::{assert_good, migrated, start};
use crate::support::response::Response;

/// Reports so many subtasks in one request.
fn report_many(program: &Program, subtasks: usize, status: &str) -> Response {
    let records: Vec<_> = (0..subtasks).map(|id| record(&id.to_string(), "j", "CREATE_SERVER", status)).collect();
    post(program.internal, &report_path(PROJECT), OPS, &records.join("\n"))
}

#[test]
fn a_report_about_subtasks_with_large_details_needs_no_memory_for_them() {
    let subtasks = 12_000;
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    let program = start(&files, &cluster.url(&database), &[]);
    let created = report_many(&program, subtasks, "RUNNING");
    assert_eq!(created.json(), outcome(subtasks as u64, 0, 0, 0), "{created:?}");
    // 196 MB in all, which the database stores compressed.
    cluster.sql(&database, "UPDATE sub_job SET details = convert_to(repeat('x', 16384), 'UTF8')");
    let before = program.peak_memory();
    let unlike = report_many(&program, subtasks, "RUNNING");
    assert_eq!(unlike.json(), outcome(0, subtasks as u64, 0, 0), "{unlike:?}");
    let more = program.peak_memory() - before;
    assert!(more < (64 << 20), "{} MB", more >> 20);
    assert_good(&cluster.url(&database));
}

/// The time limit of a statement must not be one of a report.
#[test]
fn a_report_and_a_reset_may_take_longer_than_a_statement_may() {
    let subtasks = 40_000;
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    // Each statement takes 0.2 ms more for a row, as on a slow machine.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
        'BEGIN PERFORM pg_sleep(0.0002 * (SELECT count(*) FROM changed)); RETURN NULL; END'; \
        CREATE TRIGGER inserts AFTER INSERT ON sub_job REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION slow(); \
        CREATE TRIGGER deletes AFTER DELETE ON sub_job REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    cluster.sql(&database, slow);
    let program = start(&files, &cluster.url(&database), &["--allow-reset", "--report-timeout", "60s"]);
    let created = report_many(&program, subtasks, "RUNNING");
    assert_eq!(created.json(), outcome(subtasks as u64, 0, 0, 0), "{created:?}");
    assert_good(&cluster.url(&database));
    let reset = post(program.internal, &format!("/subjobs/v1/{PROJECT}/reset"), OPS, "");
    assert_eq!((reset.status, &reset.json()["deleted"]), (200, &subtasks.into()), "{reset:?}");
    assert_good(&cluster.url(&database));
}
