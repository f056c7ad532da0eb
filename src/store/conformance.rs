//! What every kind of store must do: one function, against a model that is a list.

mod database;
mod jobs;
mod locks;
mod repair;
mod replicas;

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::embedded::Backend;
use super::*;
use crate::domain::{Details, Timestamp, Version};

pub(super) fn types() -> JobTypes {
    JobTypes::default()
}

pub(super) fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

pub(super) fn id(text: &str) -> SubJobId {
    SubJobId::parse(text).unwrap()
}

pub(super) fn sub_job(text: &str, job: &str, status: Status, version: u64) -> SubJob {
    SubJob {
        id: id(text),
        job_id: JobId::parse(job).unwrap(),
        job_type: types().iter().next().unwrap(),
        status,
        version: Version::try_from(version).unwrap(),
        details: None,
    }
}

/// The answer of a future that never waits.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it waits")
}

/// One for all, since making one takes longer than most of what is waited for.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// The answer of one that may.
fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

pub(super) fn try_open(path: &Path, types: JobTypes) -> Result<Store, OpenError> {
    let store = Store::on_disk(DataDir::claim(path)?, types);
    store.open(|_, _| (), &AtomicBool::new(false))?;
    Ok(store)
}

pub(super) fn open(path: &Path) -> Store {
    try_open(path, types()).unwrap()
}

/// The end time of every subtask that has one.
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

/// What is done to a store.
#[derive(Debug, Clone)]
enum Step {
    Report(u8, Vec<SubJob>),
    /// Some subtasks, of the first types only or of all.
    Delete(u8, Vec<u8>, bool),
    /// Drops what ended long ago, looking at so many records at once.
    Expire(u32),
    Recount(usize),
    Snapshot,
    Reopen,
}

fn arbitrary_sub_job(ids: u8) -> impl Strategy<Value = SubJob> {
    (0..ids, 0..4u8, 0..5usize, 0..7usize, 0..3u64, 0..5u8).prop_map(|(id, job, kind, status, version, code)| {
        let end_time = (code == 3).then(|| LONG_AGO.parse().unwrap());
        let details = Details { error_code: Some(code.to_string().into()), end_time, ..Details::default() };
        SubJob {
            details: (code > 1).then(|| Box::new(details)),
            // Three types of app servers and two of images.
            job_type: types().iter().nth(if kind < 3 { kind } else { kind + 16 }).unwrap(),
            // Versions of both kinds, and identifiers too.
            version: Version::try_from(if version == 2 { i64::MAX as u64 } else { version }).unwrap(),
            ..sub_job(&name(id), &format!("j{job}"), Status::ALL[status], 0)
        }
    })
}

fn name(id: u8) -> String {
    if id.is_multiple_of(3) { format!("the long name of a subtask {id}") } else { format!("s{id}") }
}

fn arbitrary_step(ids: u8) -> impl Strategy<Value = Step> {
    let batch = proptest::collection::vec(arbitrary_sub_job(ids), 0..30);
    prop_oneof![
        6 => (0..2u8, batch).prop_map(|(of, all)| Step::Report(of, all)),
        2 => (0..2u8, proptest::collection::vec(0..ids, 0..4), any::<bool>())
            .prop_map(|(of, ids, all)| Step::Delete(of, ids, all)),
        2 => (1..50u32).prop_map(Step::Expire),
        2 => (1..9usize).prop_map(Step::Recount),
        1 => Just(Step::Snapshot),
        2 => Just(Step::Reopen),
    ]
}

/// The contract of a store, done the slow way: the subtasks of two projects in their order, and whether each ended long ago.
#[derive(Debug, Default, Clone)]
struct Model([Vec<(SubJob, bool)>; 2]);

impl Model {
    fn report(&mut self, of: u8, batch: &[SubJob]) -> Outcome {
        let mut outcome = Outcome::default();
        for new in batch {
            let list = &mut self.0[usize::from(of)];
            let is_old = |known: bool| match new.details.as_ref().and_then(|details| details.end_time) {
                _ if !new.status.has_ended() => false,
                Some(_) => true,
                None => known,
            };
            match list.iter_mut().find(|(known, _)| known.id == new.id) {
                None => {
                    outcome.created += 1;
                    list.push((new.clone(), is_old(false)));
                }
                Some((known, _)) if new.version < known.version => outcome.stale += 1,
                Some((known, _)) if known == new => outcome.unchanged += 1,
                Some((known, old)) => {
                    outcome.updated += 1;
                    (*known, *old) = (new.clone(), is_old(*old && known.status.has_ended()));
                }
            }
        }
        outcome
    }

