//! The program as a child process: its log, signals to it, and its exit code.

use std::io::{Read, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::blocking::{BlockingConnection, get};
use crate::support::connection::request;
use crate::support::fixtures::{OPS, PROJECT, count_path, report_path};
use crate::support::lines::Lines;
use crate::support::response::Response;
use crate::support::wait::{TEST_DEADLINE, until};

/// The program with these arguments, without environment variables of its own.
pub(crate) fn subjobs(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_subjobs"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SUBJOBS_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program that ends by itself, with this standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    await_end(child)
}

/// Waits for the end of a child process, and returns what it wrote to its pipes. Kills one that does not end.
pub(crate) fn await_end(mut child: Child) -> Output {
    let out = child.stdout.take().map(all);
    let errors = child.stderr.take().map(all);
    let end = Instant::now() + TEST_DEADLINE;
    let ended = loop {
        match child.try_wait().unwrap() {
            None if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            ended => break ended,
        }
    };
    let _ = child.kill();
    let [stdout, stderr] = [out, errors].map(|stream| stream.map_or_else(Vec::new, |read| read.join().unwrap()));
    let output = Output { status: child.wait().unwrap(), stdout, stderr };
    assert!(ended.is_some(), "it does not end: {output:?}");
    output
}

/// Reads a stream to its end on another thread.
fn all(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// The exit code of a health check of this address.
pub(crate) fn healthcheck(address: &str) -> i32 {
    run(&mut subjobs(&["healthcheck", "--internal-listen", address]), "").status.code().unwrap()
}

/// Standard output, or standard error, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The fatal error in the last line of standard error, which is JSON because it is not a terminal.
pub(crate) fn fatal_error_text(said: &str) -> String {
    let last = event(said.lines().last().unwrap_or_default());
    assert_eq!(last["level"], "ERROR", "{said}");
    last["message"].as_str().unwrap().to_owned()
}

/// A signal, with its name for `kill`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Term,
    Int,
    Hup,
    Stop,
    Cont,
}

/// A running `subjobs serve`. It is killed when dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) log: Arc<Lines>,
    pub(crate) out: Arc<Lines>,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
}

impl Program {
    /// Starts `serve` on two free ports with these arguments. Its log is JSON, because standard error is not a terminal.
    pub(crate) fn begin(args: &[&str]) -> Self {
        Self::begin_with(&mut serve(args))
    }

    /// The same as [`Program::begin`], and waits until the program is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        let program = Self::begin(args);
        program.await_log("ready");
        program
    }

    /// Starts a command that serves, and waits until it has logged its addresses.
    pub(crate) fn begin_with(command: &mut Command) -> Self {
        Self::of(command.spawn().unwrap())
    }

    /// Waits until a child process has logged its addresses.
    pub(crate) fn of(mut child: Child) -> Self {
        let log = Lines::of(child.stderr.take().unwrap());
        let out = child.stdout.take().map(Lines::of).unwrap_or_default();
        let address =
            |listener| log.await_in(listener, |lines| lines.iter().find_map(|line| address_in(line, listener)));
        let (public, internal) = (address("public"), address("internal"));
        Self { child, log, out, public, internal }
    }

    /// Waits for an event of the JSON log, and returns it.
    pub(crate) fn await_log(&self, message: &str) -> Value {
        self.log.await_in(message, |lines| {
            lines.iter().map(|line| event(line)).find(|event| event["message"].as_str() == Some(message))
        })
    }

    /// The peak of its resident memory, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")).unwrap();
        line.trim().parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let name = format!("{signal:?}").to_uppercase();
        let kill = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status().unwrap();
        assert!(kill.success());
    }

    /// Kills it with SIGKILL, unless it has ended.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end. Returns the exit code and the whole log.
    pub(crate) fn ended(mut self) -> (i32, Vec<String>) {
        let status = until("the program ends", || self.child.try_wait().unwrap());
        (status.code().expect("no signal has killed it"), self.log.all())
    }

    /// Requests a count in [`PROJECT`] on a new connection.
    pub(crate) fn ask(&self, token: &str, query: &str) -> Response {
        let path = format!("{}{query}", count_path(PROJECT));
        get(self.public, &path, token)
    }

    /// The count for the account.
    pub(crate) fn count(&self, query: &str) -> u64 {
        let answer = self.ask(OPS, query);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["count"].as_u64().unwrap()
    }

    /// A connection with a running count, which waits for its body of two bytes.
    pub(crate) fn running_count(&self) -> BlockingConnection {
        let mut connection = BlockingConnection::open(self.public);
        connection.send(request("GET", &count_path(PROJECT), OPS, &["Content-Length: 2"]));
        until("the count is worked on", || (self.metric("subjobs_http_in_flight") == Some(1)).then_some(()));
        connection
    }

    /// A connection with a running report: the server has sent 100 Continue and waits for the body of two bytes.
    pub(crate) fn running_report(&self) -> BlockingConnection {
        let mut connection = BlockingConnection::open(self.internal);
        let more = ["Content-Type: application/x-ndjson", "Content-Length: 2", "Expect: 100-continue"];
        connection.send(request("POST", &report_path(PROJECT), OPS, &more));
        assert_eq!(connection.response().status, 100);
        connection
    }

    /// The status of a path of the internal listener.
    pub(crate) fn internal_status(&self, path: &str) -> u16 {
        get(self.internal, path, "").status
    }

    /// The text of the metrics.
    pub(crate) fn metrics(&self) -> String {
        get(self.internal, "/metrics", "").text().to_owned()
    }

    /// The value of one series in the metrics.
    pub(crate) fn metric(&self, series: &str) -> Option<u64> {
        self.metrics().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command that [`Program::begin`] starts.
pub(crate) fn serve(args: &[&str]) -> Command {
    let mut command = subjobs(&["serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
    command.args(args);
    command
}

/// An event of a log in JSON.
pub(crate) fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON: {error}: {line}"))
}

/// The address of a listener in a line of the log of either format.
fn address_in(line: &str, listener: &str) -> Option<SocketAddr> {
    match serde_json::from_str::<Value>(line) {
        Ok(event) if event["message"] == "listening" && event["listener"] == listener => {
            event["address"].as_str()?.parse().ok()
        }
        Ok(_) => None,
        Err(_) => {
            let rest = line.split_once("listening listener=\"")?.1.strip_prefix(listener)?;
            rest.split_once("address=")?.1.parse().ok()
        }
    }
}

/// Opens a file for writing. A named pipe waits for its reader.
pub(crate) fn writer(path: impl AsRef<Path>) -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open(path).unwrap()
}
