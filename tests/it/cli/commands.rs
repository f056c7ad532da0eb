//! The command line and the environment, and the commands `healthcheck` and `token`.

use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use clap::{Arg, CommandFactory as _};
use subjobs::config::Cli;

use crate::support::blocking::BlockingConnection;
use crate::support::fixtures::{Files, OPS, PROJECT, load_line};
use crate::support::gateways::free_address;
use crate::support::program::{Program, Signal, event, healthcheck, run, serve, subjobs, text};
use crate::support::wait::until;

#[test]
fn a_start_error_names_the_option_in_one_line() {
    let files = Files::new();
    let access = files.access();
    let bad_access = files.put("bad.toml", "projects = []\nprojets = []\n");
    let bad_load = files.put("bad.ndjson", "\n{}\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&[], 2, &["--access", "--demo"]),
        (&["--access", &access, "--demo"], 2, &["--access", "--demo"]),
        (&["--access", &access, "--colour"], 2, &["'--colour'"]),
        (&["--access", &access, "--drain", "10"], 2, &["'10'", "--drain"]),
        (&["--access", &access, "--request-timeout", "0s"], 2, &["'0s'", "--request-timeout"]),
        (&["--access", &access, "--listen", "localhost"], 2, &["'localhost'", "--listen", "as localhost:8080"]),
        (&["--access", &access, "--job-type", "new"], 2, &["--job-type", "\"new\""]),
        (&["--access", &access, "--max-in-flight", "0"], 2, &["--max-in-flight"]),
        (&["--access", &bad_access], 2, &[&bad_access, "line 2", "unknown field `projets`"]),
        (&["--access", "/nowhere/access.toml"], 2, &["/nowhere/access.toml", "No such file"]),
        (&["--access", &access, "--load", &bad_load], 2, &[&format!("{bad_load}:2: missing field")]),
        (&["--access", &access, "--load", "/nowhere/load.ndjson"], 2, &["/nowhere/load.ndjson", "No such file"]),
        (
            &["--access", &access, "--listen", &taken],
            1,
            &["--listen (", &format!("cannot listen on {taken}"), "in use"],
        ),
        (
            &["--access", &access, "--internal-listen", &taken],
            1,
            &["--internal-listen (", &format!("cannot listen on {taken}"), "in use"],
        ),
    ];
    for (args, code, said) in cases {
        let has = |option| args.contains(&option);
        let mut all = vec!["serve"];
        for option in ["--listen", "--internal-listen"].into_iter().filter(|option| !has(option)) {
            all.extend([option, "127.0.0.1:0"]);
        }
        all.extend(args);
        for format in ["text", "json"] {
            let output = run(subjobs(&all).args(["--log-format", format]), "");
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
            let complaint = match format {
                "text" => error.lines().find(|line| line.starts_with("subjobs: ") || line.starts_with("error: ")),
                _ => error.lines().last(),
            };
            let complaint = complaint.unwrap_or_else(|| panic!("{args:?}: {error}"));
            let complaint = match format {
                "text" => complaint.to_owned(),
                _ => event(complaint)["message"].as_str().unwrap().to_owned(),
            };
            for part in said {
                assert!(complaint.contains(part), "{args:?}: {part:?} is not in {complaint:?}");
            }
            let is_ready = |line: &str| line.ends_with("INFO ready") || line.contains("\"ready\"");
            assert!(!error.lines().any(is_ready), "{args:?}: {error}");
        }
    }
    assert_eq!(run(&mut subjobs(&[]), "").status.code(), Some(2));
    assert_eq!(run(&mut subjobs(&["start"]), "").status.code(), Some(2));
}

#[test]
fn a_token_in_place_of_its_hash_is_not_printed() {
    let files = Files::new();
    let principal = "[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\n";
    for (wrong, at) in [
        ("tokens = [\"ops-token\"]", 5),
        ("tokens = \"ops-token\"", 5),
        ("tokens = [{ sha256 = \"ops-token\" }]", 5),
        ("tokens = [{ sha256 = [\"ops-token\"] }]", 5),
        ("tokens = [{ sha256 = ops-token }]", 5),
        ("tokens = [{ token = \"ops-token\" }]", 5),
        ("tokens = [{ sha256 = \"\", expires_at = \"ops-token\" }]", 5),
        ("access_keys = [\"ops-token\"]", 5),
        ("access_keys = [{ id = \"a\", secret = [\"ops-token\"] }]", 5),
        ("policies = [{ a = \"ops-token\" }]", 5),
        ("policies = [\"a\"", 5),
    ] {
        let path = files.put("wrong.toml", &format!("{principal}{wrong}\n"));
        for command in [&mut serve(&["--access", &path]), &mut subjobs(&["check", "--access", &path])] {
            let output = run(command, "");
            let said = text(&output.stderr) + &text(&output.stdout);
            assert_eq!(output.status.code(), Some(2), "{wrong}: {said}");
            assert!(said.contains(&format!("line {at}: ")), "{wrong}: {said}");
            assert!(!said.contains(OPS), "{wrong}: {said}");
        }
    }
}

