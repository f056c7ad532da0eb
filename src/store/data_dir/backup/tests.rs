use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::FutureExt as _;

use super::*;
use crate::domain::{CountFilter, JobId, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::{DataDir, Store};

/// How many subtasks each report adds.
const REPORT: u64 = 7;

fn project(writer: usize) -> ProjectId {
    ProjectId::parse(&format!("project-{writer}")).unwrap()
}

fn report(number: u64) -> Vec<SubJob> {
    let sub_job = |at: u64| SubJob {
        id: SubJobId::parse(&format!("{number}-{at}")).unwrap(),
        job_id: JobId::parse("j").unwrap(),
        job_type: JobTypes::default().iter().next().unwrap(),
        status: Status::Running,
        version: Version::default(),
        details: None,
    };
    (0..REPORT).map(sub_job).collect()
}

fn open(path: &Path) -> Store {
    let store = Store::on_disk(DataDir::claim(path).unwrap(), JobTypes::default());
    store.open(|_, _| (), &AtomicBool::new(false)).unwrap();
    store
}

fn count(store: &Store, project: &ProjectId) -> u64 {
    store.count(project, &CountFilter::default()).now_or_never().unwrap().unwrap()
}

/// Fills a directory with some reports, a snapshot, and more reports.
fn fill(path: &Path) -> Store {
    let store = open(path);
    for number in 0..10 {
        store.report(&project(0), report(number)).unwrap();
        if number == 5 {
            assert!(store.snapshot());
        }
    }
    store
}

#[test]
fn a_backup_under_load_has_all_acknowledged_reports_and_no_part_of_one() {
    const WRITERS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (store, is_over) = (open(&data), AtomicBool::new(false));
    let acknowledged = [const { AtomicU64::new(0) }; WRITERS];
    std::thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (store, is_over) = (&store, &is_over);
            scope.spawn(move || {
                for number in 0.. {
                    store.report(&project(writer), report(number)).unwrap();
                    acknowledged.store(number + 1, Ordering::SeqCst);
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                assert!(store.snapshot());
            }
        });
        // A failed assertion must end the other threads too.
        let checked = std::panic::catch_unwind(|| {
            for number in 0..15 {
                let to = dir.path().join(format!("backup-{number}"));
                let before: Vec<_> = acknowledged.iter().map(|of| of.load(Ordering::SeqCst)).collect();
                backup(&data, &to).unwrap();
                let copy = open(&to);
                for (writer, before) in before.into_iter().enumerate() {
                    let found = count(&copy, &project(writer));
                    assert!(found >= before * REPORT, "{number}: {found} of {before} reports");
                    assert_eq!(found % REPORT, 0, "{number}: a part of a report");
                }
            }
        });
        is_over.store(true, Ordering::SeqCst);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(acknowledged.iter().all(|of| of.load(Ordering::SeqCst) > 15), "{acknowledged:?}");
}

#[test]
fn a_backup_is_independent_of_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let store = fill(&data);
    let said = backup(&data, &to).unwrap().to_string();
    assert!(said.starts_with("complete, 70 subtasks, 4 files, "), "{said}");
    store.report(&project(0), report(10)).unwrap();
    drop(store);
    fs::remove_dir_all(&data).unwrap();
    let copy = open(&to);
    assert_eq!(count(&copy, &project(0)), 70);
    copy.report(&project(0), report(10)).unwrap();
    drop(copy);
    assert_eq!(count(&open(&to), &project(0)), 77);
}

#[test]
fn a_damaged_original_gives_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    drop(fill(&data));
    let names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in names.iter().filter(|name| *name != "lock") {
        let file = data.join(name);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        // The mark has four slots, of which one is enough.
        (0..bad.len()).step_by(16).for_each(|at| bad[at] ^= 1);
        fs::write(&file, bad).unwrap();
        assert!(matches!(backup(&data, &to), Err(OpenError::Damaged { .. })), "{name:?}");
        fs::remove_file(&file).unwrap();
        assert!(matches!(backup(&data, &to), Err(OpenError::Damaged { .. })), "{name:?} is gone");
        fs::write(&file, good).unwrap();
    }
    backup(&data, &to).unwrap();
    assert!(!dir.path().join("backup.partial").exists());
}

#[test]
fn a_directory_that_cannot_be_backed_up_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let refused = |from: &Path, to: &Path| backup(from, to).unwrap_err().to_string();
    assert!(refused(&data, &to).ends_with("data: is not a directory"));
    fs::create_dir(&data).unwrap();
    assert!(refused(&data, &to).ends_with("data: holds no data of subjobs"));
    // As an interrupted first start leaves it.
    drop(DataDir::claim(&data).unwrap());
    fs::remove_file(data.join("format")).unwrap();
    assert!(refused(&data, &to).ends_with("data: holds no data of subjobs"));
    drop(fill(&data));
    assert!(refused(&data, &data).ends_with("data: exists already"));
    assert!(refused(&data, &data.join("backup")).ends_with("is inside of the data directory"));
    for to in ["absent/backup", "absent/backup/", "data/lock/backup", "absent/.."] {
        let said = refused(&data, &dir.path().join(to));
        assert!(said.ends_with(" is not a directory: make it before the backup"), "{to}: {said}");
    }
    assert!(refused(&data, &dir.path().join("data/")).ends_with("data: exists already"));
    File::create(data.join("loading")).unwrap();
    assert!(refused(&data, &to).contains("files are being loaded into it"));
    fs::remove_file(data.join("loading")).unwrap();
    let partial = dir.path().join("backup.partial");
    fs::create_dir(&partial).unwrap();
    let other = File::open(&partial).unwrap();
    other.lock().unwrap();
    assert!(refused(&data, &to).ends_with("backup.partial: another process is using it"));
    other.unlock().unwrap();
    fs::write(partial.join("mine"), "").unwrap();
    assert!(refused(&data, &to).ends_with("backup.partial: holds other files"));
    fs::rename(partial.join("mine"), partial.join("log-00000000000000000001")).unwrap();
    backup(&data, &dir.path().join("backup/./")).unwrap();
    assert_eq!(count(&open(&to), &project(0)), 70);
    assert!(!partial.exists());
}
