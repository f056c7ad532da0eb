//! A store on a disk over restarts; and what becomes of it when things go wrong.

use super::conformance::{id, now, open, project, sub_job, try_open, types};
use super::embedded::Backend;
use super::*;
use crate::domain::{Details, Family, Timestamp};

impl Store {
    /// One in memory, of one subtask, whose counts are off by so many.
    pub(crate) fn drifted_by(drift: i32) -> Self {
        let (store, project, sub_job) =
            (Self::in_memory(types().len()), project("p"), sub_job("s", "j", Status::Running, 0));
        store.report(&project, vec![sub_job.clone()]).unwrap();
        store.embedded().memory.distort_as(&project, &sub_job, "j", drift);
        store
    }

    /// One in memory that a panic has poisoned.
    pub(crate) fn poisoned() -> Self {
        let store = Self::in_memory(types().len());
        store.embedded().memory.poison();
        store
    }
}

fn outcome(created: u64, updated: u64, unchanged: u64, stale: u64) -> Result<Outcome, StoreError> {
    Ok(Outcome { created, updated, unchanged, stale })
}

fn expire(store: &Store) -> u64 {
    let a_year = Duration::from_secs(365 * 24 * 60 * 60);
    let dropped = store.expire(a_year, Timestamp::now(), 0, u32::MAX).unwrap();
    assert_eq!(dropped.next, 0);
    dropped.count
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
                    assert!(now(store.count(p, &CountFilter::default())).unwrap() > report);
                }
            });
        }
    });
    drop(store);
    assert_eq!(now(open(dir.path()).count(&p, &CountFilter::default())), Ok(8 * 40 + 1));
}

#[test]
fn a_small_report_is_deferred_while_a_store_in_memory_is_being_changed() {
    let (store, p) = (Store::in_memory(types().len()), project("p"));
    let batch = vec![sub_job("a", "j", Status::Running, 0)];
    let Backend::Memory(next_revision) = &store.embedded().backend else { panic!("it is in memory") };
    let other_change = next_revision.lock().unwrap();
    let deferred = store.try_submit(p.clone(), batch.clone()).unwrap_err();
    drop(other_change);
    assert_eq!(now(store.count(&p, &CountFilter::default())), Ok(0));
    assert_eq!(now(store.submit_deferred(deferred).outcome()), outcome(1, 0, 0, 0));
    assert_eq!(now(store.try_submit(p, batch).unwrap().outcome()), outcome(0, 0, 1, 0));
}

#[test]
fn a_small_report_is_deferred_while_the_queue_of_a_data_directory_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (store, p) = (open(dir.path()), project("p"));
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let blocked = store.embedded().change(1, move |_| Ok(wait.recv().is_err()));
    let mut submitted = Vec::new();
    let deferred = loop {
        match store.try_submit(p.clone(), vec![sub_job(&submitted.len().to_string(), "j", Status::Running, 0)]) {
            Ok(pending) => submitted.push(pending),
            Err(deferred) => break deferred,
        }
        assert!(submitted.len() < 10_000, "the queue is bounded");
    };
    drop(go_on);
    assert_eq!(blocked.wait(), Ok(true));
    let count = submitted.len() as u64 + 1;
    assert_eq!(store.submit_deferred(deferred).0.wait(), outcome(1, 0, 0, 0));
    assert!(submitted.into_iter().all(|pending| pending.0.wait() == outcome(1, 0, 0, 0)));
    assert_eq!(now(store.count(&p, &CountFilter::default())), Ok(count));
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
    assert_eq!((now(store.count(&p, &waiting)), now(store.count(&p, &CountFilter::default()))), (Ok(1), Ok(3)));
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
    assert_eq!((expire(&store), now(store.count(&p, &CountFilter::default()))), (1, Ok(1)));
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
    assert_eq!(now(store.count(&project("p"), &CountFilter::default())), Ok(1));
    // It has let go of the directory.
    assert_eq!(report(&open(dir.path())), outcome(0, 0, 1, 0));
}

