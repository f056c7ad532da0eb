//! What the server costs: `cargo bench --bench server -- MODE`. docs/performance.md has the figures.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot be made has nothing to say")]
#![allow(missing_docs, reason = "nothing here is for others")]

mod client;
mod compare;
mod durable;
mod instructions;
mod load;
mod plain;
mod reports;
mod restart;
mod soak;
#[path = "../support/mod.rs"]
mod support;

const HELP: &str = "\
Usage: cargo bench --bench server -- [MODE]

  compare       CPU a request and requests a second, beside a plain axum route [the default]
  instructions  instructions a request, beside a plain axum route; needs valgrind
  load          loading a million subtasks: how fast, and how much memory they take
  reports       how long counts take while reports of 16 MiB are taken in
  durable       reports kept on a disk: how many a second, and how long counts take beside them
  restart       starting with a million and ten million subtasks on disk: how fast, and how much memory
  soak [MIN]    reports, counts, retention and restarts against a model, for 10 minutes or as many as are given;
                fails if anything differs
";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut words = args.iter().filter(|arg| !arg.starts_with("--")).map(String::as_str);
    let (mode, minutes) = (words.next(), words.next().unwrap_or("10").parse());
    // `cargo bench` says --bench; `cargo test --benches` does not, and wants no measurement.
    match mode {
        Some("plain") => plain::serve(),
        _ if !args.iter().any(|arg| arg == "--bench") => {}
        None | Some("compare") => compare::run(),
        Some("instructions") => instructions::run(),
        Some("load") => load::run(),
        Some("reports") => reports::run(),
        Some("durable") => durable::run(),
        Some("restart") => restart::run(),
        Some("soak") if minutes.as_ref().is_ok_and(|minutes| (0.5..=1440.0).contains(minutes)) => {
            if !soak::run(minutes.unwrap()) {
                std::process::exit(1);
            }
        }
        Some(_) => {
            eprint!("{HELP}");
            std::process::exit(2);
        }
    }
}
