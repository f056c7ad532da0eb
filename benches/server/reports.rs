//! How long counts take at rest, and while reports of 16 MiB are taken in.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::client;
use crate::support::process::{ACCOUNT, Process, write_access, write_subtasks};
use crate::support::sample::{self, project_id};
use crate::support::wait::SetOnDrop;

/// A count is due in each of them.
const PAUSE: Duration = Duration::from_millis(2);
const COUNTS: u32 = 5000;

/// A report is a little below the 16 MiB that the server takes.
const REPORT: usize = 16 * 1024 * 1024 - 1024;

/// How many workers report at once.
const WORKERS: usize = 2;

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let subtasks = directory.path().join("subtasks.ndjson");
    write_subtasks(&subtasks, sample::skewed().take(1_000_000));
    let server = Process::full(&write_access(directory.path()), &subtasks);
    let internal = server.internal.unwrap();

    println!("{COUNTS} counts, one each {PAUSE:?}, in a store of a million subtasks; microseconds");
    print("at rest", counts(server.public));
    let bodies: Vec<_> = (0..WORKERS).map(|worker| ["RUNNING", "SUCCESS"].map(|status| body(worker, status))).collect();
    let (is_done, reports) = (AtomicBool::new(false), AtomicUsize::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for bodies in &bodies {
            let (is_done, reports) = (&is_done, &reports);
            scope.spawn(move || {
                runtime().block_on(async {
                    for body in bodies.iter().cycle() {
                        report(internal, body).await;
                        reports.fetch_add(1, Relaxed);
                        if is_done.load(Relaxed) {
                            return;
                        }
                    }
                });
            });
        }
        let _end = SetOnDrop(&is_done);
        while reports.load(Relaxed) < WORKERS {
            std::thread::sleep(PAUSE);
        }
        print("beside reports", counts(server.public));
    });
    let reports = reports.into_inner();
    println!("{WORKERS} workers, {reports} reports, {:.1} a second", reports as f64 / start.elapsed().as_secs_f64());
    server.stop();
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks on one connection; how long each answer took, in microseconds, from when it was asked for or, if the one before had
/// made it late, from when it was due.
pub(crate) fn counts(address: SocketAddr) -> Vec<u128> {
    counts_while(address, |number| number <= COUNTS).into_iter().map(|(_, took)| took).collect()
}

/// The same while `go_on` is true of the number of the next one, with when each was asked for.
pub(crate) fn counts_while(address: SocketAddr, go_on: impl Fn(u32) -> bool) -> Vec<(Instant, u128)> {
    runtime().block_on(async {
        let mut connection = client::open(address, 1).await.remove(0);
        let mut took = Vec::new();
        let start = Instant::now();
        for number in (1..).take_while(|number| go_on(*number)) {
            let due = start + number * PAUSE;
            let begin = if Instant::now() < due {
                tokio::time::sleep_until(due.into()).await;
                Instant::now()
            } else {
                due
            };
            connection.ask().await;
            took.push((begin, begin.elapsed().as_micros()));
        }
        took
    })
}

pub(crate) fn print(when: &str, mut took: Vec<u128>) {
    took.sort_unstable();
    let at = |share: f64| took[(took.len() as f64 * share) as usize];
    println!("{when:15} p50 {:6}  p99 {:6}  p99.9 {:6}  max {:6}", at(0.5), at(0.99), at(0.999), took[took.len() - 1]);
}

/// New subtasks at first, then the same ones in another status.
fn body(worker: usize, status: &'static str) -> Vec<u8> {
    let mut body = Vec::with_capacity(REPORT);
    for subtask in sample::skewed().skip(1_000_000 + worker * 200_000) {
        let line = sample::Subtask { status, ..subtask }.fields();
        if body.len() + line.len() + 3 > REPORT {
            break;
        }
        body.extend_from_slice(format!("{{{line}}}\n").as_bytes());
    }
    body
}

async fn report(address: SocketAddr, body: &[u8]) {
    let (project, length) = (project_id(0), body.len());
    let head = format!(
        "POST /v1/{project}/app-server-sub-jobs/actions/report HTTP/1.1\r\n\
         Host: subjobs.example.com\r\nX-Auth-Token: {ACCOUNT}\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
