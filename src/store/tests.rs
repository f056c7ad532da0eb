//! A store on a disk against one in memory, over restarts; and what becomes of it when things go wrong.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::domain::{Details, JobId, JobTypeSet, SubJobId, Version};

fn types() -> JobTypes {
    JobTypes::default()
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn sub_job(id: &str, job: &str, status: Status, version: u64) -> SubJob {
    SubJob {
        id: SubJobId::parse(id).unwrap(),
        job_id: JobId::parse(job).unwrap(),
        job_type: types().iter().next().unwrap(),
        status,
        version: Version::try_from(version).unwrap(),
        details: None,
    }
}

impl Store {
    /// One in memory, of one subtask, whose counts are off by so many.
    pub(crate) fn drifted_by(drift: i32) -> Self {
        let (store, project, sub_job) = (Self::in_memory(19), project("p"), sub_job("s", "j", Status::Running, 0));
        store.report(&project, vec![sub_job.clone()]).unwrap();
        store.memory.distort_as(&project, &sub_job, "j", drift);
        store
    }
}

fn try_open(path: &Path, types: JobTypes) -> Result<Store, OpenError> {
    let store = Store::on_disk(DataDir::claim(path)?, types);
    store.open(|_, _| (), &AtomicBool::new(false))?;
    Ok(store)
}

fn open(path: &Path) -> Store {
    try_open(path, types()).unwrap()
}

fn outcome(created: u64, updated: u64, unchanged: u64, stale: u64) -> Result<Outcome, StoreError> {
    Ok(Outcome { created, updated, unchanged, stale })
}

fn arbitrary_sub_job() -> impl Strategy<Value = SubJob> {
    (0..20u8, 0..3u8, 0..3usize, 0..7usize, 0..3u64, 0..4u8).prop_map(|(id, job, kind, status, version, code)| {
        let end_time = (code == 3).then(|| "2020-01-01T00:00:00Z".parse().unwrap());
        let details = Details { error_code: Some(code.to_string().into()), end_time, ..Details::default() };
        SubJob {
            details: (code > 0).then(|| Box::new(details)),
            job_type: types().iter().nth(kind).unwrap(),
            ..sub_job(&format!("s{id}"), &format!("j{job}"), Status::ALL[status], version)
        }
    })
}

/// What is done to both stores.
#[derive(Debug, Clone)]
enum Step {
    Report(u8, Vec<SubJob>),
    /// Drops what ended in 2020, which is what subtasks with a time say.
    Expire,
    Reopen,
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, proptest::collection::vec(arbitrary_sub_job(), 0..30)).prop_map(|(of, all)| Step::Report(of, all)),
        1 => Just(Step::Expire),
        2 => Just(Step::Reopen),
    ]
}

/// All that the two can be asked for.
fn counts(store: &Store) -> Vec<u64> {
    let (mut counts, types) = (Vec::new(), types());
    for of in ["p0", "p1"].map(project) {
        for status in Status::ALL.into_iter().map(Some).chain([None]) {
            let one_type = types.iter().take(1).collect();
            for job_types in [JobTypeSet::ALL, one_type] {
                for job in [None, Some("j0"), Some("j1"), Some("j2")] {
                    let job_id = job.map(|job| JobId::parse(job).unwrap());
                    counts.push(store.count(&of, &CountFilter { status, job_types, job_id }).unwrap());
                }
            }
        }
    }
    counts
}

fn expire(store: &Store) -> u64 {
    let a_year = Duration::from_secs(365 * 24 * 60 * 60);
    let dropped = store.expire(a_year, Timestamp::now(), 0, u32::MAX).unwrap();
    assert_eq!(dropped.next, 0);
    dropped.count
}