#[test]
fn healthcheck_exits_with_0_only_if_the_server_is_ready() {
    let files = Files::new();
    let mut anywhere = subjobs(&["serve", "--listen", "127.0.0.1:0", "--internal-listen", "0.0.0.0:0"]);
    let program = Program::begin_with(anywhere.args(["--access", &files.access(), "--drain-delay", "1h"]));
    program.await_log("ready");
    let port = program.internal.port();
    assert!(program.internal.ip().is_unspecified());
    assert_eq!(healthcheck(&format!("127.0.0.1:{port}")), 0);
    // A wildcard address is replaced by loopback: only some systems connect to a wildcard.
    assert_eq!(healthcheck(&format!("0.0.0.0:{port}")), 0);
    for (given, reachable) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")] {
        assert_eq!(subjobs::cli::connect_address(given.parse().unwrap()).to_string(), reachable);
    }
    let by_environment = run(subjobs(&["healthcheck"]).env("SUBJOBS_INTERNAL_LISTEN", format!("0.0.0.0:{port}")), "");
    assert_eq!(by_environment.status.code(), Some(0));
    assert_eq!(healthcheck(&program.public.to_string()), 1, "the public listener has no such path");
    program.signal(Signal::Term);
    program.await_log("draining");
    until("it is not ready", || (healthcheck(&format!("127.0.0.1:{port}")) == 1).then_some(()));

    let unknown = free_address();
    let refused = run(&mut subjobs(&["healthcheck", "--internal-listen", &unknown.to_string()]), "");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stderr).lines().count(), 1);
}

