//! Reports and snapshots on a full disk.

use std::fmt::Write as _;

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, code, report_path};
use crate::support::program::Program;
use crate::support::small_disk::SmallDisk;
use crate::support::wait::until;

/// Reports new subtasks, and knows the expected count.
struct Reporter(u64);

impl Reporter {
    /// Reports forty subtasks of some 300 KiB. Returns the status.
    fn report(&mut self, program: &Program) -> u16 {
        let mut body = String::new();
        for number in 0..40 {
            let (id, text) = (self.0 + number, "x".repeat(7800));
            write!(body, r#"{{"id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"FAILED","#).unwrap();
            writeln!(body, r#""job_resource_info":{{"resource_name":"{text}"}}}}"#).unwrap();
        }
        let answer = post(program.internal, &report_path(PROJECT), OPS, &body);
        match answer.status {
            200 => self.0 += 40,
            _ => drop(answer.assert_error(503, code::UNAVAILABLE)),
        }
        self.assert_counts(program);
        answer.status
    }

    fn assert_counts(&self, program: &Program) {
        for query in ["", "?status=FAILED", "?job_id=j"] {
            assert_eq!(program.count(query), self.0, "{query}");
        }
    }

    /// Reports until a report is refused.
    fn fill(&mut self, program: &Program) {
        let full = (0..400).find(|_| self.report(program) == 503);
        assert!(full.is_some(), "the disk is never full");
    }
}

#[test]
fn a_full_disk_refuses_reports_until_it_has_space() {
    let files = Files::new();
    let Some(disk) = SmallDisk::new(&files, 64) else { return };
    disk.take(24);
    let mut program = disk.start(&files);
    let mut reporter = Reporter(0);
    reporter.fill(&program);
    assert!(reporter.0 > 0);
    assert_eq!(program.metric("subjobs_reports_storable"), Some(0));
    for _ in 0..5 {
        reporter.report(&program);
    }
    disk.free_space();
    until("reports are taken again", || (reporter.report(&program) == 200).then_some(()));
    assert_eq!(program.metric("subjobs_reports_storable"), Some(1));
    for _ in 0..5 {
        assert_eq!(reporter.report(&program), 200);
    }
    program.kill();
    program = disk.start(&files);
    reporter.assert_counts(&program);

    // The program may fail to start on a full disk. After a start it serves the stored subtasks.
    reporter.fill(&program);
    let counted = program.count("");
    program.kill();
    disk.take(64);
    let full = Program::begin_with(&mut disk.serve(&files));
    let is_ready = full.log.await_in("a start or an end", |lines| {
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        if has("\"ready\"") { Some(true) } else { has("No space left on device").then_some(false) }
    });
    if is_ready {
        assert_within_one(full.count(""), counted);
        drop(full);
    } else {
        assert_eq!(full.ended().0, 1);
    }
    disk.free_space();
    let program = disk.start(&files);
    assert_within_one(program.count(""), counted);
}

#[test]
fn a_disk_without_space_for_a_snapshot_has_space_for_reports() {
    let files = Files::new();
    let Some(disk) = SmallDisk::new(&files, 100) else { return };
    let mut program = disk.start(&files);
    let mut reporter = Reporter(0);
    // A snapshot begins when the log has 64 MiB, and there is no space for it. It is cancelled before a report is refused.
    reporter.fill(&program);
    program.await_log("no snapshot has been made; the log goes on without");
    assert!(reporter.0 * 7800 > 92 << 20, "{}", reporter.0);
    for _ in 0..5 {
        reporter.report(&program);
    }
    let counted = program.count("");
    program.kill();
    program = disk.start(&files);
    assert_within_one(program.count(""), counted);
}

/// Asserts that the last refused report is present as a whole or absent.
fn assert_within_one(count: u64, counted: u64) {
    assert!([counted, counted + 40].contains(&count), "{count}, of {counted}");
}
