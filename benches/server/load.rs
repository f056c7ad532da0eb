//! Loading a million subtasks: how fast, and how much memory they take.

use std::path::Path;

use crate::support::process::{Process, write_access, write_subtasks};
use crate::support::sample::{self, Subtask};

const SUBTASKS: usize = 1_000_000;

pub(crate) fn run() {
    let directory = tempfile::tempdir().unwrap();
    let (access, file) = (write_access(directory.path()), directory.path().join("subtasks.ndjson"));
    let nothing = measure(&access, &file, std::iter::empty());
    println!("{SUBTASKS} subtasks with UUIDs as ids and the required fields only");
    println!("without any: {:.1} MiB", mib(nothing.memory[0]));
    report("jobs of 1 to 511 subtasks", &nothing, &measure(&access, &file, sample::skewed().take(SUBTASKS)));
    report("each a job of its own", &nothing, &measure(&access, &file, sample::one_job_each().take(SUBTASKS)));
    report("each a project of its own", &nothing, &measure(&access, &file, sample::one_project_each().take(SUBTASKS)));
}

struct Loaded {
    memory: [u64; 2],
    seconds: f64,
    cpu_seconds: f64,
}

fn measure(access: &Path, file: &Path, subtasks: impl Iterator<Item = Subtask>) -> Loaded {
    write_subtasks(file, subtasks);
    // The least of three is the one that was disturbed least.
    let loaded = (0..3).map(|_| {
        let server = Process::full(access, file);
        let loaded = Loaded {
            memory: server.memory(),
            seconds: server.start.as_secs_f64(),
            cpu_seconds: server.cpu().as_secs_f64(),
        };
        server.stop();
        loaded
    });
    loaded.min_by(|one, other| one.seconds.total_cmp(&other.seconds)).unwrap()
}

fn report(what: &str, nothing: &Loaded, loaded: &Loaded) {
    let [now, most] = loaded.memory;
    println!(
        "{what}: {:.0} subtasks/s ({:.0} a second of CPU), {:.1} MiB (at most {:.1}), {} bytes a subtask",
        SUBTASKS as f64 / (loaded.seconds - nothing.seconds),
        SUBTASKS as f64 / (loaded.cpu_seconds - nothing.cpu_seconds),
        mib(now),
        mib(most),
        (now - nothing.memory[0]) / SUBTASKS as u64,
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
