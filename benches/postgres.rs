//! What a store in PostgreSQL does, beside the same done without it, with a server of its own on the same cores:
//! `cargo bench --bench postgres`, or one part of it: `cargo bench --bench postgres -- counts` or `-- reports`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot be made has nothing to say")]
#![allow(missing_docs, reason = "nothing here is for others")]

#[path = "../tests/support/postgres.rs"]
#[allow(unused_imports, reason = "the tests of the program use more of it")]
mod cluster;
#[path = "postgres/plain.rs"]
mod plain;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Cluster, Version as ServerVersion};
use plain::Plain;
use subjobs::domain::{CountFilter, JobId, JobType, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use subjobs::store::{Store, Target, migrate};
use support::figures::Spread;
use support::sample::Random;
use support::wait::SetOnDrop;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const ROUNDS: usize = 3;

/// How long each count or report is repeated.
const TIME: Duration = Duration::from_secs(2);

const SETTINGS: &str = "shared_buffers = 1GB\nmax_connections = 120\nmax_wal_size = 4GB\n";

/// Subtasks of a job.
const JOB: usize = 100;

const SMALL: usize = 10_000;
const LARGE: usize = 1_000_000;

struct World {
    runtime: Runtime,
    cluster: Cluster,
    project: ProjectId,
    job_type: JobType,
}

fn main() {
    // `cargo bench` says --bench; `cargo test --benches` does not, and wants no measurement.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let is_wanted = |part| {
        !std::env::args().any(|arg| arg == "counts" || arg == "reports") || std::env::args().any(|arg| arg == part)
    };
    let world = World {
        runtime: Runtime::new().unwrap(),
        cluster: Cluster::start_with(ServerVersion::System, SETTINGS),
        project: ProjectId::parse("p").unwrap(),
        job_type: JobTypes::default().iter().next().unwrap(),
    };
    if is_wanted("counts") {
        world.all_counts();
    }
    if is_wanted("reports") {
        world.reports();
    }
}

impl World {
    fn all_counts(&self) {
        let (small, large) = (self.store(), self.store());
        self.load(&small.0, SMALL);
        let begin = Instant::now();
        self.load(&large.0, LARGE);
        println!("{LARGE} subtasks loaded, {:.0} a second", LARGE as f64 / begin.elapsed().as_secs_f64());
        self.counts(&large);
        self.medians(&small.0, &large.0);
        self.beside_reports(&large.0);
        self.lists_beside_reports(&small.0);
        // A checkpoint would slow what is measured next.
        self.cluster.sql("postgres", "CHECKPOINT");
    }

    /// A store in a database of its own, and the name of that.
    fn store(&self) -> (Arc<Store>, String) {
        let database = self.cluster.create_database(None);
        let target = Target::new(self.cluster.url(&database).parse().unwrap(), None, None).unwrap();
        self.runtime.block_on(migrate(&target)).unwrap();
        let store = Store::in_postgres(target, JobTypes::default(), 2, Duration::from_secs(60));
        let _context = self.runtime.enter();
        store.open(|_, _| (), &AtomicBool::new(false)).unwrap();
        (Arc::new(store), database)
    }

    fn load(&self, store: &Store, subtasks: usize) {
        for from in (0..subtasks).step_by(10_000) {
            let batches = (from..from + 10_000)
                .step_by(1000)
                .map(|from| (self.project.clone(), sub_jobs(self.job_type, from..from + 1000, Status::Running)));
            store.load(batches).unwrap();
        }
    }

    fn filter(&self, job: Option<usize>) -> CountFilter {
        let job_id = job.map(|job| JobId::parse(&format!("job {job}")).unwrap());
        CountFilter { job_id, status: Some(Status::Running), ..CountFilter::default() }
    }

