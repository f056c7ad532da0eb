//! Environment variables: an empty one is unset, and an unknown one is logged.

use clap::{Arg, CommandFactory as _};
use subjobs::config::Cli;

use crate::support::fixtures::{Files, OPS};
use crate::support::program::{Program, Signal, event, run, serve, subjobs, text};
use crate::support::wait::until;

/// Every option of a command with an environment variable, and the variable.
fn variables(command: &str) -> Vec<(String, String)> {
    let cli = Cli::command();
    let args = cli.find_subcommand(command).unwrap().get_arguments();
    let pair = |arg: &Arg| Some((arg.get_long()?.to_owned(), arg.get_env()?.to_str()?.to_owned()));
    args.filter_map(pair).collect()
}

#[test]
fn an_empty_variable_is_unset() {
    for (command, needed, expected) in [
        ("serve", &["--access", "/nowhere"][..], 2),
        ("check", &["--access", "/nowhere"], 2),
        ("export", &["--data-dir", "/nowhere"], 2),
        ("healthcheck", &["--internal-listen", "127.0.0.1:1"], 1),
    ] {
        let without = run(subjobs(&[command]).args(needed), "");
        assert_eq!(without.status.code(), Some(expected));
        // The log has times, which differ.
        let said = |bytes: &[u8]| match serde_json::from_str::<serde_json::Value>(&text(bytes)) {
            Ok(event) => event["message"].to_string(),
            Err(_) => text(bytes),
        };
        for (option, variable) in variables(command) {
            let with = run(subjobs(&[command]).args(needed).env(&variable, ""), "");
            assert_eq!(said(&with.stderr), said(&without.stderr), "{variable}");
            assert_eq!((with.status.code(), with.stdout), (Some(expected), without.stdout.clone()), "{option}");
        }
    }
}

#[test]
fn a_server_starts_with_empty_variables() {
    let files = Files::new();
    let mut command = serve(&["--access", &files.access()]);
    for (_, variable) in variables("serve") {
        command.env(variable, "");
    }
    let program = Program::begin_with(&mut command);
    program.await_log("ready");
    assert_eq!(program.ask(OPS, "").status, 200);
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    assert!(!log.iter().any(|line| line.contains("environment variable")), "{}", log.join("\n"));
}

#[test]
fn an_error_names_the_variable() {
    for (option, variable) in variables("serve") {
        let value = "no such value";
        let texts = [
            "access",
            "load",
            "data-dir",
            "log-filter",
            "store",
            "store-password-file",
            "store-ca",
            "addresses-file",
            "traces-endpoint",
        ];
        if texts.contains(&option.as_str()) || option.contains("tls-") {
            continue;
        }
        let output = run(subjobs(&["serve", "--log-format", "text"]).env(&variable, value), "");
        let said = text(&output.stderr);
        if ["log-format", "demo-token", "ephemeral-token"].contains(&option.as_str()) {
            // A flag overrides its variable. The tokens are read only with --demo and --ephemeral.
            assert!(said.starts_with("subjobs: there is no access file"), "{said}");
            continue;
        }
        assert!(said.starts_with(&format!("error: invalid value 'no such value' for '{variable}'")), "{said}");
        // An error of a flag names the flag, also if its variable is set.
        if !["demo", "allow-reset", "access-log", "ephemeral"].contains(&option.as_str()) {
            let mut command = subjobs(&["serve", "--log-format", "text", &format!("--{option}"), value]);
            for environment in [value, ""] {
                let said = text(&run(command.env(&variable, environment), "").stderr);
                assert!(said.contains(&format!("for '--{option} <")), "{said}");
            }
        }
    }
}

#[test]
fn an_unknown_variable_is_logged_once_with_the_most_similar_name() {
    let files = Files::new();
    let mut command = serve(&["--access", &files.access()]);
    command.env("SUBJOBS_DATADIR", "/somewhere/secret").env("SUBJOB_DRAIN", "1s").env("SUBJOBS_LISTEN", "");
    // What Kubernetes sets for a service called subjobs.
    command.env("SUBJOBS_SERVICE_HOST", "10.0.0.1").env("SUBJOBS_PORT_8080_TCP", "tcp://10.0.0.1:8080");
    let program = Program::begin_with(&mut command);
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    program.signal(Signal::Term);
    let (_, log) = program.ended();
    let warned: Vec<_> = log.iter().map(|line| event(line)).filter(|event| event["nearest"].is_string()).collect();
    let pairs: Vec<_> = warned.iter().map(|event| (event["name"].as_str().unwrap(), &event["nearest"])).collect();
    assert_eq!(pairs, [("SUBJOBS_DATADIR", &"SUBJOBS_DATA_DIR".into()), ("SUBJOB_DRAIN", &"SUBJOBS_DRAIN".into())]);
    assert!(warned.iter().all(|event| event["level"] == "WARN"));
    assert!(!log.iter().any(|line| line.contains("secret")), "{}", log.join("\n"));
}

#[test]
fn a_secret_env_variable_of_the_access_file_is_known() {
    let files = Files::new();
    let keys = r#"access_keys = [{ id = "AK", secret_env = "SUBJOBS_OPS_SECRET" }]"#;
    let principal = format!("[[principal]]\nname = \"signer\"\nkind = \"account\"\nprojects = [\"*\"]\n{keys}\n");
    let text = std::fs::read_to_string(files.path("access.toml")).unwrap() + "\n" + &principal;
    std::fs::write(files.path("access.toml"), text).unwrap();
    let warned = |log: &[String]| {
        let events = log.iter().map(|line| event(line)).filter(|event| event["nearest"].is_string());
        events.map(|event| event["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let start = |more: &[&str]| {
        let mut command = serve(&[&["--access", &files.access()], more].concat());
        command.env("SUBJOBS_OPS_SECRET", "s").env("SUBJOBS_OPS_SECRETS", "s");
        Program::begin_with(&mut command)
    };
    let program = start(&[]);
    program.await_log("ready");
    program.signal(Signal::Term);
    assert_eq!(warned(&program.ended().1), ["SUBJOBS_OPS_SECRETS"]);
    // The variable is also known in a start that fails after it has read the access file.
    let (code, log) = start(&["--load", "/nowhere"]).ended();
    assert_eq!((code, warned(&log)), (2, vec!["SUBJOBS_OPS_SECRETS".to_owned()]));
}
