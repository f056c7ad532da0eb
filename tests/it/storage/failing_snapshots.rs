//! Snapshots that are delayed, fail or are killed while the server accepts reports.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::storage::failing_syscalls::{ENOSPC, Faulty};
use crate::support::blocking::post;
use crate::support::fixtures::{OPS, PROJECT, report_path};
use crate::support::random::Random;
use crate::support::wait::until;

/// The number of subtasks of a report.
const SIZE: u64 = 2000;

/// This number of reports exceeds the 64 MiB after which a snapshot is due.
const REPORTS: u64 = 5;

/// Reports subtasks of 16 MB. Returns the status.
fn report(internal: SocketAddr, number: u64) -> u16 {
    let (mut body, text) = (String::new(), "x".repeat(7800));
    for id in 0..SIZE {
        write!(body, r#"{{"id":"{number}-{id}","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING","#).unwrap();
        writeln!(body, r#""job_resource_info":{{"resource_name":"{text}"}}}}"#).unwrap();
    }
    post(internal, &report_path(PROJECT), OPS, &body).status
}

/// The files of the log with this prefix.
fn files(faulty: &Faulty, prefix: &str) -> usize {
    let names = fs::read_dir(faulty.files.path("data")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with(prefix)).count()
}

#[test]
fn reports_are_accepted_while_a_snapshot_is_delayed_or_fails() {
    let mut faulty = Faulty::new();
    faulty.fail("write", "/snapshot-", 0, 0, 0);
    for number in 0..REPORTS {
        assert_eq!(report(faulty.program.internal, number), 200);
    }
    let mut counted = 10 + REPORTS * SIZE;
    until("a snapshot has begun", || (files(&faulty, "snapshot-") > 0).then_some(()));
    assert_eq!(report(faulty.program.internal, REPORTS), 200);
    counted += SIZE;
    faulty.assert_counts(counted);
    faulty.fail("write", "/snapshot-", ENOSPC, 0, 0);
    faulty.program.await_log("no snapshot has been made; the log goes on without");
    until("what there was of it is gone", || (files(&faulty, "snapshot-") == 0).then_some(()));
    assert_eq!(report(faulty.program.internal, REPORTS + 1), 200);
    counted += SIZE;
    faulty.assert_counts(counted);
    faulty.clear_faults();

    // At each start the log is long enough for a snapshot, which begins and is killed at another moment.
    let mut random = Random::new(5);
    for _ in 0..10 {
        faulty.restart(false);
        faulty.assert_counts(counted);
        thread::sleep(Duration::from_millis(random.below(600) as u64));
    }
    faulty.restart(false);
    until("it is complete and has replaced the log", || {
        (files(&faulty, "snapshot-") == 1 && files(&faulty, "log-") == 1).then_some(())
    });
    faulty.restart(true);
    faulty.assert_counts(counted);
}

#[test]
fn a_snapshot_that_cannot_be_renamed_replaces_nothing() {
    for (kind, error) in [("rename", ENOSPC), ("sync", ENOSPC)] {
        let mut faulty = Faulty::new();
        faulty.fail(kind, "/snapshot-", error, 0, 0);
        for number in 0..REPORTS {
            assert_eq!(report(faulty.program.internal, number), 200);
        }
        faulty.program.await_log("no snapshot has been made; the log goes on without");
        let counted = 10 + REPORTS * SIZE;
        faulty.assert_counts(counted);
        faulty.restart(true);
        faulty.assert_counts(counted);
    }
}
