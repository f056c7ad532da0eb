//! How long a count takes, from ten thousand subtasks to ten million, at rest and beside a busy writer:
//! `cargo bench --bench count`. It should not depend on the number.

#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement that cannot be made has nothing to say")]

mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use futures_util::FutureExt as _;
use subjobs::domain::{CountFilter, Family, JobId, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use subjobs::store::Store;
use support::sample::{self, PROJECTS, Subtask, project_id};
use support::wait::SetOnDrop;

const SIZES: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// How many subtasks a report has.
const BATCH: usize = 8192;

/// How many different jobs are asked for in turn.
const JOBS: usize = 1024;

fn main() {
    // `cargo bench` says --bench; `cargo test --benches` does not, and wants no measurement.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    let mut world = World::new();
    for size in SIZES {
        world.grow(size);
        counts(&mut criterion, &world, "count");
        if size == 1_000_000 {
            beside_a_writer(&world.store, || counts(&mut criterion, &world, "count beside a writer"));
        }
    }
    criterion.final_summary();
}

fn counts(criterion: &mut Criterion, world: &World, name: &str) {
    let types = JobTypes::default();
    let two_types =
        || ["CREATE_SERVER", "DELETE_SERVER"].into_iter().map(|name| types.parse(Family::App, name).unwrap()).collect();
    let of_job = |job_id: &JobId| CountFilter { job_id: Some(job_id.clone()), ..CountFilter::default() };
    let by_status = CountFilter { status: Some(Status::Running), ..CountFilter::default() };
    let by_types = CountFilter { job_types: two_types(), ..by_status.clone() };
    let mut group = criterion.benchmark_group(name);
    for (what, filters) in [
        ("whole project", vec![CountFilter::default()]),
        ("by status", vec![by_status]),
        ("by types and status", vec![by_types]),
        ("by job", vec![of_job(&world.jobs[0])]),
        ("by 1024 jobs in turn", world.jobs.iter().take(JOBS).map(of_job).collect()),
    ] {
        let mut filters = filters.iter().cycle();
        let filter = |filter| world.store.count(&world.projects[0], black_box(filter));
        let mut count = || filter(filters.next().unwrap()).now_or_never().unwrap().unwrap();
        group.bench_function(BenchmarkId::new(what, world.size), |bencher| bencher.iter(&mut count));
    }
    group.finish();
}

/// Does something while a thread reports as fast as it can: many subtasks at once, to and fro between two statuses.
fn beside_a_writer(store: &Store, something: impl FnOnce()) {
    let types = JobTypes::default();
    let batch: Vec<_> = sample::skewed().take(BATCH).map(|subtask| sub_job(&subtask, &types)).collect();
    let project = ProjectId::parse("of-the-writer").unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for status in [Status::Running, Status::Success].into_iter().cycle() {
                let batch = batch.iter().cloned().map(|sub_job| SubJob { status, ..sub_job }).collect();
                store.report(&project, batch).unwrap();
                if is_done.load(Relaxed) {
                    return;
                }
            }
        });
        let _end = SetOnDrop(&is_done);
        something();
    });
}

fn sub_job(subtask: &Subtask, types: &JobTypes) -> SubJob {
    SubJob {
        id: SubJobId::parse(&subtask.id).unwrap(),
        job_id: JobId::parse(&subtask.job_id).unwrap(),
        job_type: types.parse(Family::App, subtask.job_type).unwrap(),
        status: subtask.status.parse().unwrap(),
        version: Version::default(),
        details: None,
    }
}

/// A store that grows, and jobs of its first project.
struct World {
    store: Store,
    projects: Vec<ProjectId>,
    subtasks: Box<dyn Iterator<Item = Subtask>>,
    jobs: Vec<JobId>,
    size: usize,
}

impl World {
    fn new() -> Self {
        let projects = (0..PROJECTS).map(|number| ProjectId::parse(&project_id(number)).unwrap()).collect();
        let store = Store::in_memory(JobTypes::default().len());
        Self { store, projects, subtasks: Box::new(sample::skewed()), jobs: Vec::new(), size: 0 }
    }

    /// Takes in as many subtasks as are missing.
    fn grow(&mut self, size: usize) {
        let types = JobTypes::default();
        let mut batches = vec![Vec::new(); PROJECTS];
        let mut jobs = Vec::new();
        for subtask in self.subtasks.by_ref().take(size - self.size) {
            let sub_job = sub_job(&subtask, &types);
            if subtask.project == 0 && jobs.last() != Some(&sub_job.job_id) {
                jobs.push(sub_job.job_id.clone());
            }
            let batch = &mut batches[subtask.project];
            batch.push(sub_job);
            if batch.len() == BATCH {
                self.store.report(&self.projects[subtask.project], std::mem::take(batch)).unwrap();
            }
        }
        for (project, batch) in self.projects.iter().zip(batches) {
            self.store.report(project, batch).unwrap();
        }
        // From all over the store.
        let every = jobs.len().div_ceil(JOBS);
        self.jobs = jobs.into_iter().step_by(every).collect();
        self.size = size;
    }
}