#[test]
fn only_an_interrupted_first_start_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::claim(dir.path()).unwrap());
    let path = |name: &str| dir.path().join(name);
    let segment = "log-00000000000000000001";
    let begun = std::fs::read(path(segment)).unwrap();
    // The format is written last.
    for (mark, content) in [(true, &begun[..]), (false, &begun[..]), (false, &begun[..9]), (false, b"")] {
        std::fs::remove_file(path("format")).unwrap();
        if !mark {
            std::fs::remove_file(path("acknowledged")).unwrap();
        }
        std::fs::write(path(segment), content).unwrap();
        assert_eq!(open(dir.path()).sub_jobs(), Ok(0));
    }
    let store = open(dir.path());
    store.report(&project("p"), vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    drop(store);
    for lost in ["format", "acknowledged", segment] {
        let content = std::fs::read(path(lost)).unwrap();
        std::fs::remove_file(path(lost)).unwrap();
        let refused = try_open(dir.path(), types()).unwrap_err();
        assert!(matches!(&refused, OpenError::Damaged { file, .. } if *file == path(lost)), "{refused}");
        std::fs::write(path(lost), content).unwrap();
    }
    assert_eq!(now(open(dir.path()).count(&project("p"), &CountFilter::default())), Ok(1));
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_and_keeps_details_order_and_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let p = project("p");
    let with_details = |number: usize| {
        let text = Some(format!(r#"{{"number":{number}}}"#).into());
        let details =
            (!number.is_multiple_of(3)).then(|| Box::new(Details { job_resource_info: text, ..Details::default() }));
        SubJob { details, ..sub_job(&format!("s{number}"), &format!("j{}", number % 7), Status::Success, 1) }
    };
    let wait = |store: &Store| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.page(&p, &CountFilter::default(), 0, 5000)).unwrap()
    };
    let (mut expected, mut revision) = (Vec::new(), 0);
    for round in 0..3 {
        let store = open(dir.path());
        let batch: Vec<_> = (round * 1000..(round + 1) * 1000).map(with_details).collect();
        expected.extend(batch.clone());
        store.report(&p, batch).unwrap();
        // What is read while a snapshot is made and the files before it go is right, too.
        std::thread::scope(|scope| {
            let making = scope.spawn(|| store.snapshot());
            while !making.is_finished() {
                assert_eq!(wait(&store).sub_jobs, expected);
            }
            assert!(making.join().unwrap());
        });
        assert!(wait(&store).revision > revision);
        revision = wait(&store).revision;
        drop(store);
        let store = open(dir.path());
        let page = wait(&store);
        assert_eq!((page.revision, &page.sub_jobs), (revision, &expected));
        // One that is identical is known as such.
        let again = Outcome { unchanged: 1, ..Outcome::default() };
        assert_eq!(store.report(&p, vec![with_details(round * 1000 + 1)]), Ok(again));
        let names =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let of_log = names.filter(|name| log::is_log_file(name)).count();
        assert_eq!(of_log, 3, "the mark, a snapshot and a segment");
    }
}

#[test]
fn a_revision_is_never_used_twice_and_that_of_an_unknown_project_is_0() {
    let dir = tempfile::tempdir().unwrap();
    let (p, mut store, mut last) = (project("p"), open(dir.path()), 0);
    let revision = |store: &Store, of: &ProjectId| now(store.summary(of, None)).unwrap().revision;
    for round in 0..4 {
        assert_eq!(store.report(&p, vec![sub_job("a", "j", Status::Success, 0)]), outcome(1, 0, 0, 0));
        let reported = revision(&store, &p);
        assert!(reported > last, "{reported} after {last}");
        // Now the project has no subtask.
        assert_eq!(store.delete(p.clone(), vec![id("a")], JobTypeSet::ALL).0.wait(), Ok(Ok(1)));
        last = revision(&store, &p);
        assert!(last > reported, "{last} after {reported}");
        if round % 2 == 1 {
            assert!(store.snapshot());
        }
        drop(store);
        store = open(dir.path());
        assert_eq!((revision(&store, &p), revision(&store, &project("unknown"))), (last, 0));
    }
}

#[test]
fn job_types_go_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (JobTypes::new(["A", "B"]).unwrap(), JobTypes::new(["B"]).unwrap());
    let store = try_open(dir.path(), first.clone()).unwrap();
    let of_type =
        |name| SubJob { job_type: first.parse(Family::App, name).unwrap(), ..sub_job(name, "j", Status::Running, 0) };
    store.report(&project("p"), vec![of_type("B")]).unwrap();
    drop(store);
    let store = try_open(dir.path(), second.clone()).unwrap();
    assert_eq!(store.total(second.parse(Family::App, "B").unwrap(), Status::Running), Ok(1));
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
    assert_eq!(reached, [(10_000, 10_000)]);
}

#[test]
fn a_drift_that_has_been_found_is_told_until_the_end() {
    let store = Store::drifted_by(2);
    assert_eq!(store.check(), Ok(()));
    assert_eq!(store.recount(100), Ok(None), "the records");
    let found = (0..10).find_map(|_| store.recount(100).unwrap());
    assert_eq!((found, store.check()), (Some(2), Err(StoreError::Drifted(2))));
    store.embedded().memory.distort_as(&project("p"), &sub_job("s", "j", Status::Running, 0), "j", -2);
    let found = (0..10).find_map(|_| store.recount(100).unwrap());
    assert_eq!((found, store.check()), (Some(2), Err(StoreError::Drifted(2))));
}
