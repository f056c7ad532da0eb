//! The help of the program and of each of its commands.

use crate::support::fixtures::OPS;
use crate::support::program::{run, subjobs, text};
use crate::support::snapshot::assert_snapshot;

/// What `--help` prints for these arguments.
fn help(args: &[&str]) -> String {
    let output = run(subjobs(args).arg("--help").env("SUBJOBS_DEMO_TOKEN", OPS), "");
    assert_eq!(output.status.code(), Some(0));
    text(&output.stdout)
}

#[test]
fn help_lists_the_commands_and_explains_each_option() {
    assert_snapshot("help", &help(&[]));
    for command in ["serve", "token", "check", "export", "backup", "migrate", "healthcheck", "completions", "man"] {
        assert_snapshot(&format!("help_{command}"), &help(&[command]));
    }
}