fn recount(store: &Store) -> u64 {
    std::iter::repeat_with(|| store.recount(7).unwrap()).flatten().next().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_disk_changes_nothing(steps in proptest::collection::vec(arbitrary_step(), 1..14)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut on_disk, in_memory) = (open(dir.path()), Store::in_memory(types().len()));
        for step in steps {
            match step {
                Step::Report(of, batch) => {
                    let of = project(&format!("p{of}"));
                    prop_assert_eq!(on_disk.report(&of, batch.clone()), in_memory.report(&of, batch));
                }
                Step::Expire => prop_assert_eq!(expire(&on_disk), expire(&in_memory)),
                Step::Reopen => {
                    on_disk.close();
                    on_disk = open(dir.path());
                }
            }
            prop_assert_eq!(counts(&on_disk), counts(&in_memory));
        }
        prop_assert_eq!((recount(&on_disk), recount(&in_memory)), (0, 0));
    }
}

#[test]
fn reports_from_many_threads_are_all_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (store, p) = (open(dir.path()), project("p"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, p) = (&store, &p);
            scope.spawn(move || {
                for report in 0..40 {
                    let id = format!("{thread}-{report}");
                    let batch = vec![sub_job(&id, "j", Status::Running, 0), sub_job("of all", "j", Status::Running, 0)];
                    let done = store.report(p, batch).unwrap();
                    assert_eq!((done.created + done.unchanged, done.created >= 1), (2, true));
                    assert!(store.count(p, &CountFilter::default()).unwrap() > report);
                }
            });
        }
    });
    drop(store);
    assert_eq!(open(dir.path()).count(&p, &CountFilter::default()), Ok(8 * 40 + 1));
}

#[test]
fn a_file_adds_only_what_was_not_stored_before() {
    let dir = tempfile::tempdir().unwrap();
    let p = project("p");
    let load = |store: &Store, batch| store.load([(p.clone(), batch)]);
    let file = || vec![sub_job("a", "j", Status::Waiting, 9), sub_job("b", "j", Status::Waiting, 0)];
    let store = open(dir.path());
    assert_eq!(load(&store, file()), outcome(2, 0, 0, 0));
    // Within one start a file may say more of a subtask that it brought.
    assert_eq!(load(&store, vec![sub_job("b", "j", Status::Running, 0)]), outcome(0, 1, 0, 0));
    assert_eq!(store.report(&p, vec![sub_job("a", "j", Status::Success, 10)]), outcome(0, 1, 0, 0));
    drop(store);
    let store = open(dir.path());
    let more = file().into_iter().chain([sub_job("c", "j", Status::Waiting, 0)]).collect();
    assert_eq!(load(&store, more), outcome(1, 0, 2, 0));
    let waiting = CountFilter { status: Some(Status::Waiting), ..CountFilter::default() };
    assert_eq!((store.count(&p, &waiting), store.count(&p, &CountFilter::default())), (Ok(1), Ok(3)));
}

#[test]
fn an_end_once_known_is_remembered_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let p = project("p");
    let details = Details { end_time: "2020-01-01T00:00:00Z".parse().ok(), ..Details::default() };
    let ended = SubJob { details: Some(Box::new(details)), ..sub_job("a", "j", Status::Success, 0) };
    open(dir.path()).report(&p, vec![ended, sub_job("b", "j", Status::Success, 0)]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.report(&p, vec![sub_job("a", "j", Status::Failed, 1)]), outcome(0, 1, 0, 0));
    drop(store);
    let store = open(dir.path());
    assert_eq!((expire(&store), store.count(&p, &CountFilter::default())), (1, Ok(1)));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.report(&p, vec![sub_job("a", "j", Status::Failed, 0)]), outcome(1, 0, 0, 0));
    assert_eq!(store.report(&p, vec![sub_job("b", "j", Status::Success, 0)]), outcome(0, 0, 1, 0));
}

#[test]
fn a_store_that_is_not_open_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::on_disk(DataDir::claim(dir.path()).unwrap(), types());
    let report = |store: &Store| store.report(&project("p"), vec![sub_job("a", "j", Status::Running, 0)]);
    assert_eq!(report(&store), Err(StoreError::NotStored));
    store.open(|_, _| (), &AtomicBool::new(false)).unwrap();
    assert_eq!(report(&store), outcome(1, 0, 0, 0));
    store.close();
    assert_eq!(report(&store), Err(StoreError::NotStored));
    assert_eq!(store.count(&project("p"), &CountFilter::default()), Ok(1));
    // It has let go of the directory.
    assert_eq!(report(&open(dir.path())), outcome(0, 0, 1, 0));
}

