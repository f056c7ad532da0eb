//! The demo, without any other option.

use std::process::{Command, Stdio};

use crate::support::blocking::get;
use crate::support::program::{Program, Signal, run, serve, text};
use crate::support::wait::until;

/// The token and the curl command that a demo prints.
fn greeting(program: &Program) -> (String, String) {
    program.out.await_in("curl line", |lines| {
        let token = lines.iter().find_map(|line| line.trim().strip_prefix("token "))?;
        let curl = lines.iter().map(|line| line.trim()).find(|line| line.starts_with("curl "))?;
        Some((token.trim().to_owned(), curl.to_owned()))
    })
}

/// Runs a command in a shell. Returns the count that it prints.
fn count_by(curl: &str) -> u64 {
    let output = run(Command::new("sh").arg("-c").arg(curl), "");
    let answer = text(&output.stdout);
    assert!(output.status.success(), "{curl}: {answer}{}", text(&output.stderr));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{curl}: {answer}"));
    answer["count"].as_u64().unwrap_or_else(|| panic!("{curl}: {answer}"))
}

#[test]
fn the_counts_of_the_demo_change() {
    let program = Program::begin(&["--demo"]);
    let (token, curl) = greeting(&program);
    program.await_log("ready");
    let first = count_by(&curl);
    until("the count changes", || (count_by(&curl) != first).then_some(()));

    let metrics = program.out.await_in("metrics", |lines| {
        lines.iter().find_map(|line| line.trim().strip_prefix("metrics ")).map(|url| url.trim().to_owned())
    });
    let metrics = text(&run(Command::new("curl").args(["--fail", "--silent", &metrics]), "").stdout);
    assert!(metrics.contains("subjobs_subtasks{"), "{metrics}");

    let path = curl.split_once(&program.public.to_string()).unwrap().1.trim_end_matches('\'').to_owned();
    assert_eq!(get(program.public, &path, &token).status, 200);
    assert_eq!(get(program.public, &path, "unknown-token").status, 401);
    assert_ne!(greeting(&Program::begin(&["--demo"])).0, token, "a new one each time");

    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    assert!(log.iter().all(|line| !line.contains(&token)), "{}", log.join("\n"));
}

#[test]
fn the_token_of_the_demo_can_be_set() {
    for token in ["plain-token", r#"it's-$HOME-`id`-"\-!*"#] {
        let program = Program::begin_with(serve(&["--demo"]).env("SUBJOBS_DEMO_TOKEN", token));
        program.await_log("ready");
        let (said, curl) = greeting(&program);
        assert_eq!(said, token);
        count_by(&curl);
    }
    for bad in ["two words", "é"] {
        let output = run(serve(&["--demo"]).env("SUBJOBS_DEMO_TOKEN", bad), "");
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(text(&output.stderr).contains("SUBJOBS_DEMO_TOKEN must"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_demo_runs_without_a_reader_of_its_output() {
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let program = Program::begin_with(serve(&["--demo"]).stdout(Stdio::from(closed)));
    program.await_log("ready");
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
}
