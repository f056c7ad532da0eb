//! What a reported subtask costs a server in memory: processor time, and instructions, which are the same in every run.
//!
//! `BESIDE` may name the program of another build, which is measured in turns with this one.

use std::path::{Path, PathBuf};

use crate::durable::{Load, bodies, send_all};
use crate::instructions;
use crate::support::figures::Spread;
use crate::support::process::{PROGRAM, Process, serve_command_of, write_access};

const ROUNDS: usize = 7;

/// What processor time is measured with, each round in a server of its own.
const TIMED: Load = Load { connections: 4, subtasks: 1000, reports: 200 };

/// What instructions are counted with.
const COUNTED: Load = Load { connections: 1, subtasks: 1000, reports: 20 };

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let access = write_access(directory.path());
    let beside = std::env::var_os("BESIDE").map(PathBuf::from);
    let builds: Vec<_> = [("this build", Some(PROGRAM.into())), ("beside", beside)]
        .into_iter()
        .filter_map(|(name, program)| Some((name, program?)))
        .collect();
    measure_time(&builds, &access);
    if instructions::has_valgrind() {
        builds.iter().for_each(|(name, program)| count_instructions(name, program, &access));
    }
}

/// Reports new subtasks, then all of them in another status.
fn measure_time(builds: &[(&str, PathBuf)], access: &Path) {
    let reports = ["RUNNING", "SUCCESS"].map(|status| bodies(TIMED, 0, Some(status)));
    let mut micros = vec![[Vec::new(), Vec::new()]; builds.len()];
    for _ in 0..ROUNDS {
        for ((_, program), micros) in builds.iter().zip(&mut micros) {
            let server = Process::start(serve_command_of(program, access));
            for (reports, micros) in reports.iter().zip(micros) {
                let before = server.cpu();
                send_all(&[server.internal.unwrap()], reports);
                micros.push((server.cpu() - before).as_secs_f64() * 1e6 / TIMED.all_subtasks() as f64);
            }
            server.stop();
        }
    }
    println!("us of server CPU a subtask, in reports of {} from {} connections", TIMED.subtasks, TIMED.connections);
    for (what, at) in [("new", 0), ("changed", 1)] {
        for ((name, _), micros) in builds.iter().zip(&micros) {
            println!("  {what:8} {name:11} {}", Spread::of(micros[at].clone()));
        }
        if let [this, beside] = &micros[..] {
            let ratios = this[at].iter().zip(&beside[at]).map(|(this, beside)| this / beside);
            println!("  {what:8} ratio       {}", Spread::of(ratios));
        }
    }
}

/// Instructions in user mode: of as many reports and of twice as many. Their difference has neither start nor end in it.
fn count_instructions(name: &str, program: &Path, access: &Path) {
    let command = serve_command_of(program, access);
    let twice = Load { reports: 2 * COUNTED.reports, ..COUNTED };
    let [once, again] = ["RUNNING", "SUCCESS"].map(|status| bodies(COUNTED, 0, Some(status)));
    let count = |what: &str, reports: &[&Vec<Vec<Vec<u8>>>]| {
        let profile = profile(&format!("{what}.{}", name.replace(' ', "-")));
        let [all, _] = instructions::count(&command, &profile, |server| {
            for reports in reports {
                send_all(&[server.internal.unwrap()], reports);
            }
        });
        (all, profile)
    };
    let (few, _) = count("reported", &[&once]);
    let (new, of_new) = count("new", &[&bodies(twice, 0, Some("RUNNING"))]);
    let (changed, of_changed) = count("changed", &[&once, &again]);
    for (what, all, profile) in [("new", new, of_new), ("changed", changed, of_changed)] {
        let each = (all - few) as f64 / COUNTED.all_subtasks() as f64;
        println!("  {what:8} {name:11} {each:6.0} instructions a subtask");
        println!("           by function: callgrind_annotate {}", profile.display());
    }
}

fn profile(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{name}"))
}
