//! Instructions a request, beside a plain axum route: the same in every run, however busy the machine is.

use std::path::Path;
use std::process::{Command, Stdio};

use tokio::runtime::Builder;

use crate::client;
use crate::plain;
use crate::support::process::{Process, full_command, write_access, write_subtasks};
use crate::support::sample;

/// As many requests, then twice as many: the difference has neither start nor end in it.
const REQUESTS: usize = 2000;

pub(crate) fn run() {
    if !has_valgrind() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let subtasks = directory.path().join("subtasks.ndjson");
    write_subtasks(&subtasks, sample::skewed().take(1000));
    let access = write_access(directory.path());

    let plain = a_request("plain", &plain::command());
    let full = a_request("subjobs", &full_command(&access, &subtasks));
    println!("subjobs / plain: {:.2}", full.all / plain.all);
    println!(
        "the same without SHA-256, done in software here and in hardware elsewhere: {:.2}",
        (full.all - full.sha256) / plain.all
    );
}

/// Whether instructions can be counted; says so if not.
pub(crate) fn has_valgrind() -> bool {
    let is_installed = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_installed {
        println!("instructions are counted by valgrind, which is not installed");
    }
    is_installed
}

struct Instructions {
    all: f64,
    /// Valgrind's processor has no instructions for SHA-256; most real ones do.
    sha256: f64,
}

/// Measures one server.
fn a_request(name: &str, command: &Command) -> Instructions {
    let profile = |requests| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{name}.{requests}"));
    let [once, twice] = [REQUESTS, 2 * REQUESTS].map(|requests| {
        count(command, &profile(requests), |server| {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                client::round(client::open(server.public, 1).await, requests).await;
            });
        })
    });
    let each = |count: fn(&[u64; 2]) -> u64| (count(&twice) - count(&once)) as f64 / REQUESTS as f64;
    let [all, sha256] = [each(|[all, _]| *all), each(|[_, sha256]| *sha256)];
    println!("{name:8} {all:6.0} instructions a request, of which SHA-256 {sha256:.0}");
    println!("         by function: callgrind_annotate {}", profile(2 * REQUESTS).display());
    Instructions { all, sha256 }
}

/// The instructions of a server's whole life, in which `ask` sends it requests: all, and those for SHA-256.
pub(crate) fn count(command: &Command, profile: &Path, ask: impl FnOnce(&Process)) -> [u64; 2] {
    let server = Process::start(callgrind(command, profile));
    ask(&server);
    server.stop();
    totals(profile)
}

/// The command under callgrind, which writes the profile at the end.
pub(crate) fn callgrind(command: &Command, profile: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--log-file=/dev/null"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(command.get_program())
        .args(command.get_args())
        // Which thread takes a task, and how often others look for one, is left to chance; with one there is none.
        .env("TOKIO_WORKER_THREADS", "1");
    valgrind
}

/// The instructions of a profile: all, and those for SHA-256.
pub(crate) fn totals(profile: &Path) -> [u64; 2] {
    let output =
        Command::new("callgrind_annotate").args(["--threshold=100", "--auto=no"]).arg(profile).output().unwrap().stdout;
    let output = String::from_utf8(output).unwrap();
    // Lines as "1,234 (5.67%)  file:function"; the function is where the time was spent itself.
    ["PROGRAM TOTALS", "sha256"].map(|what| {
        let lines = output.lines().filter(|line| line.contains(what));
        lines.map(|line| line.split_once('(').unwrap().0.trim().replace(',', "").parse::<u64>().unwrap()).sum()
    })
}