    fn delete(&mut self, of: u8, ids: &[SubJobId], job_types: JobTypeSet) -> Result<u64, NotDeletable> {
        let list = &mut self.0[usize::from(of)];
        let is_meant = |sub_job: &SubJob| job_types.contains(sub_job.job_type.index());
        for (position, id) in ids.iter().enumerate() {
            let known = list.iter().find(|(known, _)| known.id == *id && is_meant(known));
            if let Some((known, _)) =
                known.filter(|(known, _)| ![Status::Success, Status::Failed].contains(&known.status))
            {
                return Err(NotDeletable { position, status: known.status });
            }
        }
        let before = list.len();
        list.retain(|(known, _)| !(ids.contains(&known.id) && is_meant(known)));
        Ok((before - list.len()) as u64)
    }

    fn expire(&mut self) -> u64 {
        let before = self.0.iter().map(Vec::len).sum::<usize>();
        self.0.iter_mut().for_each(|list| list.retain(|(_, is_old)| !is_old));
        (before - self.0.iter().map(Vec::len).sum::<usize>()) as u64
    }

    fn matching(&self, of: usize, filter: &CountFilter) -> Vec<SubJob> {
        let matches = |sub_job: &&SubJob| {
            filter.status.is_none_or(|status| status == sub_job.status)
                && filter.job_types.contains(sub_job.job_type.index())
                && filter.job_id.as_ref().is_none_or(|job| *job == sub_job.job_id)
        };
        self.0[of].iter().map(|(sub_job, _)| sub_job).filter(matches).cloned().collect()
    }
}

fn filters() -> Vec<CountFilter> {
    let types: Vec<_> = types().iter().collect();
    let mut filters = Vec::new();
    for status in [None, Some(Status::Success), Some(Status::Running)] {
        for job_types in [JobTypeSet::ALL, types[1..3].iter().copied().collect()] {
            for job_id in [None, Some("j0"), Some("j1"), Some("unknown")] {
                let job_id = job_id.map(|id| JobId::parse(id).unwrap());
                filters.push(CountFilter { status, job_types, job_id });
            }
        }
    }
    filters
}

/// Compares all that a store can be asked for with the model; the revisions of the two projects.
fn compare(store: &Store, model: &Model) -> Result<[u64; 2], TestCaseError> {
    let mut revisions = [0; 2];
    for (of, revision) in revisions.iter_mut().enumerate() {
        let project = project(&format!("p{of}"));
        for filter in filters() {
            let expected = model.matching(of, &filter);
            prop_assert_eq!(wait(store.count(&project, &filter)), Ok(expected.len() as u64), "{:?}", filter);
            for (offset, limit) in [(0, 1000), (1, 2), (expected.len() as u64 / 2, 10), (expected.len() as u64, 1)] {
                let page = wait(store.page(&project, &filter, offset, limit)).unwrap();
                *revision = page.revision;
                prop_assert_eq!(page.total, expected.len() as u64);
                let items = expected.iter().skip(offset as usize).take(limit);
                prop_assert!(page.sub_jobs.iter().eq(items), "{:?} from {}: {:?}", filter, offset, page.sub_jobs);
            }
            let job = filter.job_id.as_ref();
            let summary = wait(store.summary(&project, job)).unwrap();
            let all = model.matching(of, &CountFilter { job_id: job.cloned(), ..CountFilter::default() });
            let count = |kind| all.iter().filter(|sub_job| (sub_job.job_type, sub_job.status) == kind).count() as u64;
            let kinds = types().iter().collect::<Vec<_>>().into_iter();
            let kinds =
                kinds.flat_map(|job_type| Status::ALL.map(|status| (job_type, status, count((job_type, status)))));
            prop_assert_eq!(summary.counts, kinds.filter(|(_, _, count)| *count > 0).collect::<Vec<_>>());
        }
        jobs::compare(store, &project, &model.0[of])?;
        for text in (0..6).map(name) {
            let expected = model.0[of].iter().find(|(known, _)| known.id == id(&text)).map(|(known, _)| known.clone());
            prop_assert_eq!(wait(store.sub_job(&project, &id(&text))), Ok(expected));
        }
    }
    let all: usize = model.0.iter().map(Vec::len).sum();
    prop_assert_eq!(store.sub_jobs(), Ok(all as u64));
    Ok(revisions)
}

fn expire(store: &Store, most: u32) -> u64 {
    let a_year = Duration::from_secs(365 * 24 * 60 * 60);
    let (mut from, mut count) = (0, 0);
    loop {
        let dropped = store.expire(a_year, Timestamp::now(), from, most).unwrap();
        (from, count) = (dropped.next, count + dropped.count);
        if from == 0 {
            return count;
        }
    }
}

pub(super) fn recount(store: &Store) -> u64 {
    std::iter::repeat_with(|| store.recount(7).unwrap()).flatten().next().unwrap()
}

fn is_on_disk(store: &Store) -> bool {
    matches!(&store.0, Kind::Embedded(store) if matches!(store.backend, Backend::DataDir(_)))
}

