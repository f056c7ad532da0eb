//! `--retain-finished` of the program, with a wall clock that jumps.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::storage::failing_syscalls::compile;
use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, report_path};
use crate::support::program::{Program, Signal, serve};
use crate::support::wait::until;

/// The library that sets the clock.
static CLOCK: LazyLock<PathBuf> = LazyLock::new(|| compile("clock"));

const DAY: i64 = 24 * 60 * 60;
const JUMPED: &str = "wall clock jumped: retention uses the earlier of the old and the new time until the clock agrees with \
                      elapsed time again, or for until_seconds";
const AGREES: &str = "wall clock agrees with elapsed time again";
const FAR_AHEAD: &str = "wall clock is far ahead of the last write to the data directory: retention ignores the time between, \
                         for until_seconds";
const DELETED: &str = "expired subtasks deleted: they ended longer ago than --retain-finished";

/// The command of the program with a retention of thirty days and a wall clock that the test sets.
fn command(files: &Files) -> Command {
    let mut command =
        serve(&["--access", &files.access(), "--data-dir", &files.arg("data"), "--retain-finished", "30d"]);
    command.env("LD_PRELOAD", &*CLOCK).env("CLOCK_CONTROL", files.path("clock"));
    command
}

fn start(files: &Files) -> Program {
    let program = Program::begin_with(&mut command(files));
    program.await_log("ready");
    program
}

fn set_clock(files: &Files, seconds: i64) {
    files.put("clock.new", &seconds.to_string());
    fs::rename(files.path("clock.new"), files.path("clock")).unwrap();
}

/// Reports subtasks that ended at that time, or now.
fn report(program: &Program, prefix: &str, number: u32, end_time: Option<&str>) {
    let (mut body, end_time) =
        (String::new(), end_time.map(|end| format!(r#","end_time":"{end}""#)).unwrap_or_default());
    for id in 0..number {
        let rest = format!(r#""job_id":"j","job_type":"CREATE_SERVER","status":"SUCCESS"{end_time}"#);
        writeln!(body, r#"{{"id":"{prefix}{id}",{rest}}}"#).unwrap();
    }
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, &body).status, 200);
}

fn deleted(program: &Program) -> u64 {
    program.metric("subjobs_expired_total").unwrap()
}

/// Waits until this number of subtasks has been deleted in all.
fn await_deleted(program: &Program, number: u64) {
    until("the expired ones are deleted", || (deleted(program) == number).then_some(()));
}

#[test]
fn a_clock_that_jumps_ahead_expires_nothing_early() {
    let files = Files::new();
    let program = start(&files);
    report(&program, "new", 100, None);
    report(&program, "old", 10, Some("2020-01-01T00:00:00Z"));
    await_deleted(&program, 10);
    let line = program.await_log(DELETED);
    assert_eq!((&line["level"], &line["deleted"]), (&Value::from("INFO"), &Value::from(10)));

    set_clock(&files, 3650 * DAY);
    let line = program.await_log(JUMPED);
    let ahead = line["ahead_seconds"].as_i64().unwrap();
    assert!((3650 * DAY - 60..3650 * DAY + 60).contains(&ahead), "{line}");
    assert_eq!((&line["level"], &line["until_seconds"]), (&Value::from("WARN"), &Value::from(DAY)));
    // Subtasks that are old by the clock before the jump expire, which shows that a pass has run since.
    report(&program, "other", 10, Some("2020-01-01T00:00:00Z"));
    await_deleted(&program, 20);
    assert_eq!(program.count(""), 100);

    set_clock(&files, 0);
    program.await_log(AGREES);
    report(&program, "more", 10, Some("2020-01-01T00:00:00Z"));
    await_deleted(&program, 30);
    assert_eq!(program.count(""), 100);
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(
        (code, log.iter().filter(|line| line.contains("wall clock jumped")).count()),
        (0, 1),
        "{}",
        log.join("\n")
    );
}

#[test]
fn a_clock_that_is_ahead_at_the_start_expires_nothing_early() {
    let files = Files::new();
    let program = start(&files);
    report(&program, "new", 100, None);
    drop(program);
    set_clock(&files, 3650 * DAY);
    let program = start(&files);
    program.await_log(FAR_AHEAD);
    report(&program, "old", 10, Some("2020-01-01T00:00:00Z"));
    await_deleted(&program, 10);
    assert_eq!(program.count(""), 100);
}

#[test]
fn a_clock_that_is_set_back_expires_nothing_early() {
    let files = Files::new();
    let program = start(&files);
    report(&program, "old", 10, Some("2020-01-01T00:00:00Z"));
    await_deleted(&program, 10);
    set_clock(&files, -20 * 365 * DAY);
    program.await_log(JUMPED);
    report(&program, "other", 10, Some("2020-01-01T00:00:00Z"));
    report(&program, "ancient", 5, Some("1990-01-01T00:00:00Z"));
    await_deleted(&program, 15);
    assert_eq!(program.count(""), 10);
    set_clock(&files, 0);
    await_deleted(&program, 25);
}
