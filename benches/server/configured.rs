//! Whether a count costs more where much is configured, stored and connected, compared with the same count where little is.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use subjobs::access::Access;
use tokio::runtime::{Builder, Runtime};

use crate::client;
use crate::instructions;
use crate::support::figures::Spread;
use crate::support::process::{Process, full_command, write_access, write_subtasks};
use crate::support::sample::{self, Random, Subtask, project_id};

const PRINCIPALS: usize = 100_000;
const POLICIES: usize = 10_000;
const PROJECTS: usize = 1_000_000;
const JOBS: usize = 10_000_000;
const CONNECTIONS: usize = 4096;

/// As many counts, then twice as many.
const COUNTS: usize = 2000;

const READS: usize = 5;

/// What one of the two servers has.
struct Configuration {
    name: &'static str,
    access: PathBuf,
    subtasks: PathBuf,
    connections: usize,
}

pub(crate) fn run() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let little = little(directory.path());
    let much = much(directory.path(), &fs::read_to_string(&little.access).unwrap());
    measure_reading(&much.access);
    let both = [little, much];
    both.iter().for_each(measure_memory);
    if instructions::has_valgrind() {
        let [little, much] = both.map(|configuration| count_instructions(&configuration));
        println!("much / little: {:.3}", much / little);
    }
}

fn little(directory: &Path) -> Configuration {
    let subtasks = directory.join("little.ndjson");
    write_subtasks(&subtasks, few());
    Configuration { name: "little", access: write_access(directory), subtasks, connections: 1 }
}

/// Some jobs of many subtasks. The count is of one of them.
fn few() -> impl Iterator<Item = Subtask> {
    sample::skewed().take(1000)
}

/// All that the other has, and more.
fn much(directory: &Path, access: &str) -> Configuration {
    let mut random = Random(2);
    let ids: Vec<_> = (0..PROJECTS).map(|project| format!("\"{}\"", project_id(project))).collect();
    let mut text = format!("projects = [{}]\n{access}", ids.join(","));
    for policy in 0..POLICIES {
        let action = "workspace:jobs:countSubJobs";
        writeln!(text, "[[policy.of-{policy}.Statement]]\nEffect = \"Allow\"\nAction = [\"{action}\"]").unwrap();
    }
    for principal in 0..PRINCIPALS {
        let token: String = [(); 4].map(|()| format!("{:016x}", random.next())).concat();
        let (project, policy) = (project_id(principal), principal % POLICIES);
        writeln!(
            text,
            "[[principal]]\nname = \"user-{principal}\"\nkind = \"user\"\nprojects = [\"{project}\"]\n\
             tokens = [{{ sha256 = \"{token}\" }}]\npolicies = [\"of-{policy}\"]"
        )
        .unwrap();
    }
    let path = directory.join("much.toml");
    fs::write(&path, text).unwrap();
    let subtasks = directory.join("much.ndjson");
    // Not of the projects of the few, so that the count is of equally many.
    let others = sample::PROJECTS..PROJECTS;
    let many = sample::one_job_each().zip(others.cycle()).map(|(subtask, project)| Subtask { project, ..subtask });
    write_subtasks(&subtasks, few().chain(many.take(JOBS)));
    Configuration { name: "much", access: path, subtasks, connections: CONNECTIONS }
}

fn measure_reading(access: &Path) {
    let seconds = (0..READS).map(|_| {
        let begin = Instant::now();
        let read = Access::read(access).unwrap();
        let took = begin.elapsed().as_secs_f64();
        drop(read);
        took
    });
    let mib = fs::metadata(access).unwrap().len() as f64 / 1024.0 / 1024.0;
    println!(
        "an access file of {PRINCIPALS} principals, {POLICIES} policies and {PROJECTS} projects, {mib:.1} MiB: read in {} s",
        Spread::of(seconds)
    );
}

fn command(configuration: &Configuration) -> Command {
    let mut command = full_command(&configuration.access, &configuration.subtasks);
    command.args(["--max-connections", "6000"]);
    command
}

fn measure_memory(configuration: &Configuration) {
    let server = Process::start(command(configuration));
    let started = server.memory();
    let runtime = runtime();
    let connections = runtime.block_on(client::open(server.public, configuration.connections));
    let connected = server.memory();
    println!(
        "{:7} ready in {:.2} s, resident {:.1} MiB (at most {:.1}); {:.1} MiB with {} connections",
        configuration.name,
        server.start.as_secs_f64(),
        mib(started[0]),
        mib(started[1]),
        mib(connected[0]),
        connections.len()
    );
    drop(connections);
    server.stop();
}

/// Instructions in user mode of a count. They are counted once the server is ready and the connections are open, because a server
/// under valgrind takes ten times longer to be ready if they are counted before.
fn count_instructions(configuration: &Configuration) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let mut command = instructions::callgrind(&command(configuration), &directory.path().join("profile"));
    command.env("VALGRIND_OPTS", "--instr-atstart=no --separate-threads=yes");
    let server = Process::start(command);
    let runtime = runtime();
    let mut connections = runtime.block_on(client::open(server.public, configuration.connections));
    let mut one = vec![connections.pop().unwrap()];
    control(&server, &["instrumentation", "on"]);
    let [once, twice] = [(COUNTS, "profile.1-"), (2 * COUNTS, "profile.2-")].map(|(counts, dump)| {
        one = runtime.block_on(client::round(std::mem::take(&mut one), counts)).1;
        control(&server, &["dump"]);
        totals_of_counts(directory.path(), dump)
    });
    drop((one, connections));
    server.stop();
    let each = (twice - once) as f64 / COUNTS as f64;
    println!("{:7} {each:.0} instructions a count", configuration.name);
    each
}

/// The instructions of those threads that have answered counts, in the dump whose files begin so. Others verify the counters
/// meanwhile, as long as it takes.
fn totals_of_counts(directory: &Path, dump: &str) -> u64 {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of_dump = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(dump));
    let of_counts = of_dump.filter(|path| fs::read_to_string(path).unwrap().contains("count_sub_jobs"));
    of_counts.map(|path| instructions::totals(&path)[0]).sum()
}

/// Gives valgrind a command.
fn control(server: &Process, words: &[&str]) {
    let mut vgdb = Command::new("vgdb");
    let status = vgdb.arg(format!("--pid={}", server.id())).args(words).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "vgdb {words:?}");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
