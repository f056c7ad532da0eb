//! CPU a request and requests a second, beside a plain axum route, in turns.

use tokio::runtime::Builder;

use crate::client::{self, Connection};
use crate::plain;
use crate::support::figures::Spread;
use crate::support::process::{Process, write_access, write_subtasks};
use crate::support::sample;

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 100_000;
const ROUNDS: usize = 21;

/// What one round of one server has shown.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    cpu_micros: f64,
}

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let subtasks = directory.path().join("subtasks.ndjson");
    write_subtasks(&subtasks, sample::skewed().take(100_000));
    let plain = Process::start(plain::command());
    let full = Process::full(&write_access(directory.path()), &subtasks);

    println!("{ROUNDS} rounds of {REQUESTS} requests each, in turns, at {CONNECTIONS} connections");
    println!("round   plain: requests/s  server CPU us/request   subjobs: requests/s  server CPU us/request");
    // One thread, so that the servers have as much as possible of a small machine.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = runtime.block_on(async {
        let mut to_plain = client::open(plain.public, CONNECTIONS).await;
        let mut to_full = client::open(full.public, CONNECTIONS).await;
        // Once unmeasured.
        measure(&plain, &mut to_plain).await;
        measure(&full, &mut to_full).await;
        let mut rounds = Vec::new();
        for number in 1..=ROUNDS {
            let [plain, full] = [measure(&plain, &mut to_plain).await, measure(&full, &mut to_full).await];
            println!(
                "{number:5} {:19.0} {:22.2} {:21.0} {:22.2}",
                plain.per_second, plain.cpu_micros, full.per_second, full.cpu_micros
            );
            rounds.push((plain, full));
        }
        rounds
    });
    plain.stop();
    full.stop();

    let of = |figure: fn(&(Round, Round)) -> f64| Spread::of(rounds.iter().map(figure));
    println!();
    println!("median (least to greatest)");
    println!("  plain    requests/s {:.0}", of(|(plain, _)| plain.per_second).median);
    println!("  subjobs  requests/s {:.0}", of(|(_, full)| full.per_second).median);
    println!("  plain    server CPU us/request {}", of(|(plain, _)| plain.cpu_micros));
    println!("  subjobs  server CPU us/request {}", of(|(_, full)| full.cpu_micros));
    println!("subjobs / plain, of each round's pair");
    println!("  requests/s             {}", of(|(plain, full)| full.per_second / plain.per_second));
    println!("  server CPU a request   {}", of(|(plain, full)| full.cpu_micros / plain.cpu_micros));
    let noise = |figure: fn(Round) -> f64| Spread::of(rounds.windows(2).map(|two| figure(two[1].0) / figure(two[0].0)));
    println!("plain / plain of the round before: the noise");
    println!("  requests/s             {}", noise(|round| round.per_second));
    println!("  server CPU a request   {}", noise(|round| round.cpu_micros));
}

async fn measure(server: &Process, connections: &mut Vec<Connection>) -> Round {
    let before = server.cpu();
    let (took, open) = client::round(std::mem::take(connections), REQUESTS).await;
    *connections = open;
    let cpu = server.cpu() - before;
    let requests = REQUESTS as f64;
    Round { per_second: requests / took.as_secs_f64(), cpu_micros: cpu.as_secs_f64() * 1e6 / requests }
}
