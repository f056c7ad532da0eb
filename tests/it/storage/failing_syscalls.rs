//! Writes and fsyncs fail: the report gets 503 and is not counted, and counts are served.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::storage::killed_starts::assert_good;
use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, code, load_line, report_path};
use crate::support::lines::Lines;
use crate::support::program::{Program, Signal, run, serve, text};
use crate::support::wait::until;

const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// The library that makes system calls fail.
static CALLS: LazyLock<PathBuf> = LazyLock::new(|| compile("calls"));

/// Compiles a library.
pub(crate) fn compile(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/faults/{name}.c"));
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.so", std::process::id()));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(&library);
    let output = compiler.arg(source).arg("-ldl").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    library
}

/// A program with the library. A file tells the library which calls fail.
pub(crate) struct Faulty {
    pub(crate) files: Files,
    pub(crate) program: Program,
    /// The number of subtasks in all reports so far.
    next: u64,
}

impl Faulty {
    pub(crate) fn new() -> Self {
        let files = Files::new();
        let mut faulty = Self { program: Self::start(&files), files, next: 0 };
        assert_eq!(faulty.report(10), 200);
        faulty
    }

    fn start(files: &Files) -> Program {
        let program = Program::begin_with(&mut Self::command(files));
        program.await_log("ready");
        program
    }

    fn command(files: &Files) -> Command {
        let mut command = serve(&["--access", &files.access(), "--data-dir", &files.arg("data")]);
        command.env("LD_PRELOAD", &*CALLS).env("FAULTS_CONTROL", files.path("control"));
        command
    }

    /// Makes these calls fail from now on: see the source of the library.
    pub(crate) fn fail(&self, kind: &str, part: &str, error: i32, pass: u32, times: u32) {
        self.files.put("control.new", &format!("{kind} {part} {error} {pass} {times}"));
        fs::rename(self.files.path("control.new"), self.files.path("control")).unwrap();
    }

    /// From now on no call fails.
    pub(crate) fn clear_faults(&self) {
        fs::remove_file(self.files.path("control")).unwrap();
    }

    fn is_failing(&self) -> bool {
        self.files.path("control").exists()
    }

    /// The number of lines of the log with this text.
    fn said(&self, text: &str) -> usize {
        let count = |lines: &[String]| Some(lines.iter().filter(|line| line.contains(text)).count());
        self.program.log.await_in(text, count)
    }

