//! Reports, counts, retention and restarts against a model, and what the server takes of the machine meanwhile:
//! `cargo test --release --test soak -- MINUTES`. It fails at the first difference.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a soak that cannot go on has failed")]

mod caller;
mod course;
mod filter;
mod model;
mod observer;
mod plan;
mod record;
mod reporter;
#[path = "../../benches/support/mod.rs"]
mod support;
mod table;
mod time;
mod world;

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::caller::Caller;
use crate::course::{Course, metric};
use crate::model::{Cells, Project};
use crate::record::{STATUSES, TYPES};
use crate::reporter::Reporter;
use crate::support::process::{serve_command, write_access};
use crate::support::sample::{Random, project_id};
use crate::time::{RETAIN, Window};
use crate::world::{History, World};

/// What everything random follows from, save when it happens.
const SEED: u64 = 20_261_124;

/// Connections that report, each its own projects.
const REPORTERS: usize = 4;

/// Projects of each, and the slots of each project.
const PROJECTS: usize = 4;
const SLOTS: usize = 1500;

/// Connections that only count.
const OBSERVERS: usize = 2;

/// What the end takes: until all is gone that goes, and everything is compared once more.
const END: Duration = Duration::from_secs(15);

const HELP: &str = "\
Usage: cargo test --release --test soak -- MINUTES

  MINUTES  how long it takes: 0.5 to 1440
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(|minutes| minutes.parse()) {
        // `cargo test --all-targets` wants no soak.
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

/// Soaks for that long; whether nothing differed.
fn run(minutes: f64) -> bool {
    let (begin, all) = (Instant::now(), Duration::from_secs_f64(60.0 * minutes));
    let mut directory = TempDir::with_prefix_in("soak", env!("CARGO_TARGET_TMPDIR")).unwrap();
    // It is what tells most about a difference.
    directory.disable_cleanup(true);
    let (access, data) = (write_access(directory.path()), directory.path().join("data"));
    println!("{minutes} minutes, seed {SEED}, in {}", directory.path().display());

    let projects = |reporter| {
        let project = |number| Project::new(project_id(1 + reporter * PROJECTS + number), number == 0, SLOTS);
        (0..PROJECTS).map(project).collect::<Vec<_>>()
    };
    let mut random = Random(SEED);
    let batches = frozen(&mut random);
    let histories = (0..REPORTERS).map(|reporter| History::of(projects(reporter)[0].id.clone())).collect();
    let world = World::new(batches.1, histories);
    let mut course = Course::begin(&world, &data, || command(&access, &data));
    for batch in batches.0 {
        Caller::to(world.life().internal).report(&world.frozen.id, &batch, true).unwrap();
    }
    course.sample();

    let mut held = thread::scope(|scope| {
        let reporters: Vec<_> = (0..REPORTERS)
            .map(|number| {
                let (world, projects, random) = (&world, projects(number), Random(random.next()));
                scope.spawn(move || Reporter::new(world, projects, &world.histories[number], random).run())
            })
            .collect();
        for _ in 0..OBSERVERS {
            let (world, random) = (&world, Random(random.next()));
            scope.spawn(move || observer::run(world, random));
        }
        // For the last third it lives on, since only a long life can tell whether memory grows.
        course.restart_until(begin + all * 2 / 3, (all.as_secs_f64() / 10.0).clamp(3.0, 20.0), &mut random);
        course.live_until((begin + all).checked_sub(END).unwrap());
        world.finish();
        reporters.into_iter().flat_map(|reporter| reporter.join().unwrap()).collect::<Vec<_>>()
    });
    held.push(world.frozen.clone());
    let metrics = course.sample();
    if !world.has_differed() {
        compare_totals(&world, &held, &metrics);
    }
    course.end(false);
    if !world.has_differed() {
        compare_export(&world, &held, &data);
    }

    table::print(&world.seen, &course, begin.elapsed(), course::size(&data).unwrap() as f64);
    let is_good = !world.has_differed();
    directory.disable_cleanup(!is_good);
    is_good
}

fn command(access: &Path, data: &Path) -> Command {
    let mut command = serve_command(access);
    command.arg("--data-dir").arg(data).arg("--retain-finished").arg(format!("{}s", RETAIN.as_secs()));
    command
}

/// The reports of a project that never changes after them, and what it then holds.
fn frozen(random: &mut Random) -> (Vec<Vec<record::Record>>, Project) {
    let (mut project, mut batches) = (Project::new(project_id(0), true, 2 * SLOTS), Vec::new());
    let now = time::now();
    let up = time::Uptime { ready: now, ending: None };
    for _ in 0..20 {
        let (batch, after) = plan::report(&project, random, now, up);
        project.newest_job = after.newest_job;
        project.take(&batch, Window { from: now, to: now }, up);
        batches.push(batch);
    }
    (batches, project)
}

/// Compares what the metrics say of all projects together.
fn compare_totals(world: &World, held: &[Project], metrics: &str) {
    let mut totals = Cells::default();
    for cells in held.iter().map(Project::cells) {
        for (total, number) in totals.as_flattened_mut().iter_mut().zip(cells.as_flattened()) {
            *total += number;
        }
    }
    for (job_type, row) in TYPES.iter().zip(totals) {
        for (status, total) in STATUSES.iter().zip(row) {
            let series = format!(r#"subjobs_subtasks{{job_type="{job_type}",status="{status}"}}"#);
            if metric(metrics, &series) != Some(total) {
                world.differ(&format!("{series} is {:?} and should be {total}", metric(metrics, &series)));
            }
        }
    }
}

/// Compares all that is on the disk, to the last detail.
fn compare_export(world: &World, held: &[Project], data: &Path) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_subjobs")).arg("export").arg("--data-dir").arg(data).output().unwrap();
    if !output.status.success() {
        return world.differ(&format!("it cannot be exported: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let mut expected = HashMap::new();
    for project in held {
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
            world.differ(&format!("stored is {record} and should be {wanted:?}"));
        }
    }
    if let Some(wanted) = expected.into_values().next() {
        world.differ(&format!("not stored is {wanted}"));
    }
}
