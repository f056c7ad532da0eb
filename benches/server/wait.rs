//! How soon a report wakes 5,000 requests that wait for its project, and how long counts take while they wait.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::reports::{counts, counts_while, print, runtime};
use crate::support::figures::Spread;
use crate::support::process::{ACCOUNT, Process, serve_command, write_access};
use crate::support::sample::project_id;
use crate::support::wait::SetOnDrop;

const WAITERS: usize = 5000;
const ROUNDS: usize = 60;

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = serve_command(&write_access(directory.path()));
    command.args(["--max-connections", "6000"]);
    let server = Process::start(command);
    let (public, internal) = (server.public, server.internal.unwrap());
    runtime().block_on(report(internal, "first", "RUNNING"));
    print("counts at rest", counts(public));

    let [empty, _] = server.memory();
    let waiting = runtime();
    let mut sockets = waiting.block_on(connect(public));
    let [connected, _] = server.memory();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| counts_while(public, |_| !is_done.load(Relaxed)));
        let waking = scope.spawn(|| {
            // Else the threads of the waiters and of the counts compete for the cores.
            subjobs::priority::lower();
            let _end = SetOnDrop(&is_done);
            (0..ROUNDS).map(|round| waiting.block_on(wake(&mut sockets, internal, round))).collect::<Vec<_>>()
        });
        let (woken, counts) = (waking.join().unwrap(), counting.join().unwrap());
        let took: Vec<_> = woken.iter().map(|(begin, end)| (*end - *begin).as_secs_f64() * 1e3).collect();
        println!("{WAITERS} waiters, from a report to the last answer: {} ms", Spread::of(took));
        let is_beside = |at: &Instant| woken.iter().any(|(begin, end)| (begin..end).contains(&at));
        print("while answered", counts.into_iter().filter(|(at, _)| is_beside(at)).map(|(_, took)| took).collect());
    });

    waiting.block_on(async {
        ask(&mut sockets, "status=FAILED&until=ge:1000000&timeout=55").await;
        all_wait(internal, WAITERS).await;
    });
    let [with_waiters, _] = server.memory();
    print("beside waiters", counts(public));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            runtime().block_on(async {
                let mut number = 0;
                while !is_done.load(Relaxed) {
                    report(internal, &format!("later{number}"), "RUNNING").await;
                    number += 1;
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                println!("{number} reports to their project meanwhile");
            });
        });
        let _end = SetOnDrop(&is_done);
        print("beside changes", counts(public));
    });
    let each = |bytes: u64| bytes as f64 / WAITERS as f64 / 1024.0;
    println!("KiB a connection {:.1}, a waiter more {:.1}", each(connected - empty), each(with_waiters - connected));
    drop(sockets);
    server.stop();
}

/// Lets all wait for one report. Returns when it was sent and when the last one had its answer.
async fn wake(sockets: &mut Vec<TcpStream>, internal: SocketAddr, round: usize) -> (Instant, Instant) {
    ask(sockets, &format!("status=FAILED&until=ge:{}&timeout=55", round + 1)).await;
    all_wait(internal, WAITERS).await;
    let mut tasks: JoinSet<TcpStream> = sockets.drain(..).map(answered).collect();
    let begin = Instant::now();
    report(internal, &round.to_string(), "FAILED").await;
    while let Some(socket) = tasks.join_next().await {
        sockets.push(socket.unwrap());
    }
    (begin, Instant::now())
}

async fn connect(address: SocketAddr) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..WAITERS {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        sockets.push(socket);
    }
    sockets
}

async fn ask(sockets: &mut [TcpStream], query: &str) {
    let request = format!(
        "GET /subjobs/v1/{}/wait?{query} HTTP/1.1\r\nHost: subjobs.example.com\r\nX-Auth-Token: {ACCOUNT}\r\n\r\n",
        project_id(0)
    );
    for socket in sockets {
        socket.write_all(request.as_bytes()).await.unwrap();
    }
}

async fn answered(mut socket: TcpStream) -> TcpStream {
    let mut answer = [0; 1024];
    let length = socket.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.contains(r#"{"satisfied":true,"#), "{answer}");
    socket
}

/// Waits until the metrics say that as many wait.
async fn all_wait(internal: SocketAddr, number: usize) {
    let line = format!("subjobs_http_waiting{{for=\"change\"}} {number}\n");
    while !exchange(internal, "GET /metrics", "", "").await.contains(&line) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn report(internal: SocketAddr, id: &str, status: &str) {
    let body = format!(r#"[{{"id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"{status}"}}]"#);
    let line = format!("POST /v1/{}/app-server-sub-jobs/actions/report", project_id(0));
    let answer = exchange(internal, &line, "Content-Type: application/json\r\n", &body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

async fn exchange(address: SocketAddr, line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: subjobs.example.com\r\nX-Auth-Token: {ACCOUNT}\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}