/// Does all steps to a store, which `reopen` may close and open again.
fn conforms(mut store: Store, reopen: impl Fn(Store) -> Store, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut revisions = [0; 2];
    for step in steps {
        let before = model.clone();
        let may_change = matches!(step, Step::Report(..) | Step::Delete(..) | Step::Expire(_));
        match step {
            Step::Report(of, batch) => {
                let expected = model.report(of, &batch);
                prop_assert_eq!(store.report(&project(&format!("p{of}")), batch), Ok(expected));
            }
            Step::Delete(of, ids, all) => {
                let ids: Vec<_> = ids.into_iter().map(|number| id(&name(number))).collect();
                let job_types = if all { JobTypeSet::ALL } else { types().iter().take(2).collect() };
                let expected = model.delete(of, &ids, job_types);
                let deleted = store.delete(project(&format!("p{of}")), ids, job_types);
                prop_assert_eq!(wait(deleted.outcome()), Ok(expected));
            }
            Step::Expire(most) => prop_assert_eq!(expire(&store, most), model.expire()),
            Step::Recount(most) => prop_assert!(store.recount(most).unwrap().is_none_or(|drift| drift == 0)),
            Step::Snapshot => prop_assert_eq!(store.snapshot(), is_on_disk(&store)),
            Step::Reopen => store = reopen(store),
        }
        let after = compare(&store, &model)?;
        for of in 0..2 {
            let [after, before_it] = [after[of], revisions[of]];
            if before.0[of] != model.0[of] {
                prop_assert!(after > before_it, "{} after {}", after, before_it);
            } else if may_change {
                // A report may change a subtask and change it back.
                prop_assert!(after >= before_it, "{} after {}", after, before_it);
            } else {
                prop_assert_eq!(after, before_it);
            }
        }
        revisions = after;
        prop_assert_eq!(wait(store.summary(&project("never-seen"), None)).unwrap().revision, 0);
    }
    prop_assert_eq!(recount(&store), 0);
    if let Kind::Embedded(store) = &store.0 {
        store.memory.assert_sound();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_store_in_memory_conforms(steps in proptest::collection::vec(arbitrary_step(40), 1..20)) {
        conforms(Store::in_memory(types().len()), |store| store, steps)?;
    }
}

/// A directory in memory, where there is such: most of the time would be spent waiting for a disk.
pub(super) fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_store_on_a_disk_conforms(steps in proptest::collection::vec(arbitrary_step(40), 1..20)) {
        let dir = scratch();
        let reopen = |store: Store| {
            store.close();
            open(dir.path())
        };
        conforms(open(dir.path()), reopen, steps)?;
    }
}

/// Each report moves all subtasks on to the next status and is seen whole or not at all, in counts as in pages.
fn readers_never_see_half_a_report(store: &Store) {
    const SUB_JOBS: usize = 600;
    const JOBS: usize = 20;
    let p = project("p");
    let in_status = |status, job: Option<usize>| CountFilter {
        status: Some(status),
        job_id: job.map(|job| JobId::parse(&format!("j{job}")).unwrap()),
        ..CountFilter::default()
    };
    let report = |status| {
        let one = |at: usize| sub_job(&format!("s{at}"), &format!("j{}", at % JOBS), status, 0);
        store.report(&p, (0..SUB_JOBS).map(one).collect()).unwrap();
    };
    report(Status::Waiting);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (p, is_over) = (&p, &is_over);
                scope.spawn(move || {
                    for look in 0.. {
                        let job = (look * 7 + reader) % JOBS;
                        let status = Status::ALL[look % 7];
                        let all = wait(store.count(p, &in_status(status, None))).unwrap() as usize;
                        assert!([0, SUB_JOBS].contains(&all), "half a report: {all}");
                        let of_job = wait(store.count(p, &in_status(status, Some(job)))).unwrap() as usize;
                        assert!([0, SUB_JOBS / JOBS].contains(&of_job), "half a report in a job: {of_job}");
                        for filter in [in_status(status, None), in_status(status, Some(job))] {
                            let page = wait(store.page(p, &filter, 0, SUB_JOBS)).unwrap();
                            assert_eq!(page.sub_jobs.len() as u64, page.total);
                        }
                        let summary = wait(store.summary(p, None)).unwrap();
                        assert!(matches!(summary.counts[..], [(_, _, 600)]), "{summary:?}");
                        if is_over.load(Ordering::Acquire) {
                            return look;
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        for _ in 0..6 {
            Status::ALL.into_iter().for_each(report);
        }
        is_over.store(true, Ordering::Release);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
}

#[test]
fn readers_of_memory_never_see_half_a_report() {
    readers_never_see_half_a_report(&Store::in_memory(types().len()));
}

#[test]
fn readers_of_a_disk_never_see_half_a_report() {
    let dir = scratch();
    readers_never_see_half_a_report(&open(dir.path()));
}
