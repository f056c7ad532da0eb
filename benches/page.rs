//! How long a page of 100 takes in a project of ten million subtasks, for the filters and offsets that cost most; and what a report
//! costs that renumbers the project: `cargo bench --bench page`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot be made has nothing to say")]
#![allow(missing_docs, reason = "nothing here is for others")]

mod support;

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use subjobs::domain::{
    CountFilter, JobFilter, JobId, JobStatus, JobType, JobTypeSet, JobTypes, ProjectId, Status, SubJob, SubJobId,
    Version,
};
use subjobs::store::Store;
use support::figures::Spread;
use support::sample::Random;

const SUBTASKS: usize = 10_000_000;

/// One in so many subtasks has a type and a status that no other has.
const RARE: usize = 10_000;

/// One job has as many subtasks as all others together, which have ten each.
const LARGE_JOB: &str = "large";

const BATCH: usize = 8192;

/// How many subtasks are left when the project is renumbered: one of 64 places, and those that are below.
const LEFT: usize = SUBTASKS / 65;

fn main() {
    // `cargo bench` says --bench; `cargo test --benches` does not, and wants no measurement.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let (store, project) = (Store::in_memory(JobTypes::default().len()), ProjectId::parse("p").unwrap());
    let types: Vec<_> = JobTypes::default().iter().collect();
    let mut numbers = 0..SUBTASKS;
    let begin = Instant::now();
    while !numbers.is_empty() {
        let batch = numbers.by_ref().take(BATCH).map(|number| sub_job(number, &types)).collect();
        store.report(&project, batch).unwrap();
    }
    println!("{SUBTASKS} subtasks of one project, reported in {:.1} s", begin.elapsed().as_secs_f64());
    pages(&store, &project, &types);
    image_jobs(&store, &project);
    small_changes(&store, &project, &types);
    renumber(&store, &project, &types);
}

fn sub_job(number: usize, types: &[JobType]) -> SubJob {
    let mut random = Random(number as u64);
    // The last type in the last status is the rare one.
    let (job_type, status) = match number % RARE {
        0 => (types.len() - 1, 6),
        _ => (random.below(types.len() - 1), random.below(7)),
    };
    let job = if number.is_multiple_of(2) { LARGE_JOB.to_owned() } else { format!("job {}", number / 20) };
    SubJob {
        id: id(number),
        job_id: JobId::parse(&job).unwrap(),
        job_type: types[job_type],
        status: Status::ALL[status],
        version: Version::default(),
        details: None,
    }
}

fn id(number: usize) -> SubJobId {
    let mut random = Random(number as u64);
    SubJobId::parse(&format!("{:016x}{number:016x}", random.next())).unwrap()
}

fn pages(store: &Store, project: &ProjectId, types: &[JobType]) {
    let any = CountFilter::default();
    let by_status = CountFilter { status: Some(Status::Failed), ..any.clone() };
    let of = |types: &[JobType]| types.iter().copied().collect::<JobTypeSet>();
    let rare = CountFilter { status: Some(Status::ALL[6]), job_types: of(&types[types.len() - 1..]), ..any.clone() };
    let half = CountFilter { status: None, job_types: of(&types[..9]), ..any.clone() };
    let in_job = |filter: &CountFilter, job| CountFilter { job_id: Some(JobId::parse(job).unwrap()), ..filter.clone() };
    println!("a page of 100, microseconds: median, and the longest of 300");
    for (what, filter) in [
        ("no filter", any.clone()),
        ("a status", by_status.clone()),
        ("nine types", half),
        ("a type and a status that one in 10,000 has", rare.clone()),
        ("a job of 5,000,000", in_job(&any, LARGE_JOB)),
        ("a job of 5,000,000 and a status", in_job(&by_status, LARGE_JOB)),
        ("a job of 5,000,000, the type and status of one in 10,000", in_job(&rare, LARGE_JOB)),
        ("a job of ten", in_job(&any, "job 77")),
    ] {
        let total = store.count(project, &filter).now_or_never().unwrap().unwrap();
        for (place, offset) in
            [("beginning", 0), ("middle", total / 2), ("end", total.saturating_sub(100)), ("past the end", total)]
        {
            let mut times: Vec<_> = (0..300).map(|_| page(store, project, &filter, offset)).collect();
            times.sort_unstable();
            let [median, longest] = [times[150], times[299]].map(|time| time.as_secs_f64() * 1e6);
            println!("  {what}, {total} match, {place}: {median:.1}, {longest:.1}");
        }
    }
}

