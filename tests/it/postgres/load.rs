//! `--load` into a shared store: what is interrupted is completed by a restart.

use crate::support::fixtures::{Files, PROJECT};
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Program;
use crate::support::replicas::{assert_good, begin, count_at_last, migrated, start};
use crate::support::wait::until;

const SUBTASKS: usize = 30_000;

/// A file in which each subtask runs first and has succeeded in the end.
fn load_file(files: &Files) -> String {
    let line = |id, status, version| {
        format!(
            r#"{{"project_id":"{PROJECT}","id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"{status}","version":{version}}}"#
        ) + "\n"
    };
    let running = (0..SUBTASKS).map(|id| line(id, "RUNNING", 1));
    files.put("load.ndjson", &running.chain((0..SUBTASKS).map(|id| line(id, "SUCCESS", 2))).collect::<String>())
}

fn assert_loaded(program: &Program) {
    assert_eq!(count_at_last(program), SUBTASKS as u64);
    assert_eq!(program.count("?status=SUCCESS"), SUBTASKS as u64);
}

#[test]
fn a_restart_completes_a_load_that_was_killed() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    let (url, file) = (cluster.url(&database), load_file(&files));
    let mut program = begin(&files, &url, &["--load", &file]);
    until("a part is stored", || (cluster.value(&database, "SELECT count(*) FROM sub_job") != "0").then_some(()));
    program.kill();
    let running = cluster.value(&database, "SELECT count(*) FROM sub_job WHERE version < 2");
    assert_eq!(running, "0", "an earlier record of the file was stored");
    assert_loaded(&start(&files, &url, &["--load", &file]));
    assert_good(&url);
}

#[test]
fn a_load_waits_while_the_database_takes_nothing() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    let (url, file) = (cluster.url(&database), load_file(&files));
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
        $$BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END$$; \
        CREATE TRIGGER refuse BEFORE INSERT ON sub_job EXECUTE FUNCTION refuse()";
    cluster.sql(&database, refuse);
    let program = begin(&files, &url, &["--load", &file]);
    program.await_log("the load waits for the database");
    cluster.sql(&database, "DROP TRIGGER refuse ON sub_job");
    until("the server is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    assert_loaded(&program);
    assert_good(&url);
}
