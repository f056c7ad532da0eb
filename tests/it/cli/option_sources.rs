//! Every option has a variable, and every secret may be in a file.

use clap::{Arg, CommandFactory as _};
use subjobs::config::Cli;

use crate::support::fixtures::Files;
use crate::support::program::{Program, run, serve, subjobs, text};

/// Each command with each of its options and arguments.
fn arguments() -> Vec<(String, Arg)> {
    let mut cli = Cli::command();
    cli.build();
    let commands = cli.get_subcommands().map(|command| (command.get_name().to_owned(), command.get_arguments()));
    commands.flat_map(|(name, args)| args.map(|arg| (name.clone(), arg.clone())).collect::<Vec<_>>()).collect()
}

#[test]
fn every_option_of_every_command_has_a_variable() {
    let without: Vec<_> = arguments()
        .into_iter()
        .filter(|(_, arg)| arg.get_env().is_none() && !["help", "version"].contains(&arg.get_id().as_str()))
        .map(|(command, arg)| (command, arg.get_id().to_string()))
        .collect();
    // What these commands do, rather than how they do it.
    let expected = [("token", "hash"), ("check", "repair"), ("completions", "shell")];
    assert_eq!(without, expected.map(|(command, arg)| (command.to_owned(), arg.to_owned())));
    // A variable means the same in each command.
    let mut names: Vec<_> = arguments()
        .into_iter()
        .filter_map(|(_, arg)| Some((arg.get_env()?.to_owned(), arg.get_id().to_string())))
        .collect();
    names.sort();
    names.dedup();
    assert!(names.windows(2).all(|pair| pair[0].0 != pair[1].0), "{names:?}");
}

/// A secret is an option whose value the help never shows.
#[test]
fn every_secret_may_be_in_a_file() {
    let mut secrets: Vec<_> = arguments()
        .into_iter()
        .filter(|(_, arg)| arg.is_hide_env_values_set())
        .map(|(command, arg)| (command, arg.get_id().to_string(), arg.is_hide_set()))
        .collect();
    // The URL of a database may have a password; a file for that has a flag of its own.
    secrets.retain(|(command, id, is_hidden)| {
        let has_flag = arguments().iter().any(|(other, arg)| other == command && arg.get_id() == "store_password_file");
        !(id == "store" && has_flag && !is_hidden)
    });
    assert!(secrets.iter().all(|(_, _, is_hidden)| *is_hidden), "{secrets:?} have no file");
    assert!(secrets.iter().any(|(_, id, _)| id == "demo_token"));
}

#[test]
fn the_token_of_the_demo_is_read_from_a_file_unless_its_variable_is_set() {
    let files = Files::new();
    let path = files.put("token", "token-in-a-file\nnot this\n");
    let of_program = |variables: &[(&str, &str)]| {
        let mut command = serve(&["--demo"]);
        let program = Program::begin_with(command.envs(variables.iter().copied()));
        program.await_log("ready");
        let line = program.out.await_in("token", |lines| lines.iter().find(|line| line.contains("  token ")).cloned());
        assert!(!program.log.await_in("a line", |lines| Some(lines.to_vec())).concat().contains("unknown environment"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(of_program(&[("SUBJOBS_DEMO_TOKEN_FILE", &path)]), "token-in-a-file");
    assert_eq!(of_program(&[("SUBJOBS_DEMO_TOKEN_FILE", &path), ("SUBJOBS_DEMO_TOKEN", "")]), "token-in-a-file");
    assert_eq!(of_program(&[("SUBJOBS_DEMO_TOKEN_FILE", &path), ("SUBJOBS_DEMO_TOKEN", "given")]), "given");
    for (content, reason) in [("", "the first line is empty"), ("\nx", "the first line is empty")] {
        let path = files.put("bad", content);
        let mut command = subjobs(&["serve", "--demo", "--log-format", "text"]);
        let output = run(command.env("SUBJOBS_DEMO_TOKEN_FILE", &path), "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("SUBJOBS_DEMO_TOKEN_FILE: {path}: {reason}")), "{said}");
    }
    let help = run(subjobs(&["serve", "--help"]).env("SUBJOBS_DEMO_TOKEN_FILE", &path), "");
    assert!(!text(&help.stdout).contains("token-in-a-file"));
    // Other commands do not read it.
    assert_eq!(run(subjobs(&["token"]).env("SUBJOBS_DEMO_TOKEN_FILE", "/nowhere"), "").status.code(), Some(0));
}
