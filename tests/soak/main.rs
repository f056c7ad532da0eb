//! Reports, counts, retention and restarts against a model, and what the server takes of the machine meanwhile:
//! `cargo test --release --test soak -- MINUTES`. It fails at the first difference.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a soak that cannot go on has failed")]

mod client;
mod filter;
mod generate;
mod model;
mod observer;
mod record;
mod reporter;
mod shared;
mod summary;
mod supervisor;
#[path = "../../benches/support/mod.rs"]
mod support;
mod time;

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::model::{Counters, Project};
use crate::record::{STATUSES, TYPES};
use crate::reporter::Reporter;
use crate::shared::{History, Shared};
use crate::supervisor::{Supervisor, metric};
use crate::support::process::{serve_command, write_access};
use crate::support::sample::{Random, project_id};
use crate::time::{RETENTION, Window};

/// The seed of everything random; only times differ from run to run.
const SEED: u64 = 20_261_124;

/// Threads that report, each to projects of its own.
const REPORTERS: usize = 4;

/// Projects of each reporter, and slots of each project.
const PROJECTS: usize = 4;
const SLOTS: usize = 1500;

/// Threads that only count.
const OBSERVERS: usize = 2;

/// How long the final check takes: until everything that expires has expired, then one more comparison.
const FINAL_CHECK: Duration = Duration::from_secs(15);

const HELP: &str = "\
Usage: cargo test --release --test soak -- MINUTES

  MINUTES  how long it takes: 0.5 to 1440
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(|minutes| minutes.parse()) {
        // `cargo test --all-targets` runs it without arguments and wants no soak.
        None => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(Ok(minutes)) if args.len() == 1 && (0.5..=1440.0).contains(&minutes) => match run(minutes) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
        Some(_) => {
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Runs the soak; true if there was no mismatch.
fn run(minutes: f64) -> bool {
    let (begin, all) = (Instant::now(), Duration::from_secs_f64(60.0 * minutes));
    let mut directory = TempDir::with_prefix_in("soak", env!("CARGO_TARGET_TMPDIR")).unwrap();
    // After a mismatch the data directory is the best evidence.
    directory.disable_cleanup(true);
    let (access, data) = (write_access(directory.path()), directory.path().join("data"));
    println!("{minutes} minutes, seed {SEED}, in {}", directory.path().display());

    let projects = |reporter| {
        let project = |number| Project::new(project_id(1 + reporter * PROJECTS + number), number == 0, SLOTS);
        (0..PROJECTS).map(project).collect::<Vec<_>>()
    };
    let mut random = Random(SEED);
    let (batches, frozen) = frozen_project(&mut random);
    let histories = (0..REPORTERS).map(|reporter| History::new(projects(reporter)[0].id.clone())).collect();
    let shared = Shared::new(frozen, histories);
    let mut supervisor = Supervisor::new(&shared, &data, || command(&access, &data));
    for batch in batches {
        Client::new(shared.instance().internal).report(&shared.frozen.id, &batch, true).unwrap();
    }
    supervisor.sample();

    let mut projects = thread::scope(|scope| {
        let reporters: Vec<_> = (0..REPORTERS)
            .map(|number| {
                let (shared, projects, random) = (&shared, projects(number), Random(random.next()));
                scope.spawn(move || Reporter::new(shared, projects, &shared.histories[number], random).run())
            })
            .collect();
        for _ in 0..OBSERVERS {
            let (shared, random) = (&shared, Random(random.next()));
            scope.spawn(move || observer::run(shared, random));
        }
        // In the last third nothing restarts, since only a long-lived instance shows whether memory grows.
        supervisor.restart_until(begin + all * 2 / 3, (all.as_secs_f64() / 10.0).clamp(3.0, 20.0), &mut random);
        supervisor.sample_until((begin + all).checked_sub(FINAL_CHECK).unwrap());
        shared.finish();
        reporters.into_iter().flat_map(|reporter| reporter.join().unwrap()).collect::<Vec<_>>()
    });
    projects.push(shared.frozen.clone());
    let metrics = supervisor.sample();
    if !shared.has_mismatch() {
        check_metrics(&shared, &projects, &metrics);
    }
    supervisor.stop(false);
    if !shared.has_mismatch() {
        check_export(&shared, &projects, &data);
    }

    summary::print(&shared.totals, &supervisor, begin.elapsed(), supervisor::disk_usage(&data).unwrap() as f64);
    let is_good = !shared.has_mismatch();
    directory.disable_cleanup(!is_good);
    is_good
}

fn command(access: &Path, data: &Path) -> Command {
    let mut command = serve_command(access);
    command.arg("--data-dir").arg(data).arg("--retain-finished").arg(format!("{}s", RETENTION.as_secs()));
    command
}

/// The reports of a project that never changes after them, and its state then.
fn frozen_project(random: &mut Random) -> (Vec<Vec<record::Record>>, Project) {
    let (mut project, mut batches) = (Project::new(project_id(0), true, 2 * SLOTS), Vec::new());
    let now = time::now();
    let up = time::Uptime { ready: now, stopping: None };
    for _ in 0..20 {
        let (batch, after) = generate::random_report(&project, random, now, up);
        project.newest_job = after.newest_job;
        project.apply(&batch, Window { from: now, to: now }, up);
        batches.push(batch);
    }
    (batches, project)
}

/// Compares the metrics with all projects together.
fn check_metrics(shared: &Shared, projects: &[Project], metrics: &str) {
    let mut totals = Counters::default();
    for counters in projects.iter().map(Project::counters) {
        for (total, number) in totals.as_flattened_mut().iter_mut().zip(counters.as_flattened()) {
            *total += number;
        }
    }
    for (job_type, row) in TYPES.iter().zip(totals) {
        for (status, total) in STATUSES.iter().zip(row) {
            let series = format!(r#"subjobs_subtasks{{job_type="{job_type}",status="{status}"}}"#);
            if metric(metrics, &series) != Some(total) {
                shared.report_mismatch(&format!("{series} is {:?} and should be {total}", metric(metrics, &series)));
            }
        }
    }
}

/// Compares every field of every subtask in the data directory.
fn check_export(shared: &Shared, projects: &[Project], data: &Path) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_subjobs")).arg("export").arg("--data-dir").arg(data).output().unwrap();
    if !output.status.success() {
        return shared.report_mismatch(&format!("export failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut expected = HashMap::new();
    for project in projects {
        for stored in project.slots().iter().flatten() {
            let mut record: Value = serde_json::from_str(&stored.record.json()).unwrap();
            record["project_id"] = project.id.as_str().into();
            expected.insert((project.id.clone(), stored.record.id()), record);
        }
    }
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let [project, id] = ["project_id", "id"].map(|field| record[field].as_str().unwrap().to_owned());
        let wanted = expected.remove(&(project, id));
        if wanted.as_ref() != Some(&record) {
            shared.report_mismatch(&format!("stored is {record} and should be {wanted:?}"));
        }
    }
    if let Some(wanted) = expected.into_values().next() {
        shared.report_mismatch(&format!("not stored is {wanted}"));
    }
}
