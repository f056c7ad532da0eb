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
