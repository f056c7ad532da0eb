//! Sample data directories: filled by the store, copied, corrupted and opened again.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use futures_util::FutureExt as _;
use subjobs::domain::{CountFilter, Details, JobId, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use subjobs::store::{DataDir, OpenError, Store};
use tempfile::TempDir;

use crate::support::fixtures::{OTHER_PROJECT, PROJECT};
use crate::support::random::Random;
use crate::support::wait::TEST_DEADLINE;

const JOBS: [&str; 3] = ["job-1", "9f1c2ab04d5e4f7c8a6b3c2d1e0f9a8b", "a job with a longer name, which is not packed"];

/// All different counts of the sample subtasks, each with its filter, and every subtask with its position.
pub(crate) type Counts = Vec<(String, u64)>;

/// Reads all counts and subtasks of a store.
fn counts(store: &Store) -> Counts {
    let (types, mut counts) = (JobTypes::default(), Counts::new());
    for project in [PROJECT, OTHER_PROJECT] {
        let id = ProjectId::parse(project).unwrap();
        let mut ask = |what: String, filter: CountFilter| {
            counts.push((format!("{project} {what}"), store.count(&id, &filter).now_or_never().unwrap().unwrap()));
        };
        ask("all".into(), CountFilter::default());
        for job in JOBS {
            let job_id = Some(JobId::parse(job).unwrap());
            ask(job.into(), CountFilter { job_id, ..CountFilter::default() });
        }
        for status in Status::ALL {
            for job_type in types.iter().take(4) {
                let filter =
                    CountFilter { status: Some(status), job_types: [job_type].into_iter().collect(), job_id: None };
                ask(format!("{status} {}", types.name(job_type)), filter);
            }
        }
        let page = runtime().block_on(store.page(&id, &CountFilter::default(), 0, usize::MAX)).unwrap();
        counts.push((format!("{project} revision"), page.revision));
        let subtasks = page.sub_jobs.iter().zip(0..);
        counts.extend(subtasks.map(|(sub_job, place)| (format!("{project} {sub_job:?}"), place)));
    }
    counts
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Opens a directory. Returns its counts, or the error.
pub(crate) fn open(path: &Path) -> Result<Counts, OpenError> {
    used(path, |_| ())
}

/// The same, after `work`. Fails the test if `work` panics or does not end.
pub(crate) fn used(path: &Path, work: impl FnOnce(&Store) + Send + 'static) -> Result<Counts, OpenError> {
    let (done, wait) = mpsc::channel();
    let owned = path.to_owned();
    thread::spawn(move || {
        let open = AssertUnwindSafe(|| {
            let store = Store::on_disk(DataDir::claim(&owned)?, JobTypes::default());
            store.open(|_, _| (), &AtomicBool::new(false))?;
            work(&store);
            let counts = counts(&store);
            while store.recount(usize::MAX).unwrap().is_none() {}
            store.check().unwrap();
            store.close();
            Ok(counts)
        });
        // The receiver may have timed out.
        let _ = done.send(catch_unwind(open));
    });
    let opened = wait.recv_timeout(TEST_DEADLINE).unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
    opened.unwrap_or_else(|_| panic!("opening {} has panicked", path.display()))
}

/// A random subtask, with or without details.
fn sub_job(random: &mut Random, id: usize, details: usize) -> SubJob {
    let job_type = JobTypes::default().iter().nth(random.below(4)).unwrap();
    let text = |length: usize| Some(format!(r#"{{"name":"{}"}}"#, "x".repeat(length)).into());
    SubJob {
        id: SubJobId::parse(&format!("subtask-{id}")).unwrap(),
        job_id: JobId::parse(JOBS[random.below(3)]).unwrap(),
        job_type,
        status: Status::ALL[random.below(7)],
        version: Version::default(),
        details: (details > 0).then(|| Box::new(Details { job_resource_info: text(details), ..Details::default() })),
    }
}

/// Reports one more subtask.
pub(crate) fn report_one(store: &Store) {
    store.report(&ProjectId::parse(PROJECT).unwrap(), vec![sub_job(&mut Random::new(0), 1000, 9)]).unwrap();
}

/// Reports batches of these sizes, which create, move and repeat subtasks in both projects.
fn fill(store: &Store, random: &mut Random, sizes: impl IntoIterator<Item = usize>, details: usize) {
    for (number, size) in sizes.into_iter().enumerate() {
        let project = ProjectId::parse([PROJECT, OTHER_PROJECT][number % 2]).unwrap();
        store.report(&project, batch(random, size, details)).unwrap();
    }
}

/// A batch of this size. The details of a subtask have at most this length.
pub(crate) fn batch(random: &mut Random, size: usize, details: usize) -> Vec<SubJob> {
    let one = |_| {
        let id = random.below(400);
        let length = if random.below(3) == 0 { 1 + random.below(details + 1) } else { details };
        sub_job(random, id, length)
    };
    (0..size).map(one).collect()
}

/// A directory on a file system in memory, if there is one: these tests do not depend on a disk, and a disk would make them slow.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// A closed data directory and its counts.
pub(crate) struct SampleDir {
    _temp: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) counts: Counts,
}

impl SampleDir {
    /// Makes a directory by these steps. Each step opens and closes it.
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let temp = scratch();
        let path = temp.path().join("data");
        let mut counts = Counts::new();
        for step in steps {
            counts = match step {
                Step::Report(work) => used(&path, work).unwrap(),
                Step::Snapshot => used(&path, |store| assert!(store.snapshot())).unwrap(),
                Step::Split => split(&path),
            };
        }
        Self::of(Copied { _temp: temp, path }, counts)
    }

    /// A copy with its current counts.
    pub(crate) fn of(copied: Copied, counts: Counts) -> Self {
        let Copied { _temp, path } = copied;
        Self { _temp, path, counts }
    }

    /// The name of the newest segment of its log.
    pub(crate) fn newest_segment(&self) -> PathBuf {
        self.files().into_iter().map(|(file, _)| file).filter(|file| is_segment(file)).max().unwrap()
    }

    /// Copies it to another path.
    pub(crate) fn copy(&self) -> Copied {
        let temp = scratch();
        let path = temp.path().join("data");
        copy(&self.path, &path);
        Copied { _temp: temp, path }
    }

    /// The bytes of every file, by its path in the directory.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        walk(&self.path, &mut |path| {
            files.push((path.strip_prefix(&self.path).unwrap().to_owned(), fs::read(path).unwrap()));
        });
        files.sort();
        files
    }
}

