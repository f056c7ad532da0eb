//! Instructions a request, beside a plain axum route: the same in every run, however busy the machine is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::runtime::Builder;

use crate::client;
use crate::process::{Process, full_command, plain_command, write_access, write_subtasks};
use crate::sample;

/// As many requests, then twice as many: the difference has neither start nor end in it.
const REQUESTS: usize = 2000;

pub(crate) fn run() {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("instructions are counted by valgrind, which is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let subtasks = directory.path().join("subtasks.ndjson");
    write_subtasks(&subtasks, sample::skewed().take(1000));
    let access = write_access(directory.path());

    let plain = a_request("plain", &plain_command());
    let full = a_request("subjobs", &full_command(&access, &subtasks));
    println!("subjobs / plain: {:.2}", full / plain);
}

/// Measures one server.
fn a_request(name: &str, command: &Command) -> f64 {
    let profile = |requests| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{name}.{requests}"));
    let [once, twice] = [REQUESTS, 2 * REQUESTS].map(|requests| count(command, requests, profile(requests)));
    let each = (twice - once) as f64 / REQUESTS as f64;
    println!("{name:8} {each:8.0} instructions a request; callgrind_annotate {}", profile(2 * REQUESTS).display());
    each
}

/// The instructions of a server's whole life, in which one connection asks `requests` times.
fn count(command: &Command, requests: usize, profile: PathBuf) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--log-file=/dev/null"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(command.get_program())
        .args(command.get_args())
        // Which thread takes a task, and how often others look for one, is left to chance; with one there is none.
        .env("TOKIO_WORKER_THREADS", "1");
    let server = Process::start(valgrind);
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        client::round(client::open(server.public, 1).await, requests).await;
    });
    server.stop();
    let profile = fs::read_to_string(profile).unwrap();
    let total = profile.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    total.unwrap().trim().parse().unwrap()
}
