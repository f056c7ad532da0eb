//! What the server costs: `cargo bench --bench server -- MODE`. docs/performance.md has the figures.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot be made has nothing to say")]
#![allow(missing_docs, reason = "nothing here is for others")]

mod bare;
mod client;
#[path = "../../tests/support/postgres.rs"]
#[allow(unused_imports, reason = "the tests of the program use more of it")]
mod cluster;
mod compare;
mod configured;
mod durable;
mod instructions;
mod load;
mod plain;
mod replicas;
mod reported;
mod reports;
mod restart;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod wait;

const HELP: &str = "\
Usage: cargo bench --bench server -- [MODE]

  compare       CPU a request and requests a second, beside a plain axum route [the default]
  instructions  instructions a request, beside a plain axum route; needs valgrind
  configured    instructions of a count with little and with much configured, stored and connected; needs valgrind
  start         from the start of the process until it is ready, and the memory it has then
  load          loading a million subtasks: how fast, and how much memory they take
  reports       how long counts take while reports of 16 MiB are taken in
  reported      CPU and instructions (valgrind) a subtask of reports in memory; BESIDE=PROGRAM measures another build too
  durable       reports kept on a disk: how many a second, and how long counts take beside them
  replicas      three replicas on one PostgreSQL beside a data directory: counts and reports a second
  wait          5,000 requests that wait for one project: how soon a report wakes them, and how long counts take meanwhile
  restart       starting with a million and ten million subtasks on disk: how fast, and how much memory
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut words = args.iter().filter(|arg| !arg.starts_with("--")).map(String::as_str);
    // `cargo bench` says --bench; `cargo test --benches` does not, and wants no measurement.
    match words.next() {
        Some("plain") => plain::serve(false),
        Some("plain-nodelay") => plain::serve(true),
        Some("hyper") => bare::serve(),
        _ if !args.iter().any(|arg| arg == "--bench") => {}
        None | Some("compare") => compare::run(),
        Some("instructions") => instructions::run(),
        Some("configured") => configured::run(),
        Some("start") => start::run(),
        Some("load") => load::run(),
        Some("reports") => reports::run(),
        Some("reported") => reported::run(),
        Some("durable") => durable::run(),
        Some("replicas") => replicas::run(),
        Some("restart") => restart::run(),
        Some("wait") => wait::run(),
        Some(_) => {
            eprint!("{HELP}");
            std::process::exit(2);
        }
    }
}
