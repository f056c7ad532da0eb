//! The program as a server for tests: `--ephemeral` and `--addresses-file`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::blocking::{get, post};
use crate::support::fixtures::{Files, OPS, PROJECT, count_path, load_line, record, report_path};
use crate::support::gateways::free_address;
use crate::support::program::{Program, Signal, run, serve, subjobs, text, writer};
use crate::support::wait::until;

fn ephemeral(args: &[&str]) -> Command {
    let mut command = subjobs(&["serve", "--ephemeral"]);
    command.args(args);
    command
}

/// The line that the program prints when it is ready.
fn addresses(program: &Program) -> Value {
    let line = program.out.await_in("line", |lines| lines.first().cloned());
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn field<'v>(addresses: &'v Value, name: &str) -> &'v str {
    addresses[name].as_str().unwrap_or_else(|| panic!("no {name} in {addresses}"))
}

#[test]
fn the_first_line_has_the_addresses_and_tokens_of_a_server_that_is_ready() {
    let program = Program::begin_with(&mut ephemeral(&[]));
    let line = addresses(&program);
    let keys: Vec<_> = line.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["internal", "public", "token", "worker_token"]);
    assert_eq!(field(&line, "public"), format!("http://{}", program.public));
    assert_eq!(field(&line, "internal"), format!("http://{}", program.internal));
    assert!(program.public.ip().is_loopback() && program.internal.ip().is_loopback());
    assert_eq!(program.internal_status("/readyz"), 200);

    let (token, worker) = (field(&line, "token"), field(&line, "worker_token"));
    let count = |token| get(program.public, &count_path("any-project"), token);
    for (id, token) in [("1", token), ("2", worker)] {
        let record = record(id, "j", "CREATE_SERVER", "RUNNING");
        assert_eq!(post(program.internal, &report_path("any-project"), token, &record).status, 200);
    }
    assert_eq!(count(token).json()["count"], 2);
    assert_eq!((count(worker).status, count("unknown").status), (403, 401));

    let (token, worker) = (token.to_owned(), worker.to_owned());
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0);
    assert!(log.iter().all(|line| !line.contains(&token) && !line.contains(&worker)), "{}", log.join("\n"));
    assert_eq!(log.iter().filter(|line| line.contains("--ephemeral: for tests only")).count(), 1);
}

#[test]
fn addresses_and_the_token_can_be_given() {
    let free = free_address();
    let mut command = subjobs(&["serve", "--listen", &free.to_string()]);
    command.env("SUBJOBS_EPHEMERAL", "1").env("SUBJOBS_EPHEMERAL_TOKEN", "my-token");
    let program = Program::begin_with(&mut command);
    let line = addresses(&program);
    assert_eq!((program.public, field(&line, "token")), (free, "my-token"));
    assert_eq!(get(program.public, &count_path("p"), "my-token").status, 200);

    for token in ["two words", "é"] {
        let output = run(ephemeral(&[]).env("SUBJOBS_EPHEMERAL_TOKEN", token), "");
        assert_eq!(output.status.code(), Some(2), "{token:?}");
        assert!(text(&output.stderr).contains("SUBJOBS_EPHEMERAL_TOKEN must"), "{}", text(&output.stderr));
    }
}

#[test]
fn with_an_access_file_its_tokens_are_valid_and_none_is_printed() {
    let files = Files::new();
    let program = Program::begin_with(&mut ephemeral(&["--access", &files.access()]));
    let line = addresses(&program);
    assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["internal", "public"]);
    assert_eq!(program.count(""), 0);
}

#[test]
fn an_ephemeral_server_stores_nothing() {
    for other in [["--data-dir", "data"], ["--store", "postgres://u@127.0.0.1:1/d"], ["--demo", "--allow-reset"]] {
        let output = run(&mut ephemeral(&other), "");
        assert_eq!(output.status.code(), Some(2), "{other:?}");
        assert!(text(&output.stderr).contains("exclude each other"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_server_ends_when_its_standard_input_does() {
    let (pipe_end, pipe) = std::io::pipe().unwrap();
    let (socket, socket_end) = UnixStream::pair().unwrap();
    // What is written to it is ignored.
    (&pipe).write_all(&[b'x'; 10_000]).unwrap();
    let inputs: [(Stdio, OwnedFd); 2] =
        [(pipe_end.into(), pipe.into()), (OwnedFd::from(socket_end).into(), socket.into())];
    for (input, parent) in inputs {
        let program = Program::begin_with(ephemeral(&[]).stdin(input));
        addresses(&program);
        assert_eq!(program.internal_status("/readyz"), 200);
        drop(parent);
        let (code, log) = program.ended();
        assert_eq!(code, 0);
        assert!(log.iter().any(|line| line.contains("standard input has ended")), "{}", log.join("\n"));
    }
}

#[test]
fn the_end_of_a_file_or_of_another_servers_input_ends_no_server() {
    let files = Files::new();
    let empty = files.put("empty", "");
    let of_file = ephemeral(&[]).stdin(std::fs::File::open(&empty).unwrap()).spawn().unwrap();
    let (ended, parent) = std::io::pipe().unwrap();
    drop(parent);
    let other = serve(&["--access", &files.access()]).stdin(ended).spawn().unwrap();
    let null = ephemeral(&[]).stdin(Stdio::null()).spawn().unwrap();
    for child in [of_file, other, null] {
        let program = Program::of(child);
        program.await_log("ready");
        // Each request is a turn in which the end would be noticed.
        (0..100).for_each(|_| assert_eq!(program.internal_status("/readyz"), 200));
        program.signal(Signal::Term);
        let (code, log) = program.ended();
        assert_eq!(code, 0);
        assert!(!log.iter().any(|line| line.contains("standard input")), "{}", log.join("\n"));
    }
}

#[test]
fn the_addresses_file_exists_while_the_server_is_ready() {
    let files = Files::new();
    let (path, load) = (files.put("addresses.json", "of an earlier server"), files.arg("load"));
    files.fifo("load");
    let program = Program::begin(&["--access", &files.access(), "--load", &load, "--addresses-file", &path]);
    let mut pipe = writer(&load);
    assert!(!files.path("addresses.json").exists(), "a server that is loading has no addresses");
    pipe.write_all(load_line(PROJECT, "1", "CREATE_SERVER", "WAITING").as_bytes()).unwrap();
    drop(pipe);
    let line = until("there are addresses", || std::fs::read_to_string(&path).ok());
    let said: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(said.as_object().unwrap().keys().collect::<Vec<_>>(), ["internal", "public"]);
    let public: SocketAddr = field(&said, "public").strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(get(public, &count_path(PROJECT), OPS).json()["count"], 1);
    assert!(line.ends_with("}\n"), "{line:?}");
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    assert!(!files.path("addresses.json").exists());
}

#[test]
fn an_addresses_file_that_cannot_be_written_ends_the_program() {
    let files = Files::new();
    let output = run(&mut serve(&["--access", &files.access(), "--addresses-file", "/nowhere/file"]), "");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("--addresses-file (SUBJOBS_ADDRESSES_FILE): /nowhere/file: No such file"), "{said}");
}

#[test]
fn the_addresses_of_a_wildcard_are_those_of_loopback() {
    let program = Program::begin_with(&mut ephemeral(&["--listen", "0.0.0.0:0", "--internal-listen", "0.0.0.0:0"]));
    let line = addresses(&program);
    assert_eq!(field(&line, "public"), format!("http://127.0.0.1:{}", program.public.port()));
    assert_eq!(field(&line, "internal"), format!("http://127.0.0.1:{}", program.internal.port()));
}
