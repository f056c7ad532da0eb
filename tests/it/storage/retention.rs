//! `--retain-finished` of the program, with a wall clock that jumps.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::storage::failing_syscalls::compile;
use crate::support::http::post;
use crate::support::program::{Files, Program, Signal, report_path, serve, until};
use crate::support::server::{OPS, PROJECT};

/// The library that sets the clock.
static CLOCK: LazyLock<PathBuf> = LazyLock::new(|| compile("clock"));

const DAY: i64 = 24 * 60 * 60;
const JUMPED: &str = "the clock has jumped: until it agrees again, or that time has passed, finished subtasks are dropped by \
                      the earlier one of its old time and its new time";
const AGREES: &str = "the clock agrees again with the time that has passed";
const FAR_AHEAD: &str = "the clock is far ahead of the last write to the data directory: until that time has passed, \
                         finished subtasks are dropped as if no time had passed between";
const DROPPED: &str = "finished subtasks dropped: they ended longer ago than --retain-finished";

/// The program on a data directory, which it keeps for thirty days, and its wall clock.
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

/// Reports subtasks that have ended at that time, or just now.
fn report(program: &Program, prefix: &str, number: u32, end_time: Option<&str>) {
    let (mut body, end_time) =
        (String::new(), end_time.map(|end| format!(r#","end_time":"{end}""#)).unwrap_or_default());
    for id in 0..number {
        let rest = format!(r#""job_id":"j","job_type":"CREATE_SERVER","status":"SUCCESS"{end_time}"#);
        writeln!(body, r#"{{"id":"{prefix}{id}",{rest}}}"#).unwrap();
    }
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, &body).status, 200);
}

fn dropped(program: &Program) -> u64 {
    program.metric("subjobs_expired_total").unwrap()
}

/// Waits until so many have been dropped in all.
fn await_dropped(program: &Program, number: u64) {
    until("the old ones are dropped", || (dropped(program) == number).then_some(()));
}

#[test]
fn a_clock_that_jumps_ahead_drops_only_what_was_old_before() {
    let files = Files::new();
    let program = start(&files);
    report(&program, "new", 100, None);
    report(&program, "old", 10, Some("2020-01-01T00:00:00Z"));
    await_dropped(&program, 10);
    let line = program.await_log(DROPPED);
    assert_eq!((&line["level"], &line["dropped"]), (&Value::from("INFO"), &Value::from(10)));

    set_clock(&files, 3650 * DAY);
    let line = program.await_log(JUMPED);
    let ahead = line["ahead_seconds"].as_i64().unwrap();
    assert!((3650 * DAY - 60..3650 * DAY + 60).contains(&ahead), "{line}");
    assert_eq!((&line["level"], &line["until_seconds"]), (&Value::from("WARN"), &Value::from(DAY)));
    // What is old by the time before the jump goes, which also tells that a pass has been made since.
    report(&program, "other", 10, Some("2020-01-01T00:00:00Z"));
    await_dropped(&program, 20);
    assert_eq!(program.count(""), 100);

    set_clock(&files, 0);
    program.await_log(AGREES);
    report(&program, "more", 10, Some("2020-01-01T00:00:00Z"));
    await_dropped(&program, 30);
    assert_eq!(program.count(""), 100);
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!((code, log.iter().filter(|line| line.contains("has jumped")).count()), (0, 1), "{}", log.join("\n"));
}

#[test]
fn a_clock_that_is_ahead_at_a_start_drops_nothing_that_was_young() {
    let files = Files::new();
    let program = start(&files);
    report(&program, "new", 100, None);
    drop(program);
    set_clock(&files, 3650 * DAY);
    let program = start(&files);
    program.await_log(FAR_AHEAD);
    report(&program, "old", 10, Some("2020-01-01T00:00:00Z"));
    await_dropped(&program, 10);
    assert_eq!(program.count(""), 100);
}

#[test]
fn a_clock_that_goes_back_drops_nothing_early() {
    let files = Files::new();
    let program = start(&files);
    report(&program, "old", 10, Some("2020-01-01T00:00:00Z"));
    await_dropped(&program, 10);
    set_clock(&files, -20 * 365 * DAY);
    program.await_log(JUMPED);
    report(&program, "other", 10, Some("2020-01-01T00:00:00Z"));
    report(&program, "ancient", 5, Some("1990-01-01T00:00:00Z"));
    await_dropped(&program, 15);
    assert_eq!(program.count(""), 10);
    set_clock(&files, 0);
    await_dropped(&program, 25);
}
