//! Reports that are kept on a disk: how many a second, beside the same ones kept in memory, and what they do to counts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::reports::{counts, print, runtime};
use crate::support::figures::Spread;
use crate::support::process::{ACCOUNT, Process, full_command, write_access, write_subtasks};
use crate::support::sample::{self, Subtask, project_id};
use crate::support::wait::SetOnDrop;

/// In reports of so many subtasks from so many connections; so many reports from each.
pub(crate) const LARGE: Load = Load { connections: 4, subtasks: 1000, reports: 200 };
pub(crate) const SINGLE: Load = Load { connections: 64, subtasks: 1, reports: 150 };

/// What counts are measured beside, again and again, each time in another status.
const BESIDE: Load = Load { connections: 4, subtasks: 1000, reports: 100 };

const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) subtasks: usize,
    pub(crate) reports: usize,
}

impl Load {
    /// The subtasks of all its reports.
    pub(crate) fn all_subtasks(self) -> usize {
        self.connections * self.reports * self.subtasks
    }
}

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (access, none) = (write_access(directory.path()), directory.path().join("none.ndjson"));
    write_subtasks(&none, std::iter::empty());
    for (what, load) in [("reports of 1,000 from 4 connections", LARGE), ("reports of one from 64 connections", SINGLE)]
    {
        let bodies = bodies(load, 0, None);
        let (mut on_disk, mut in_memory, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let data = directory.path().join(format!("data-{round}-{}", load.subtasks));
            for (data, seconds) in [(Some(&data), &mut on_disk), (None, &mut in_memory)] {
                let server = start(&access, &none, data.map(|path| path.as_path()));
                let before = server.cpu();
                seconds.push(send_all(&[server.internal.unwrap()], &bodies).as_secs_f64());
                if data.is_some() {
                    cpu.push((server.cpu() - before).as_secs_f64());
                }
                server.stop();
            }
        }
        let reports = (load.connections * load.reports) as f64;
        let subtasks = reports * load.subtasks as f64;
        println!("{what}, {reports} reports");
        println!("  on disk    {} reports/s", Spread::of(on_disk.iter().map(|seconds| reports / seconds)));
        println!("  on disk    {} subtasks/s", Spread::of(on_disk.iter().map(|seconds| subtasks / seconds)));
        println!("  in memory  {} subtasks/s", Spread::of(in_memory.iter().map(|seconds| subtasks / seconds)));
        println!("  on disk    {} us of server CPU a subtask", Spread::of(cpu.iter().map(|cpu| cpu * 1e6 / subtasks)));
    }
    beside_counts(directory.path(), &access);
}

/// Counts at rest and beside reports, in a store of a million subtasks.
fn beside_counts(directory: &Path, access: &Path) {
    let (subtasks, data) = (directory.join("subtasks.ndjson"), directory.join("data"));
    write_subtasks(&subtasks, sample::skewed().take(1_000_000));
    let server = start(access, &subtasks, Some(&data));
    let (public, internal) = (server.public, server.internal.unwrap());
    let bodies = ["RUNNING", "SUCCESS"].map(|status| bodies(BESIDE, 1_000_000, Some(status)));
    println!("counts, one each 2 ms, in a store of a million subtasks on disk; microseconds");
    for _ in 0..3 {
        print("at rest", counts(public));
        let (is_done, subtasks) = (AtomicBool::new(false), AtomicUsize::new(0));
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for [running, succeeded] in bodies[0].iter().zip(&bodies[1]).map(<[_; 2]>::from) {
                let (is_done, subtasks) = (&is_done, &subtasks);
                scope.spawn(move || {
                    // Workers would be elsewhere; here they must not take the counts' cores.
                    subjobs::priority::lower();
                    runtime().block_on(async {
                        let mut socket = TcpStream::connect(internal).await.unwrap();
                        let all = running.iter().chain(succeeded).cycle();
                        for body in all.take_while(|_| !is_done.load(Relaxed)) {
                            send(&mut socket, body).await;
                            subtasks.fetch_add(BESIDE.subtasks, Relaxed);
                        }
                    });
                });
            }
            let _end = SetOnDrop(&is_done);
            print("beside reports", counts(public));
        });
        println!(
            "                {:.0} subtasks/s reported",
            subtasks.into_inner() as f64 / begin.elapsed().as_secs_f64()
        );
    }
    server.stop();
}

pub(crate) fn start(access: &Path, load: &Path, data: Option<&Path>) -> Process {
    let mut command = full_command(access, load);
    if let Some(data) = data {
        command.arg("--data-dir").arg(data);
    }
    Process::start(command)
}

/// Whole requests for each connection, all subtasks new, and in one status if that is given.
pub(crate) fn bodies(load: Load, from: usize, status: Option<&'static str>) -> Vec<Vec<Vec<u8>>> {
    let mut subtasks = sample::skewed().skip(from);
    let record = |one: Subtask| format!("{{{}}}", Subtask { status: status.unwrap_or(one.status), ..one }.fields());
    let mut one = || {
        let records: Vec<_> = subtasks.by_ref().take(load.subtasks).map(record).collect();
        request(&format!("[{}]", records.join(",")))
    };
    (0..load.connections).map(|_| (0..load.reports).map(|_| one()).collect()).collect()
}

fn request(body: &str) -> Vec<u8> {
    let (project, length) = (project_id(0), body.len());
    format!(
        "POST /v1/{project}/app-server-sub-jobs/actions/report HTTP/1.1\r\n\
         Host: subjobs.example.com\r\nX-Auth-Token: {ACCOUNT}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Sends the bodies of each connection, one after the other, all connections at once, each to the next address.
pub(crate) fn send_all(addresses: &[SocketAddr], bodies: &[Vec<Vec<u8>>]) -> Duration {
    runtime().block_on(async {
        let mut sockets = Vec::new();
        for (_, address) in bodies.iter().zip(addresses.iter().cycle()) {
            let socket = TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            sockets.push(socket);
        }
        let begin = Instant::now();
        let all = sockets.iter_mut().zip(bodies).map(|(socket, bodies)| async move {
            for body in bodies {
                send(socket, body).await;
            }
        });
        futures_util::future::join_all(all).await;
        begin.elapsed()
    })
}

async fn send(socket: &mut TcpStream, request: &[u8]) {
    socket.write_all(request).await.unwrap();
    let mut answer = [0; 2048];
    let length = socket.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'), "{answer}");
}