#[test]
fn a_first_start_that_was_cut_short_begins_anew_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::claim(dir.path()).unwrap());
    let engine = dir.path().join("engine");
    let of_a_first_start = |version: Option<&[u8]>| {
        std::fs::create_dir_all(engine.join("keyspaces")).unwrap();
        std::fs::write(engine.join("0.jnl"), [0; 4096]).unwrap();
        if let Some(version) = version {
            std::fs::write(engine.join("version"), version).unwrap();
        }
    };
    for version in [None, Some(&b""[..]), Some(b"F"), Some(b"FJL")] {
        of_a_first_start(version);
        open(dir.path());
        std::fs::remove_dir_all(&engine).unwrap();
        std::fs::remove_file(dir.path().join("acknowledged")).unwrap();
    }

    open(dir.path()).report(&project("p"), vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    let lost = ["acknowledged", "engine/version"].map(|name| dir.path().join(name));
    let contents = lost.each_ref().map(|file| std::fs::read(file).unwrap());
    let refused =
        || matches!(try_open(dir.path(), types()), Err(OpenError::Damaged { file, .. }) if file.ends_with("version"));
    lost.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert!(refused(), "half a backup is taken for a first start");
    // The same without the journal's own word, and without the keyspaces'.
    let journal = engine.join("0.jnl");
    let bytes = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, [0; 64]).unwrap();
    assert!(refused());
    std::fs::write(&journal, bytes).unwrap();
    std::fs::rename(engine.join("keyspaces"), dir.path().join("lost+found")).unwrap();
    assert!(refused());
    std::fs::rename(dir.path().join("lost+found"), engine.join("keyspaces")).unwrap();
    lost.iter().zip(contents).for_each(|(file, content)| std::fs::write(file, content).unwrap());
    assert_eq!(open(dir.path()).count(&project("p"), &CountFilter::default()), Ok(1));
}

#[test]
fn job_types_go_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (JobTypes::new(["A", "B"]).unwrap(), JobTypes::new(["B"]).unwrap());
    let store = try_open(dir.path(), first.clone()).unwrap();
    let of_type = |name| SubJob { job_type: first.parse(name).unwrap(), ..sub_job(name, "j", Status::Running, 0) };
    store.report(&project("p"), vec![of_type("B")]).unwrap();
    drop(store);
    let store = try_open(dir.path(), second.clone()).unwrap();
    assert_eq!(store.total(second.parse("B").unwrap(), Status::Running), Ok(1));
    drop(store);
    let refused = try_open(dir.path(), types()).unwrap_err();
    assert!(matches!(refused, OpenError::Unusable { .. }));
    assert!(refused.to_string().ends_with("give --job-type B"), "{refused}");
}

#[test]
fn opening_can_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let batch = (0..10_000).map(|i| sub_job(&i.to_string(), "j", Status::Running, 0)).collect();
    open(dir.path()).report(&project("p"), batch).unwrap();
    let store = Store::on_disk(DataDir::claim(dir.path()).unwrap(), types());
    let mut reached = Vec::new();
    let given_up = store.open(|done, all| reached.push((done, all)), &AtomicBool::new(true));
    assert!(matches!(given_up, Err(OpenError::Cancelled)), "{given_up:?}");
    assert_eq!(reached, [(4096, 10_000)]);
}

#[test]
fn a_drift_that_has_been_found_is_told_until_the_end() {
    let store = Store::drifted_by(2);
    assert_eq!(store.check(), Ok(()));
    assert_eq!(store.recount(100), Ok(None), "the records");
    let found = (0..10).find_map(|_| store.recount(100).unwrap());
    assert_eq!((found, store.check()), (Some(2), Err(StoreError::Drifted(2))));
    store.memory.distort_as(&project("p"), &sub_job("s", "j", Status::Running, 0), "j", -2);
    let found = (0..10).find_map(|_| store.recount(100).unwrap());
    assert_eq!((found, store.check()), (Some(2), Err(StoreError::Drifted(2))));
}
