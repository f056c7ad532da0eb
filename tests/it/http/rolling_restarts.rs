//! Two servers behind the shipped gateway restart in turn while callers send requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::support::blocking::BlockingConnection;
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, count_path, load_line};
use crate::support::gateways::{Gateway, free_address};
use crate::support::program::{Program, Signal, subjobs};
use crate::support::wait::{SetOnDrop, until};

/// The number of responses between two restarts.
const BETWEEN: u64 = 400;

/// A server that can restart on its addresses.
struct Server {
    args: Vec<String>,
    program: Program,
}

impl Server {
    fn start(files: &Files, public: SocketAddr, drain_delay: &str) -> Self {
        let (public, access, load) = (public.to_string(), files.access(), files.arg("load"));
        let args = ["serve", "--listen", &public, "--internal-listen", "127.0.0.1:0", "--access", &access];
        let args = [args.as_slice(), &["--load", &load, "--drain-delay", drain_delay]].concat();
        let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
        Self { program: begin(&args), args }
    }

    /// Stops the server, starts it again, and waits until it is ready.
    fn restart(self) -> Self {
        let Self { args, program } = self;
        program.signal(Signal::Term);
        assert_eq!(program.ended().0, 0);
        Self { program: begin(&args), args }
    }
}

fn begin(args: &[String]) -> Program {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let program = Program::begin_with(&mut subjobs(&args));
    program.await_log("ready");
    program
}

/// Sends counts on keep-alive connections until `is_over`.
fn call(gateway: SocketAddr, answered: &AtomicU64, is_over: &AtomicBool) {
    let request = request("GET", &count_path(PROJECT), OPS, &[]);
    let mut socket = BlockingConnection::open(gateway);
    while !is_over.load(Ordering::Relaxed) {
        socket.send(&request);
        let answer = socket.response();
        assert_eq!((answer.status, answer.text()), (200, r#"{"count":2000}"#), "{answer:?}");
        if answer.header("connection") == Some("close") {
            socket = BlockingConnection::open(gateway);
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_rolling_restart_fails_no_request() {
    let files = Files::new();
    let lines: Vec<_> = (0..2000).map(|id| load_line(PROJECT, &id.to_string(), "CREATE_SERVER", "RUNNING")).collect();
    files.put("load", &lines.join("\n"));
    let addresses = [free_address(), free_address()];
    // One server stops listening after a delay, the other one at once.
    let mut servers: Vec<_> =
        addresses.into_iter().zip(["200ms", "0s"]).map(|(at, delay)| Server::start(&files, at, delay)).collect();
    let gateway = Gateway::before(&addresses);
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| call(gateway.address, &answered, &is_over))).collect();
        let await_more = || {
            let before = answered.load(Ordering::Relaxed);
            until("callers go on", || {
                let has_failed = callers.iter().any(|caller| caller.is_finished());
                (has_failed || answered.load(Ordering::Relaxed) >= before + BETWEEN).then_some(())
            });
        };
        for _ in 0..4 {
            await_more();
            let next = servers.remove(0).restart();
            servers.push(next);
        }
        await_more();
        drop(end);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    let log = gateway.log("access.log");
    assert!(log.lines().all(|line| line.contains(r#""status":200,"#)), "{log}");
}