/// Docker reserves 2 of a health check.
#[test]
fn healthcheck_exits_with_1_for_an_invalid_option_too() {
    let files = Files::new();
    let certificate = files.put("no-certificate", "");
    for args in [
        &["--internal-listen", "bad"][..],
        &["--internal-listen", "unix:"],
        &["--unknown"],
        &["more"],
        &["--internal-tls-cert", &certificate],
        &["--internal-tls-cert", &certificate, "--internal-tls-key", &certificate],
    ] {
        let output = run(subjobs(&["healthcheck", "--internal-listen=127.0.0.1:1"]).args(args), "");
        assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(1), false), "{args:?}");
    }
    let bad = run(subjobs(&["healthcheck"]).env("SUBJOBS_INTERNAL_LISTEN", "bad"), "");
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad.stderr));
    assert_eq!(run(&mut subjobs(&["healthcheck", "--help"]), "").status.code(), Some(0));
    for args in [&["token", "more"][..], &["man", "more"], &["nothing"]] {
        assert_eq!(run(&mut subjobs(args), "").status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn healthcheck_has_a_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(healthcheck(&silent.local_addr().unwrap().to_string()), 1);
    let another = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = another.local_addr().unwrap();
    let closes = std::thread::spawn(move || {
        let (socket, _) = another.accept().unwrap();
        socket.shutdown(Shutdown::Both).unwrap();
    });
    assert_eq!(healthcheck(&address.to_string()), 1);
    closes.join().unwrap();
}

#[test]
fn a_generated_token_is_accepted() {
    let files = Files::new();
    let made = run(&mut subjobs(&["token"]), "");
    assert_eq!(made.status.code(), Some(0));
    let out = text(&made.stdout);
    let (token, hash) = out.trim_end().split_once('\n').unwrap();
    assert!(token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token}");
    assert_ne!(text(&run(&mut subjobs(&["token"]), "").stdout).lines().next(), Some(token));

    // The hash of the token is the printed line, which is a line of the access file.
    for input in [token.to_owned(), format!("{token}\n"), format!("{token}\r\n")] {
        let hashed = run(&mut subjobs(&["token", "--hash"]), &input);
        assert_eq!((hashed.status.code(), text(&hashed.stdout)), (Some(0), format!("{hash}\n")));
    }
    let principal = "[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\n";
    let access = files.put("new.toml", &format!("{principal}{hash}\n"));
    let program = Program::start(&["--access", &access]);
    assert_eq!(program.ask(token, "").status, 200);
    assert_eq!(program.ask(&token.to_lowercase().replace('a', "b"), "").status, 401);

    let empty = run(&mut subjobs(&["token", "--hash"]), "\n");
    assert_eq!((empty.status.code(), text(&empty.stdout)), (Some(2), String::new()));
    assert!(text(&empty.stderr).contains("the token is empty"));
    let padded = run(&mut subjobs(&["token", "--hash"]), &format!(" {token}\n"));
    assert_eq!((padded.status.code(), text(&padded.stdout)), (Some(2), String::new()));
    let said = text(&padded.stderr);
    assert!(said.contains("white space") && !said.contains(token), "{said}");
}

/// Every option of `serve` that the help shows, and its variable.
fn options() -> Vec<(String, String)> {
    let cli = Cli::command();
    let args = cli.find_subcommand("serve").unwrap().get_arguments().filter(|arg| !arg.is_hide_set());
    let pair = |arg: &Arg| Some((format!("--{}", arg.get_long()?), arg.get_env()?.to_str()?.to_owned()));
    args.map(|arg| pair(arg).unwrap_or_else(|| panic!("{arg} has no variable"))).collect()
}

#[test]
fn every_option_has_an_environment_variable() {
    let files = Files::new();
    // Each variable is read: an invalid value is an error with the name of the variable or of the file.
    for (option, variable) in options() {
        let (value, named) = match option.as_str() {
            "--access" | "--load" => ("/nowhere", "/nowhere"),
            "--data-dir" => ("/dev/null", "/dev/null"),
            "--addresses-file" => ("/nowhere/file", "/nowhere/file"),
            "--store-password-file" | "--store-ca" => ("/nowhere", "--store"),
            _ => ("no such value", variable.as_str()),
        };
        let mut command = subjobs(&["serve"]);
        for (name, good) in
            [("LISTEN", "127.0.0.1:0"), ("INTERNAL_LISTEN", "127.0.0.1:0"), ("ACCESS", files.access().as_str())]
        {
            command.env(format!("SUBJOBS_{name}"), good);
        }
        let output = run(command.env(&variable, value), "");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}: {error}");
        assert!(error.contains(named), "{variable}: {error}");
    }

    // All variables together work as the options. A flag overrides its variable.
    let load = [
        files.put("a.ndjson", &load_line(PROJECT, "1", "NEW", "RUNNING")),
        files.put("b.ndjson", &load_line(PROJECT, "2", "NEWER", "RUNNING")),
    ];
    let mut command = subjobs(&["serve", "--drain", "1h"]);
    for (variable, value) in [
        ("SUBJOBS_LISTEN", "127.0.0.1:0"),
        ("SUBJOBS_INTERNAL_LISTEN", "127.0.0.1:0"),
        ("SUBJOBS_ACCESS", &files.access()),
        ("SUBJOBS_LOAD", &load.join(",")),
        ("SUBJOBS_JOB_TYPE", "NEW,NEWER"),
        ("SUBJOBS_MAX_IN_FLIGHT", "1"),
        ("SUBJOBS_MAX_CONNECTIONS", "3"),
        ("SUBJOBS_REQUEST_TIMEOUT", "2s"),
        ("SUBJOBS_REPORT_TIMEOUT", "2s"),
        ("SUBJOBS_HEAD_TIMEOUT", "1s"),
        ("SUBJOBS_IDLE_TIMEOUT", "2s"),
        ("SUBJOBS_DRAIN", "0s"),
        ("SUBJOBS_DRAIN_DELAY", "1s"),
        ("SUBJOBS_LOG_FORMAT", "text"),
        ("SUBJOBS_DEMO", "false"),
    ] {
        command.env(variable, value);
    }
    let program = Program::begin_with(&mut command);
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    assert_eq!(program.count("?job_type=NEW,NEWER"), 2);

    let mut running = program.running_count();
    assert_eq!(running.last_response().status, 503, "the time-out of a request");
    let mut report = program.running_report();
    assert_eq!(report.last_response().status, 503, "the time-out of a report");
    let mut half_sent = BlockingConnection::open(program.public);
    let start = Instant::now();
    half_sent.send(b"GET");
    assert_eq!(half_sent.rest(), "", "the time-out of a head");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let mut idle = [
        BlockingConnection::open(program.public),
        BlockingConnection::open(program.public),
        BlockingConnection::open(program.public),
    ];
    let start = Instant::now();
    // A fourth connection waits until one of the three is closed.
    assert_eq!(program.count(""), 2);
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    idle.iter_mut().for_each(|socket| assert_eq!(socket.rest(), "", "the time-out of an idle connection"));

    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    let draining = log.iter().find(|line| line.contains(" INFO draining ")).unwrap();
    assert!(draining.contains("delay_seconds=1.0 ") && draining.contains("timeout_seconds=3600.0"), "{draining}");

    let mut quiet = serve(&["--load", "/nowhere", "--access", &files.access()]);
    let log = text(&run(quiet.env("RUST_LOG", "error"), "").stderr);
    assert!(log.contains("/nowhere") && !log.contains("listening"), "{log}");
}