/// A change of a directory.
pub(crate) enum Step {
    /// Subtasks were reported.
    Report(Box<dyn FnOnce(&Store) + Send>),
    /// A snapshot was made.
    Snapshot,
    /// A new segment of the log was begun.
    Split,
}

/// A step that reports batches of these sizes.
pub(crate) fn reports(seed: u64, sizes: impl IntoIterator<Item = usize> + Send + 'static, details: usize) -> Step {
    Step::Report(Box::new(move |store| fill(store, &mut Random::new(seed), sizes, details)))
}

/// Makes a snapshot, which begins a new segment. Then removes the snapshot and restores the segments that it replaced.
fn split(path: &Path) -> Counts {
    let mut before = Vec::new();
    walk(path, &mut |file| {
        if is_segment(file) {
            before.push((file.to_owned(), fs::read(file).unwrap()));
        }
    });
    let counts = used(path, |store| assert!(store.snapshot())).unwrap();
    walk(path, &mut |file| {
        if file.file_name().unwrap().to_str().unwrap().starts_with("snapshot-") {
            fs::remove_file(file).unwrap();
        }
    });
    before.into_iter().for_each(|(file, bytes)| fs::write(file, bytes).unwrap());
    counts
}

/// A copy of a directory.
pub(crate) struct Copied {
    _temp: TempDir,
    pub(crate) path: PathBuf,
}

fn walk(path: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), each);
        } else {
            each(&entry.path());
        }
    }
}

pub(crate) fn is_segment(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("log-"))
}

fn copy(from: &Path, to: &Path) {
    walk(from, &mut |path| {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    });
}

/// Flips one bit of a file in place.
pub(crate) fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    File::options().write(true).open(path).unwrap().write_all_at(&bytes[at..=at], at as u64).unwrap();
}

/// Calls `work` for each item, a few at the same time, because most of the time is spent waiting for the disk.
pub(crate) fn for_each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}
