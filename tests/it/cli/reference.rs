//! The completions and the manual page, read by the shells and by mandoc.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::fixtures::Files;
use crate::support::program::{run, subjobs, text};

/// What the program prints for these arguments.
fn printed(args: &[&str]) -> String {
    let output = run(&mut subjobs(args), "");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    text(&output.stdout)
}

/// What a program prints that must succeed without a word on standard error.
fn read_by(command: &mut Command) -> String {
    let output = run(command, "");
    assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    text(&output.stdout)
}

/// The words of a help that begin with `--`, and those that begin with `SUBJOBS_`.
fn options_in(help: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = help.split(|c| !is_part(c));
    words
        .filter(|word| word.len() > 2 && (word.starts_with("--") || word.starts_with("SUBJOBS_")))
        .map(str::to_owned)
        .collect()
}

/// The commands, by the help of the program.
fn commands() -> Vec<String> {
    let help = printed(&["--help"]);
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let lines = rest.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_shell_reads_its_completions_and_completes_options_and_commands() {
    let files = Files::new();
    let path = |shell: &str| files.put(shell, &printed(&["completions", shell]));
    let (bash, zsh, fish) = (path("bash"), path("zsh"), path("fish"));
    let complete = r#"source "$0"; COMP_WORDS=("${@}"); COMP_CWORD=$(($# - 1)); _subjobs subjobs "${@: -1}" "${@: -2:1}"; printf '%s\n' "${COMPREPLY[@]}""#;
    for (words, completed) in [
        (&["subjobs", "serve", "--max-in"][..], &["--max-in-flight"][..]),
        (&["subjobs", "heal"], &["healthcheck"]),
        (&["subjobs", "completions", "z"], &["zsh"]),
    ] {
        let found = read_by(Command::new("bash").args(["--norc", "-c", complete, &bash]).args(words));
        assert_eq!(found.lines().collect::<Vec<_>>(), completed, "{words:?}");
        // The completions for fish have no values of arguments.
        if words[1] == "completions" {
            continue;
        }
        let line = format!("source {fish}; complete -C '{}'", words.join(" "));
        let found = read_by(Command::new("fish").args(["--no-config", "-c", &line]).env("HOME", files.path("")));
        let names: Vec<_> = found.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(names, completed, "{words:?}");
    }
    read_by(Command::new("zsh").args(["-f", "-n", &zsh]));
    let all = std::fs::read_to_string(zsh).unwrap();
    for command in commands() {
        for option in options_in(&printed(&[&command, "--help"])).iter().filter(|word| word.starts_with("--")) {
            assert!(all.contains(option.as_str()), "{command} {option}");
        }
    }
    assert_eq!(run(&mut subjobs(&["completions", "tcsh"]), "").status.code(), Some(2));
}

#[test]
fn the_manual_page_has_every_option_of_every_help() {
    let files = Files::new();
    let page = files.put("subjobs.1", &printed(&["man"]));
    read_by(Command::new("mandoc").args(["-T", "lint", "-W", "error", &page]));
    let shown = read_by(Command::new("mandoc").args(["-T", "ascii", "-O", "width=200", &page]));
    // A bold letter is written twice, with a backspace between.
    let mut plain = String::new();
    for letter in shown.chars() {
        if letter == '\u{8}' {
            plain.pop();
        } else {
            plain.push(letter);
        }
    }
    let known = options_in(&plain);
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in &commands {
        assert!(plain.contains(&format!("SUBJOBS {}", command.to_uppercase())), "{command}");
        let options = options_in(&printed(&[command, "--help"]));
        assert!(options.is_subset(&known), "{command}: {:?}", options.difference(&known));
    }
    assert!(plain.contains("EXIT STATUS"));
}