    /// Repeats an operation in so many tasks for a while. How many a second.
    fn rate<F: Future<Output = u64> + Send>(
        &self,
        tasks: usize,
        operation: impl Fn(usize, usize) -> F + Send + Sync + 'static,
    ) -> f64 {
        let (operation, done) = (Arc::new(operation), Arc::new(AtomicU64::new(0)));
        let begin = Instant::now();
        self.runtime.block_on(async {
            let tasks: Vec<_> = (0..tasks)
                .map(|task| {
                    let (operation, done) = (operation.clone(), done.clone());
                    tokio::spawn(async move {
                        for round in 0.. {
                            if begin.elapsed() > TIME {
                                return;
                            }
                            done.fetch_add(operation(task, round).await, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
    }

    fn counts(&self, (store, database): &(Arc<Store>, String)) {
        let plain = Arc::new(self.runtime.block_on(Plain::connect(&self.cluster.url(database), 8)));
        for (what, is_random) in [("of one project", false), ("of jobs at random", true)] {
            let (mut grouped, mut direct) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (store, project) = (store.clone(), self.project.clone());
                let filters: Arc<Vec<_>> = Arc::new((0..LARGE / JOB).map(|job| self.filter(Some(job))).collect());
                let all = self.filter(None);
                grouped.push(self.rate(64, move |task, round| {
                    let (store, project, filters, all) = (store.clone(), project.clone(), filters.clone(), all.clone());
                    async move {
                        let job = (task * 7919 + round * 104_729) % filters.len();
                        let filter = if is_random { &filters[job] } else { &all };
                        let count = store.count(&project, filter).await.unwrap();
                        assert_eq!(count, if is_random { JOB } else { LARGE } as u64);
                        1
                    }
                }));
                let plain = plain.clone();
                direct.push(self.rate(8, move |task, round| {
                    let plain = plain.clone();
                    async move {
                        let job = (task * 7919 + round * 104_729) % (LARGE / JOB);
                        plain.count(task, is_random.then(|| format!("job {job}"))).await;
                        1
                    }
                }));
            }
            print("counts a second", what, "64 callers in groups", &grouped, "8 connections, one query each", &direct);
        }
    }

    /// The median of one caller, with few and with many subtasks.
    fn medians(&self, small: &Store, large: &Store) {
        let median = |store: &Store| {
            let filter = self.filter(None);
            let count = || self.runtime.block_on(store.count(&self.project, &filter)).unwrap();
            let times = times(4000, Duration::ZERO, count);
            times[times.len() / 2]
        };
        let pairs: Vec<_> = (0..ROUNDS).map(|_| (median(large), median(small))).collect();
        let (many, few): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        print("median microseconds of a count", "by one caller", "1,000,000 subtasks", &many, "10,000 subtasks", &few);
    }

    /// The 99th percentile of counts, one each 2 ms, at rest and beside reports of 1,000 from 4 tasks.
    fn beside_reports(&self, store: &Arc<Store>) {
        let (mut beside, mut rest) = (Vec::new(), Vec::new());
        let (mut callers_beside, mut callers_at_rest) = (Vec::new(), Vec::new());
        let mut reported = 0;
        for round in 0..ROUNDS {
            rest.push(self.percentile(store));
            callers_at_rest.push(self.percentile_of_callers(store));
            let measure = || {
                beside.push(self.percentile(store));
                callers_beside.push(self.percentile_of_callers(store));
            };
            let status = Status::ALL[round % 2 + 2];
            reported += self.while_reported(store, status, |batch| batch * 1000 % LARGE, measure);
        }
        println!("{reported} subtasks reported meanwhile");
        let figure = "99th percentile of counts, microseconds";
        print(figure, "64 callers at once", "beside reports", &callers_beside, "at rest", &callers_at_rest);
        print(figure, "one each 2 ms", "beside reports", &beside, "at rest", &rest);
    }

    /// Measures while 4 tasks report 1,000 subtasks each, from these numbers on. How many have been reported.
    fn while_reported(
        &self,
        store: &Arc<Store>,
        status: Status,
        first: impl Fn(usize) -> usize + Sync,
        measure: impl FnOnce(),
    ) -> usize {
        let (batches, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let from = first(batches.fetch_add(1, Ordering::Relaxed));
                        let batch = sub_jobs(self.job_type, from..from + 1000, status);
                        store.report(&self.project, batch).unwrap();
                    }
                });
            }
            let _end = SetOnDrop(&is_over);
            measure();
        });
        batches.into_inner() * 1000
    }

    /// Lists wait for transactions that are adding subtasks.
    fn lists_beside_reports(&self, store: &Arc<Store>) {
        let (mut beside, mut rest) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let (mut next, filter) = (LARGE, self.filter(None));
        let read = || self.runtime.block_on(store.page(&self.project, &filter, 0, 100)).unwrap();
        let measure = |figures: &mut [Vec<f64>; 2]| {
            let times = times(300, Duration::from_millis(5), read);
            figures[0].push(times[times.len() / 2]);
            figures[1].push(times[times.len() * 99 / 100]);
        };
        for _ in 0..ROUNDS {
            measure(&mut rest);
            let first = |batch| next + batch * 1000;
            next += self.while_reported(store, Status::Running, first, || measure(&mut beside));
        }
        for (at, figure) in ["median", "99th percentile"].into_iter().enumerate() {
            let figure = format!("{figure} of lists of 100, microseconds");
            print(&figure, "one each 5 ms", "beside reports of new ones", &beside[at], "at rest", &rest[at]);
        }
    }

    /// The 99th percentile of counts by 64 callers. Each asks again as soon as it has its answer.
    fn percentile_of_callers(&self, store: &Arc<Store>) -> f64 {
        let filter = self.filter(None);
        let until = Instant::now() + TIME;
        let mut times: Vec<f64> = self.runtime.block_on(async {
            let mut callers = JoinSet::new();
            for _ in 0..64 {
                let (store, project, filter) = (store.clone(), self.project.clone(), filter.clone());
                callers.spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < until {
                        let begin = Instant::now();
                        store.count(&project, &filter).await.unwrap();
                        times.push(begin.elapsed().as_secs_f64() * 1e6);
                    }
                    times
                });
            }
            callers.join_all().await.into_iter().flatten().collect()
        });
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    }