fn page(store: &Store, project: &ProjectId, filter: &CountFilter, offset: u64) -> Duration {
    let begin = Instant::now();
    let page = store.page(project, filter, offset, 100).now_or_never().unwrap().unwrap();
    let time = begin.elapsed();
    assert_eq!(page.sub_jobs.len() as u64, (page.total - offset.min(page.total)).min(100));
    time
}

/// Pages of image jobs: every small job has some image subtasks among its ten.
fn image_jobs(store: &Store, project: &ProjectId) {
    println!("a page of 100 image jobs, microseconds: median, and the longest of 300");
    for (what, status) in
        [("no filter", None), ("RUNNING", Some(JobStatus::Running)), ("SUCCESS", Some(JobStatus::Success))]
    {
        let filter = JobFilter { status, job_types: JobTypeSet::IMAGE };
        let page = |offset| {
            let begin = Instant::now();
            let page = store.image_jobs(project, filter, offset, 100, 100).now_or_never().unwrap().unwrap();
            (begin.elapsed(), page.total)
        };
        let total = page(0).1;
        for (place, offset) in [("beginning", 0), ("middle", total / 2), ("end", total.saturating_sub(100))] {
            let mut times: Vec<_> = (0..300).map(|_| page(offset).0).collect();
            times.sort_unstable();
            let [median, longest] = [times[150], times[299]].map(|time| time.as_secs_f64() * 1e6);
            println!("  {what}, {total} match, {place}: {median:.1}, {longest:.1}");
        }
    }
}

/// Reports of 20 subtasks, and deletions of the same 20, which are anywhere in the project. They are reported again afterwards.
fn small_changes(store: &Store, project: &ProjectId, types: &[JobType]) {
    const BATCH: usize = 20;
    let mut random = Random(1);
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..1001 {
        let numbers: [usize; BATCH] = std::array::from_fn(|_| random.below(SUBTASKS));
        let batch =
            || numbers.iter().map(|&number| SubJob { status: Status::Failed, ..sub_job(number, types) }).collect();
        let mut ids: Vec<_> = numbers.iter().map(|&number| id(number)).collect();
        ids.sort_unstable_by_key(ToString::to_string);
        ids.dedup();
        let (changed, different) = (batch(), ids.len());
        let mut time = |kind: usize, change: &mut dyn FnMut()| {
            let begin = Instant::now();
            change();
            times[kind].push(begin.elapsed().as_secs_f64() * 1e6);
        };
        let mut changed = Some(changed);
        time(0, &mut || {
            store.report(project, changed.take().unwrap()).unwrap();
        });
        let mut ids = Some(ids);
        time(1, &mut || {
            let deletion = store.delete(project.clone(), ids.take().unwrap(), JobTypeSet::ALL).outcome();
            assert_eq!(deletion.now_or_never().unwrap().unwrap(), Ok(different as u64));
        });
        let mut new = Some(batch());
        time(2, &mut || {
            store.report(project, new.take().unwrap()).unwrap();
        });
    }
    println!("microseconds, median of 1,001 (least to greatest), of {SUBTASKS} subtasks");
    for (what, times) in ["a report of 20 stored ones", "a deletion of 20", "a report of 20 new ones"].iter().zip(times)
    {
        println!("  {what}: {}", Spread::of(times));
    }
}

/// Deletes nearly all, so that the next new subtask makes the project be renumbered.
fn renumber(store: &Store, project: &ProjectId, types: &[JobType]) {
    let every = SUBTASKS / LEFT;
    let report = |numbers: &[usize], status: Status| {
        let batch = numbers.iter().map(|&number| SubJob { status, ..sub_job(number, types) }).collect();
        let begin = Instant::now();
        store.report(project, batch).unwrap();
        begin.elapsed().as_secs_f64() * 1e3
    };
    let gone: Vec<_> = (0..SUBTASKS).filter(|number| number % every != 0).collect();
    let mut longest: f64 = 0.0;
    for batch in gone.chunks(BATCH) {
        report(batch, Status::Success);
        let begin = Instant::now();
        let ids = batch.iter().map(|&number| id(number)).collect();
        let deleted = store.delete(project.clone(), ids, JobTypeSet::ALL).outcome().now_or_never().unwrap().unwrap();
        assert_eq!(deleted, Ok(batch.len() as u64));
        longest = longest.max(begin.elapsed().as_secs_f64() * 1e3);
    }
    let left = store.sub_jobs().unwrap();
    println!("all but {left} deleted, {BATCH} at a time: {longest:.1} ms at most");
    println!("a report of one subtask that renumbers these: {:.1} ms", report(&[SUBTASKS], Status::Success));
    println!("the next one: {:.3} ms", report(&[SUBTASKS + 1], Status::Success));
}
