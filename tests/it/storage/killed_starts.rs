//! The first start is killed at a random moment. The next start succeeds.

use std::thread;
use std::time::Duration;

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, record, report_path};
use crate::support::program::{Program, serve};
use crate::support::random::Random;

#[test]
fn a_first_start_that_is_killed_can_be_repeated() {
    let mut random = Random::new(3);
    for round in 0..30 {
        let files = Files::new();
        let args = ["--access", &files.access(), "--data-dir", &files.arg("data")];
        for _ in 0..=round % 3 {
            let mut child = serve(&args).spawn().unwrap();
            // The program may be ready by then or not.
            thread::sleep(Duration::from_micros(random.below(40_000) as u64));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_good(&args);
    }
}

/// Asserts that a program starts without subtasks, accepts a report, and has it after a restart.
pub(crate) fn assert_good(args: &[&str]) {
    let program = Program::start(args);
    assert_eq!(program.count(""), 0);
    let report = record("1", "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, &report).status, 200);
    drop(program);
    assert_eq!(Program::start(args).count(""), 1);
}