    /// Reports this number of new subtasks. Returns the status.
    fn report(&mut self, size: u64) -> u16 {
        let mut body = String::new();
        for id in self.next..self.next + size {
            writeln!(body, r#"{{"id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"RUNNING"}}"#).unwrap();
        }
        self.next += size;
        let answer = post(self.program.internal, &report_path(PROJECT), OPS, &body);
        match answer.status {
            200 => {}
            _ => drop(answer.assert_error(503, code::UNAVAILABLE)),
        }
        answer.status
    }

    /// Asserts that every count is this number.
    pub(crate) fn assert_counts(&self, expected: u64) {
        for query in ["", "?status=RUNNING", "?job_id=j", "?job_type=CREATE_SERVER"] {
            assert_eq!(self.program.count(query), expected, "{query}");
        }
    }

    /// Asserts that a refused report of that size is absent after a clean restart, and whole or absent after a kill. Returns the
    /// count.
    fn assert_refused(&self, before: u64, size: u64, is_clean: bool) -> u64 {
        let counted = self.program.count("");
        assert!(counted == before || !is_clean && counted == before + size, "{counted}");
        self.assert_counts(counted);
        counted
    }

    /// Asserts that every report is refused.
    fn assert_sealed(&mut self, counted: u64) {
        let end = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < end {
            assert_eq!(self.report(1), 503);
        }
        self.assert_counts(counted);
    }

    /// Stops the program by a signal or a kill, and starts it again.
    pub(crate) fn restart(&mut self, is_clean: bool) {
        if is_clean {
            self.program.signal(Signal::Term);
            self.program.await_log("stopped");
        }
        self.program.kill();
        self.program = Self::start(&self.files);
    }
}

#[test]
fn reports_are_refused_after_a_failed_fsync_until_a_restart() {
    for is_clean in [true, false] {
        let mut faulty = Faulty::new();
        faulty.fail("sync", "/log-", EIO, 0, 1);
        assert_eq!(faulty.report(3), 503);
        assert!(!faulty.is_failing());
        faulty.assert_sealed(10);
        faulty.restart(is_clean);
        let counted = faulty.assert_refused(10, 3, is_clean);
        assert_eq!(faulty.report(5), 200);
        faulty.assert_counts(counted + 5);
    }
}

#[test]
fn a_failed_write_is_not_counted_and_reports_resume_after_it() {
    // A small report and a large one. Nothing or half of it is written.
    for (size, kind) in [(1, "write"), (2000, "write"), (1, "short"), (2000, "short")] {
        let mut faulty = Faulty::new();
        faulty.fail(kind, "/log-", ENOSPC, 0, 0);
        assert_eq!(faulty.report(size), 503);
        let end = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < end {
            assert_eq!(faulty.report(1), 503);
        }
        faulty.assert_counts(10);
        faulty.clear_faults();
        until("reports are taken again", || (faulty.report(7) == 200).then_some(()));
        faulty.assert_counts(17);
        assert_eq!(faulty.report(size), 200);
        faulty.assert_counts(17 + size);
        faulty.program.await_log("reports are stored again");
        for once in ["a report could not be stored", "reports are stored again"] {
            assert_eq!(faulty.said(once), 1, "{once}");
        }
        faulty.restart(false);
        faulty.assert_counts(17 + size);
    }
}

#[test]
fn a_report_refused_on_a_full_disk_is_absent_after_a_restart() {
    for (size, is_clean) in [(1, true), (1, false), (2000, true), (2000, false)] {
        let mut faulty = Faulty::new();
        faulty.fail("write", "/log-", ENOSPC, 0, 1);
        assert_eq!(faulty.report(size), 503);
        assert!(!faulty.is_failing());
        faulty.restart(is_clean);
        let counted = faulty.assert_refused(10, size, is_clean);
        assert_eq!(faulty.report(5), 200);
        faulty.restart(true);
        faulty.assert_counts(counted + 5);
    }
}

#[test]
fn a_partial_write_is_truncated_and_the_next_report_is_stored() {
    for (size, kind, is_clean) in [(3, "write", true), (2000, "short", true), (2000, "short", false)] {
        let mut faulty = Faulty::new();
        faulty.fail(kind, "/log-", EIO, 0, 2);
        assert_eq!((faulty.report(size), faulty.report(size)), (503, 503));
        assert!(!faulty.is_failing());
        faulty.assert_counts(10);
        assert_eq!(faulty.report(5), 200);
        faulty.assert_counts(15);
        faulty.program.await_log("reports are stored again");
        for once in ["none is until a write succeeds", "reports are stored again"] {
            assert_eq!(faulty.said(once), 1, "{once}");
        }
        faulty.restart(is_clean);
        faulty.assert_counts(15);
        assert_eq!(faulty.report(5), 200);
    }
}

#[test]
fn a_failed_truncation_ends_reports_until_a_restart() {
    for is_clean in [true, false] {
        let mut faulty = Faulty::new();
        faulty.fail("short", "/log-", ENOSPC, 0, 1);
        assert_eq!(faulty.report(200), 503);
        // The first truncation succeeds, the second one fails.
        assert_eq!(faulty.report(200), 200);
        faulty.fail("both", "/log-", if is_clean { ENOSPC } else { EIO }, 0, 0);
        assert_eq!(faulty.report(200), 503);
        faulty.clear_faults();
        faulty.assert_sealed(210);
        faulty.restart(is_clean);
        faulty.assert_counts(210);
        assert_eq!(faulty.report(5), 200);
    }
}

#[test]
fn a_report_is_acknowledged_only_after_the_commit_mark_is_written() {
    for error in [EIO, ENOSPC] {
        let mut faulty = Faulty::new();
        faulty.fail("write", "acknowledged", error, 0, 1);
        assert_eq!(faulty.report(3), 503);
        faulty.assert_sealed(10);
        faulty.restart(error == EIO);
        // The mark may be on disk in spite of the error.
        let counted = faulty.assert_refused(10, 3, false);
        assert_eq!(faulty.report(5), 200);
        faulty.assert_counts(counted + 5);
    }
}

#[test]
fn reports_are_refused_after_a_failed_fsync_of_the_commit_mark() {
    let mut faulty = Faulty::new();
    faulty.fail("sync", "acknowledged", EIO, 0, 1);
    let mut counted = 10;
    // The mark is flushed about a second after a report.
    until("reports are refused", || {
        let status = faulty.report(1);
        counted += u64::from(status == 200);
        (status == 503).then_some(())
    });
    assert!(!faulty.is_failing());
    faulty.assert_sealed(counted);
    faulty.restart(true);
    faulty.assert_counts(counted);
}

#[test]
fn the_program_is_alive_and_not_ready_until_recovery_ends() {
    let mut faulty = Faulty::new();
    for goes_on in [false, true] {
        faulty.program.kill();
        faulty.fail("read", "/log-", 0, 0, 0);
        faulty.program = Program::begin_with(&mut Faulty::command(&faulty.files));
        let program = &faulty.program;
        assert_eq!((program.internal_status("/healthz"), program.internal_status("/readyz")), (200, 503));
        program.ask(OPS, "").assert_error(503, code::UNAVAILABLE);
        let line = load_line(PROJECT, "1", "CREATE_SERVER", "RUNNING");
        post(program.internal, &report_path(PROJECT), OPS, &line).assert_error(503, code::UNAVAILABLE);
        if goes_on {
            faulty.clear_faults();
            let loaded = program.await_log("loaded");
            assert_eq!((&loaded["from"], &loaded["sub_jobs"]), (&faulty.files.arg("data").into(), &10.into()));
            program.await_log("ready");
            assert_eq!(program.internal_status("/readyz"), 200);
            faulty.assert_counts(10);
        } else {
            program.signal(Signal::Term);
            program.await_log("stopped");
        }
    }
}

#[test]
fn a_start_that_cannot_write_fails_and_changes_nothing() {
    let mut faulty = Faulty::new();
    for (kind, part) in [
        ("sync", "acknowledged"),
        ("write", "acknowledged"),
        ("sync", "/log-"),
        ("write", "/log-"),
        ("read", "/log-"),
        ("read", "acknowledged"),
    ] {
        faulty.program.kill();
        faulty.fail(kind, part, EIO, 0, 0);
        let output = run(&mut Faulty::command(&faulty.files), "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{kind} {part}: {said}");
        assert!(said.lines().last().unwrap().contains("Input/output error"), "{kind} {part}: {said}");
        faulty.clear_faults();
        faulty.program = Faulty::start(&faulty.files);
        faulty.assert_counts(10);
    }
}

#[test]
fn a_first_start_that_fails_at_any_fsync_can_be_repeated() {
    for pass in 0.. {
        let files = Files::new();
        files.put("control", &format!("sync {} {EIO} {pass} 0", files.arg("data")));
        let mut child = Faulty::command(&files).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let is_ready = log.await_in("a start or an end", |lines| {
            let has = |text: &str| lines.iter().any(|line| line.contains(text));
            if has("\"ready\"") { Some(true) } else { has("Input/output error").then_some(false) }
        });
        if is_ready {
            child.kill().unwrap();
        }
        let code = child.wait().unwrap().code();
        assert!(is_ready || [Some(1), Some(2)].contains(&code), "flush {pass}: exit code {code:?}");
        assert_good(&["--access", &files.access(), "--data-dir", &files.arg("data")]);
        if is_ready {
            assert!(pass > 7, "after {pass} flushes it is ready");
            return;
        }
    }
}
