//! Standard output that cannot be written: the command fails, and its exit code says so.

use std::process::{Command, Stdio};

use crate::support::fixtures::{Files, PROJECT, load_line};
use crate::support::program::{Program, Signal, serve, subjobs, text};
use crate::support::streams::{UNWRITABLE, Unwritable, exit_code, give};

/// A data directory with this number of subtasks.
fn data_dir(files: &Files, sub_jobs: usize) -> String {
    let lines: String =
        (0..sub_jobs).map(|id| load_line(PROJECT, &format!("id-{id}"), "CREATE_SERVER", "RUNNING") + "\n").collect();
    let (load, dir) = (files.put("load.ndjson", &lines), files.arg(&format!("data-{sub_jobs}")));
    let program = Program::start(&["--access", &files.access(), "--load", &load, "--data-dir", &dir]);
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    dir
}

#[test]
fn an_export_to_a_closed_output_fails() {
    let files = Files::new();
    for sub_jobs in [0, 1, 2000] {
        let dir = data_dir(&files, sub_jobs);
        for (broken, code) in
            [(Unwritable::Closed, 1), (Unwritable::Full, 1), (Unwritable::ReadOnly, 1), (Unwritable::NoReader, 0)]
        {
            let expected = if sub_jobs == 0 && broken != Unwritable::Closed { 0 } else { code };
            let (mut command, _reader) = give(&mut subjobs(&["export", "--data-dir", &dir]), 1, broken);
            let output = command.stderr(Stdio::piped()).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(expected), "{sub_jobs}, {broken:?}: {said}");
            assert_eq!(said.contains("cannot write: "), expected == 1, "{broken:?}: {said}");
        }
        // /dev/null is a valid output: it serves to check that the directory can be read.
        let discarded = subjobs(&["export", "--data-dir", &dir]).stdout(Stdio::null()).status().unwrap();
        assert_eq!(discarded.code(), Some(0));
    }
}

#[test]
fn an_export_waits_for_a_slow_reader_of_a_non_blocking_pipe() {
    let files = Files::new();
    let dir = data_dir(&files, 3000);
    let (mut command, reader) = give(&mut subjobs(&["export", "--data-dir", &dir]), 1, Unwritable::StuckNonBlocking);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut read = String::new();
    std::io::Read::read_to_string(&mut reader.unwrap(), &mut read).unwrap();
    assert_eq!(read.trim_start().lines().count(), 3000);
    assert_eq!(exit_code(&mut child), 0);
}

#[test]
fn commands_with_an_unwritable_output_have_documented_exit_codes() {
    let files = Files::new();
    let (access, bad) = (files.access(), files.put("bad.toml", "x"));
    for broken in UNWRITABLE {
        if matches!(broken, Unwritable::Stuck | Unwritable::StuckNonBlocking) {
            // These commands wait for their reader, as any program does.
            continue;
        }
        let is_closed = broken == Unwritable::Closed;
        let has_no_reader = broken == Unwritable::NoReader;
        let failed = 1;
        for (args, code) in [
            (&["token"][..], failed),
            (&["check", "--access", &access], 0),
            (&["check", "--access", &bad], 2),
            (&["--help"], if is_closed || has_no_reader { 0 } else { failed }),
            (&["--version"], if is_closed || has_no_reader { 0 } else { failed }),
            (&["serve", "--help"], if is_closed || has_no_reader { 0 } else { failed }),
        ] {
            let (mut command, _reader) = give(&mut subjobs(args), 1, broken);
            assert_eq!(exit_code(&mut command.spawn().unwrap()), code, "{broken:?}: {args:?}");
        }
    }
}

#[test]
fn the_demo_runs_with_an_unwritable_output() {
    for broken in UNWRITABLE {
        let (mut command, _reader) = give(&mut serve(&["--demo"]), 1, broken);
        let program = Program::begin_with(command.stderr(Stdio::piped()));
        program.await_log("ready");
        program.signal(Signal::Term);
        assert_eq!(program.ended().0, 0, "{broken:?}");
    }
}

/// A server whose addresses are lost is of no use.
#[test]
fn an_ephemeral_server_ends_if_its_addresses_are_neither_printed_nor_in_a_file() {
    let files = Files::new();
    for broken in UNWRITABLE {
        let fails = !matches!(broken, Unwritable::Stuck | Unwritable::StuckNonBlocking | Unwritable::Closed);
        if fails {
            let (mut command, _reader) = give(&mut subjobs(&["serve", "--ephemeral"]), 1, broken);
            let output = command.stderr(Stdio::piped()).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{broken:?}: {said}");
            assert!(said.contains("cannot write the addresses to standard output: "), "{broken:?}: {said}");
        }
        let file = files.arg("addresses.json");
        let with_file = ["serve", "--ephemeral", "--addresses-file", &file];
        let args = if fails { &with_file[..] } else { &with_file[..2] };
        let (mut command, _reader) = give(&mut subjobs(args), 1, broken);
        let program = Program::begin_with(command.stderr(Stdio::piped()));
        program.await_log("ready");
        program.signal(Signal::Term);
        assert_eq!(program.ended().0, 0, "{broken:?}");
    }
}

/// No later file of the program may get the number of a closed standard stream.
#[test]
fn no_file_gets_the_descriptor_of_a_closed_standard_stream() {
    let files = Files::new();
    let program = serve(&["--access", &files.access(), "--data-dir", &files.arg("data")]);
    let mut command = Command::new("sh");
    command.arg("-c").arg("exec \"$0\" \"$@\" <&- >&- 2>&-").arg(program.get_program()).args(program.get_args());
    let mut child = command.spawn().unwrap();
    crate::support::streams::addresses(&child);
    let target = |fd: u8| std::fs::read_link(format!("/proc/{}/fd/{fd}", child.id())).unwrap();
    let targets = [0, 1, 2].map(target);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(targets.iter().all(|target| target.as_os_str() == "/dev/null"), "{targets:?}");
}
