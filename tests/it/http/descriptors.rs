//! With a low limit of open files the server still has descriptors for files that are not connections.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use crate::support::blocking::BlockingConnection;
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, record, report_path};
use crate::support::program::{Program, Signal, event, serve};
use crate::support::wait::until;

/// More connections than a listener accepts with any of the limits.
const IDLE: usize = 450;

/// Starts the program with a hard limit of open files.
fn serve_with_limit(limit: u64, args: &[&str]) -> Program {
    let serve = serve(args);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {limit} && exec \"$@\"")).arg("sh");
    command.arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let program = Program::begin_with(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    program.await_log("ready");
    program
}

fn idle(address: SocketAddr) -> Vec<TcpStream> {
    (0..IDLE).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn records(first: usize) -> String {
    (first..first + 500).map(|id| record(&id.to_string(), "j", "CREATE_SERVER", "FAILED") + "\n").collect()
}

#[test]
fn idle_connections_leave_reserved_descriptors_free() {
    // The test needs descriptors for its own ends of the connections.
    rlimit::increase_nofile_limit(4096).unwrap();
    let files = Files::new();
    for (limit, has_data_dir) in [(400, true), (256, false)] {
        let data_dir = files.arg(&limit.to_string());
        let args = ["--access", &files.access(), "--data-dir", &data_dir];
        let program = serve_with_limit(limit, if has_data_dir { &args } else { &args[..2] });
        let warning =
            program.await_log("open file limit too low for --max-connections: each listener accepts fewer connections");
        assert_eq!((warning["level"].as_str(), warning["open_file_limit"].as_u64()), (Some("WARN"), Some(limit)));
        let taken = warning["accepted_by_each_listener"].as_u64().unwrap();
        assert!((10..limit / 2).contains(&taken), "{warning}");
        let mut worker = BlockingConnection::open(program.internal);
        let mut report = |body: &str| {
            let length = format!("Content-Length: {}", body.len());
            let more = ["Content-Type: application/x-ndjson", &length];
            worker.send(request("POST", &report_path(PROJECT), OPS, &more) + body);
            let answer = worker.response();
            assert_eq!(answer.status, 200, "{answer:?}");
        };
        report("");
        let idle = [idle(program.public), idle(program.internal)];
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(program.internal_status(path), 200, "{path}");
        }
        let open = || program.metric("subjobs_http_connections{listener=\"public\"}");
        until("all are taken", || (open() == Some(taken)).then_some(()));
        for number in 0..4 {
            report(&records(number * 500));
        }
        program.signal(Signal::Hup);
        program.await_log("access file reloaded");
        assert!(program.metric("process_open_fds").unwrap() <= limit - 10);
        drop(idle);
        assert_eq!(program.count(""), 2000);
        program.signal(Signal::Term);
        let (code, log) = program.ended();
        assert_eq!(code, 0);
        let warnings: Vec<_> = log.iter().map(|line| event(line)).filter(|event| event["level"] != "INFO").collect();
        assert_eq!(warnings.len(), if has_data_dir { 1 } else { 2 }, "{warnings:?}");
    }
}
