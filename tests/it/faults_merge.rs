//! The engine merges its files: what waits for it is refused when it fails, and kills in the middle of it lose nothing.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::faults_calls::{ENOSPC, Faulty};
use crate::http_support::post;
use crate::program_support::{Signal, report_path, until};
use crate::support::{OPS, PROJECT};

/// How many files there are at least when a report waits for a merge.
const FILES: usize = 24;

/// How many subtasks are in a report.
const SIZE: u64 = 2000;

/// How long nothing is heard of a report that waits for a merge; others take half of that.
const QUIET: Duration = Duration::from_secs(1);

/// Reports subtasks which take 16 MB; the status.
fn report(internal: SocketAddr, number: u64) -> u16 {
    let (mut body, text) = (String::new(), "x".repeat(7800));
    for id in 0..SIZE {
        write!(body, r#"{{"id":"{number}-{id}","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING","#).unwrap();
        writeln!(body, r#""job_resource_info":{{"resource_name":"{text}"}}}}"#).unwrap();
    }
    post(internal, &report_path(PROJECT), OPS, &body).status
}

#[test]
fn a_merge_that_fails_ends_the_wait_for_it_and_one_that_is_killed_is_done_again() {
    let mut faulty = Faulty::new();
    // The first merge is held up, and the files that come meanwhile hold up the reports in the end.
    faulty.fail("merge", "/tables/", 0, 0, 0);
    let (internal, (told, statuses)) = (faulty.program.internal, channel());
    let reporter =
        thread::spawn(move || (0..).take_while(|number| told.send(report(internal, *number)).is_ok()).count());
    let directory = faulty.files.path("data/engine/keyspaces/1/tables");
    let mut counted = 10;
    let is_held_up =
        |silence| silence == RecvTimeoutError::Timeout && fs::read_dir(&directory).unwrap().count() >= FILES;
    // Forty reports make thirty files.
    while counted < 10 + 100 * SIZE {
        match statuses.recv_timeout(QUIET) {
            Ok(status) => {
                assert_eq!(status, 200);
                counted += SIZE;
            }
            Err(silence) if is_held_up(silence) => break,
            Err(silence) => assert_eq!(silence, RecvTimeoutError::Timeout, "the reporter has crashed"),
        }
    }
    faulty.fail("merge", "/tables/", ENOSPC, 0, 0);
    // On a slow machine some may have been on their way still.
    let refused = statuses.iter().find(|status| {
        counted += if *status == 200 { SIZE } else { 0 };
        *status != 200
    });
    assert_eq!(refused, Some(503));
    drop(statuses);
    reporter.join().unwrap();
    faulty.program.await_log("a report could not be stored: none is until a restart");
    faulty.assert_counts(counted);
    faulty.program.signal(Signal::Term);
    faulty.program.await_log("stopped");
    assert!(!faulty.program.log.all().iter().any(|line| line.contains("still busy")));
    faulty.mend();

    // The merge begins anew at each start, and is killed at another moment.
    faulty.restart(false);
    for number in 0..3 {
        let before = fs::metadata(&directory).unwrap().modified().unwrap();
        until("the engine does something", || {
            (fs::metadata(&directory).unwrap().modified().unwrap() != before).then_some(())
        });
        thread::sleep(Duration::from_millis(100 * number));
        faulty.restart(false);
        faulty.assert_counts(counted);
    }
}
