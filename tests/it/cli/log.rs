//! The log: values that a machine can read, and one line of JSON for each event, also for the last one.

use crate::support::blocking::{exchange, get};
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, count_path, load_line};
use crate::support::program::{Program, Signal, event, run, serve};
use crate::support::wait::until;

#[test]
fn request_ids_are_strings_and_durations_are_seconds() {
    let files = Files::new();
    let load = files.put("load.ndjson", &load_line(PROJECT, "1", "CREATE_SERVER", "RUNNING"));
    let mut command = serve(&["--access", &files.access(), "--load", &load, "--drain", "1500ms"]);
    let program = Program::begin_with(command.env("RUST_LOG", "debug"));
    program.await_log("ready");
    exchange(program.public, request("GET", &count_path(PROJECT), OPS, &["X-Request-Id: rid-1", "Connection: close"]));
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    let events: Vec<_> = log.iter().map(|line| event(line)).collect();
    let answered = events.iter().find(|event| event["request_id"] == "rid-1").expect("it is in the log");
    let took = answered["duration_seconds"].as_f64().unwrap();
    assert!(took > 0.0 && took < 10.0, "{answered}");
    let draining = events.iter().find(|event| event["message"] == "draining").unwrap();
    assert_eq!((draining["delay_seconds"].as_f64(), draining["timeout_seconds"].as_f64()), (Some(0.0), Some(1.5)));
    let loaded = events.iter().find(|event| event["message"] == "loaded").unwrap();
    assert!(loaded["duration_seconds"].as_f64().unwrap() < 30.0, "{loaded}");
    // No duration has a unit, for example 1.5s or 3µs.
    let is_duration = |text: &str| {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        unit.len() < text.len() && ["s", "ms", "µs", "ns"].contains(&unit)
    };
    for event in events {
        for (field, value) in event.as_object().unwrap() {
            assert!(!value.as_str().is_some_and(is_duration), "{field}: {event}");
        }
    }
}

#[test]
fn the_text_format_has_the_same_values() {
    let files = Files::new();
    let mut command = serve(&["--access", &files.access(), "--log-format", "text"]);
    let program = Program::begin_with(command.env("RUST_LOG", "debug"));
    until("it is ready", || (get(program.internal, "/readyz", "").status == 200).then_some(()));
    exchange(program.public, request("GET", &count_path(PROJECT), OPS, &["X-Request-Id: rid-1", "Connection: close"]));
    program.signal(Signal::Term);
    let log = program.ended().1;
    let answered = log.iter().find(|line| line.contains("request_id=\"rid-1\"")).expect("it is in the log");
    let duration: f64 = answered.split_once("duration_seconds=").unwrap().1.parse().unwrap();
    assert!(duration > 0.0 && duration < 10.0, "{answered}");
}

#[test]
fn a_fatal_error_has_the_format_of_the_log() {
    let files = Files::new();
    let access = files.access();
    for (args, said) in [
        (&["--access", "/nowhere"][..], "/nowhere: No such file"),
        (&[], "there is no access file"),
        (&["--colour"], "unexpected argument '--colour' found"),
        (&["--access", &access, "--load", "/nowhere"], "/nowhere: No such file"),
        (&["--access", &access, "--drain", "x"], "invalid value 'x' for '--drain <DURATION>'"),
        (&["--access", &access, "--data-dir", "/dev/null"], "/dev/null"),
    ] {
        for quiet in ["info", "off"] {
            let by_flag = serve(&[args, &["--log-format", "json"]].concat());
            let mut by_variable = serve(args);
            by_variable.env("SUBJOBS_LOG_FORMAT", "json");
            // The default: standard error is not a terminal.
            let by_default = serve(args);
            for mut command in [by_flag, by_variable, by_default] {
                let output = run(command.env("RUST_LOG", quiet), "");
                let lines = String::from_utf8(output.stderr).unwrap();
                let events: Vec<_> = lines.lines().map(event).collect();
                let last = events.last().unwrap_or_else(|| panic!("{args:?}: nothing is said"));
                assert_eq!(last["level"], "ERROR", "{args:?}: {last}");
                assert!(last["message"].as_str().unwrap().contains(said), "{args:?}: {last}");
                assert!(last["timestamp"].is_string());
            }
        }
    }
}

/// A reader gets all lines, also of a short run that logs much.
#[test]
fn the_last_lines_of_the_log_are_written_before_the_exit() {
    let files = Files::new();
    for _ in 0..20 {
        let output = run(serve(&["--access", &files.access(), "--load", "/nowhere"]).env("RUST_LOG", "trace"), "");
        let lines = String::from_utf8(output.stderr).unwrap();
        assert!(event(lines.lines().last().unwrap())["message"].as_str().unwrap().starts_with("/nowhere: "), "{lines}");
    }
}

/// A slow reader gets whole lines in order. Lines may be dropped.
#[test]
fn a_slow_reader_gets_whole_lines() {
    let files = Files::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut command, _) = crate::support::streams::give(
        serve(&["--access", &files.access()]).env("RUST_LOG", "trace"),
        2,
        crate::support::streams::Unwritable::ReadOnly,
    );
    let mut child = command.stderr(writer).spawn().unwrap();
    drop(command);
    let [public, internal] = crate::support::streams::addresses(&child);
    until("it is ready", || (get(internal, "/readyz", "").status == 200).then_some(()));
    for _ in 0..300 {
        assert_eq!(get(public, &count_path(PROJECT), OPS).status, 200);
    }
    // The reader starts only now.
    let lines = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut { reader }, &mut text).unwrap();
        text
    });
    std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert_eq!(crate::support::streams::exit_code(&mut child), 0);
    let text = lines.join().unwrap();
    assert!(text.lines().map(event).any(|event| event["message"] == "stopped"), "{text}");
}