    fn percentile(&self, store: &Store) -> f64 {
        let filter = self.filter(None);
        let count = || self.runtime.block_on(store.count(&self.project, &filter)).unwrap();
        let times = times(2000, Duration::from_millis(2), count);
        times[times.len() * 99 / 100]
    }

    /// Reports, beside the same statements on a bare table with indexes for counting.
    fn reports(&self) {
        for (what, size, tasks, is_update) in [
            ("of one, new, from 64 callers", 1, 64, false),
            ("of 1,000, new, from 4 callers", 1000, 4, false),
            ("of 1,000, stored before, from 4 callers", 1000, 4, true),
        ] {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            let (mut groups, mut flights) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (store, database) = self.store();
                let plain = Arc::new(self.runtime.block_on(Plain::with_table(&self.cluster.url(&database), tasks)));
                if is_update {
                    self.load(&store, LARGE / 5);
                    self.runtime.block_on(plain.fill(LARGE / 5));
                }
                let numbers = move |task: usize, round: usize| {
                    if is_update {
                        let from = (task * 7919 + round * 4 + task) * size % (LARGE / 5);
                        from..from + size
                    } else {
                        let from = (round * tasks + task) * size;
                        from..from + size
                    }
                };
                let status = if is_update { Status::Success } else { Status::Running };
                let (project, store_of) = (self.project.clone(), store.clone());
                let job_type = self.job_type;
                ours.push(self.rate(tasks, move |task, round| {
                    let (store, project) = (store_of.clone(), project.clone());
                    let batch = sub_jobs(job_type, numbers(task, round), status);
                    async move {
                        let submitted = match store.try_submit(project, batch) {
                            Ok(submitted) => submitted,
                            Err(deferred) => store.submit_deferred(deferred),
                        };
                        submitted.outcome().await.unwrap();
                        size as u64
                    }
                }));
                let plain_of = plain.clone();
                bare.push(self.rate(tasks, move |task, round| {
                    let plain = plain_of.clone();
                    async move {
                        plain.store(task, numbers(task, round), status as i16).await;
                        size as u64
                    }
                }));
                if let Some(stats) = store.database_stats() {
                    groups.push(stats.committed_sub_jobs as f64 / stats.commits as f64);
                    flights.push(stats.commit_micros as f64 / stats.commits as f64);
                }
                store.close();
            }
            print("subtasks a second in reports", what, "store", &ours, "bare table", &bare);
            println!("  a transaction: {} subtasks, {} microseconds", Spread::of(groups), Spread::of(flights));
        }
    }
}

/// How long an operation takes, in microseconds, sorted. It is repeated after pauses.
fn times<A>(repeats: usize, pause: Duration, operation: impl Fn() -> A) -> Vec<f64> {
    let time = |_| {
        std::thread::sleep(pause);
        let begin = Instant::now();
        operation();
        begin.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..repeats).map(time).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn sub_jobs(job_type: JobType, numbers: std::ops::Range<usize>, status: Status) -> Vec<SubJob> {
    let one = |number: usize| SubJob {
        id: SubJobId::parse(&format!("{:016x}{number:016x}", Random(number as u64).next())).unwrap(),
        job_id: JobId::parse(&format!("job {}", number / JOB)).unwrap(),
        job_type,
        status,
        version: Version::default(),
        details: None,
    };
    numbers.map(one).collect()
}

fn print(figure: &str, what: &str, first: &str, ours: &[f64], second: &str, theirs: &[f64]) {
    let ratios = Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
    println!("{figure} {what}");
    println!("  {first}: {}", Spread::of(ours.iter().copied()));
    println!("  {second}: {}", Spread::of(theirs.iter().copied()));
    println!("  ratio: {ratios}");
}
