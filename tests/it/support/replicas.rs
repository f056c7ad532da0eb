//! Servers that share a database, and a database with the schema for them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, access_to_any_project, record, report_path};
use crate::support::postgres::Cluster;
use crate::support::program::{Program, run, subjobs, text};
use crate::support::response::Response;
use crate::support::wait::{SetOnDrop, until};
use crate::support::workers::{Worker, assert_stored};

/// A database with the schema: its name.
pub(crate) fn migrated(cluster: &Cluster) -> String {
    let database = cluster.create_database(None);
    let output = run(&mut subjobs(&["migrate", "--store", &cluster.url(&database)]), "");
    assert!(output.status.success(), "{output:?}");
    database
}

/// A server on a database, in which every project exists; it has said where it listens, and may not be ready.
pub(crate) fn begin(files: &Files, url: &str, more: &[&str]) -> Program {
    let access = files.put("all.toml", &access_to_any_project());
    Program::begin(&[&["--access", &access, "--store", url], more].concat())
}

/// The same, when it is ready.
pub(crate) fn start(files: &Files, url: &str, more: &[&str]) -> Program {
    let program = begin(files, url, more);
    until("the server is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    program
}

/// Reports one subtask.
pub(crate) fn report(program: &Program, id: &str) -> Response {
    post(program.internal, &report_path(PROJECT), OPS, &record(id, "j", "CREATE_SERVER", "RUNNING"))
}

/// Reports one subtask until that gets 200; each other response is a well-formed 503.
pub(crate) fn report_at_last(program: &Program, id: &str) {
    until("a report is stored", || match report(program, id) {
        response if response.status == 200 => Some(()),
        response => {
            assert_unavailable(&response);
            None
        }
    });
}

/// The count of all subtasks, as soon as it gets 200; each other response is a well-formed 503. On a busy machine the database may
/// seem silent for a moment.
pub(crate) fn count_at_last(program: &Program) -> u64 {
    until("a count is answered", || match program.ask(OPS, "") {
        response if response.status == 200 => response.json()["count"].as_u64(),
        response => {
            assert_unavailable(&response);
            None
        }
    })
}

/// A 503 that tells the caller when to try again.
pub(crate) fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("retry-after"), Some("1"), "{response:?}");
}

/// Lets workers report through all of these servers while `disturb` runs. It is given a function that waits for so many further
/// acknowledged reports. Then all that was acknowledged is stored, on each server, and every counter is right.
pub(crate) fn work_while(programs: &[Program], url: &str, disturb: impl FnOnce(&dyn Fn(usize))) {
    let mut workers: Vec<_> = (0..4).map(|number| Worker::new(number, &format!("project-{}", number / 2))).collect();
    let addresses: Vec<_> = programs.iter().map(|program| program.internal).collect();
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for worker in &mut workers {
            let (addresses, acknowledged, is_over) = (&addresses, &acknowledged, &is_over);
            scope.spawn(move || {
                let is_over = || is_over.load(Ordering::Relaxed);
                worker.work_through(addresses, is_over, || {
                    let _ = acknowledged.fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        let _end = SetOnDrop(&is_over);
        disturb(&|more| {
            let from = acknowledged.load(Ordering::Relaxed);
            until("reports are stored", || (acknowledged.load(Ordering::Relaxed) >= from + more).then_some(()));
        });
    });
    for program in programs {
        until("the server is ready", || (program.internal_status("/readyz") == 200).then_some(()));
        assert_stored(program, &workers, "in the end");
    }
    assert_good(url);
}

/// Every counter of the database is right.
pub(crate) fn assert_good(url: &str) {
    let checked = run(&mut subjobs(&["check", "--store", url]), "");
    assert!(checked.status.success(), "{}", text(&checked.stdout));
}
