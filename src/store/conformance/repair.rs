//! What finds and mends counters that somebody changed in the database.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::database::{database, replica, target};
use super::*;
use crate::store::cluster::{Cluster, Version as ServerVersion};

/// Changes that leave a wrong counter, and by how many subtasks those of jobs and of projects are then off. Project p has a job with
/// two types, of a subtask each.
const CHANGES: [(&str, u64, u64); 6] = [
    ("UPDATE job_tally SET s1 = s1 + 2 WHERE project = 1 AND job_type = FIRST", 2, 0),
    ("UPDATE project_tally SET s1 = s1 - 1, s3 = s3 + 1 WHERE project = 1 AND job_type = FIRST", 0, 2),
    ("DELETE FROM job_tally WHERE project = 1 AND job_type = FIRST", 1, 0),
    ("DELETE FROM project_tally WHERE project = 1", 0, 2),
    ("INSERT INTO job_tally SELECT 1, gen_random_uuid(), FIRST, 'gone', 0, 5, 0, 0, 0, 0, 0", 5, 0),
    ("INSERT INTO project_tally SELECT 1, 9, FIRST, 0, 0, 0, 0, 0, 0, 4", 0, 4),
];

fn sql(database: &str, statement: &str) -> Vec<Vec<Option<String>>> {
    Cluster::shared(ServerVersion::System).sql(database, statement)
}

/// A store with project p as [`CHANGES`] has it, and project q with a subtask.
fn store_with_two_projects(database: &str) -> Store {
    let store = replica(database);
    let second = types().iter().nth(1).unwrap();
    let other = SubJob { job_type: second, ..sub_job("b", "j", Status::Running, 0) };
    store.report(&project("p"), vec![sub_job("a", "j", Status::Running, 0), other]).unwrap();
    store.report(&project("q"), vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    store
}

#[test]
fn every_wrong_counter_is_found_and_repaired() {
    let database = database();
    let store = store_with_two_projects(&database);
    let (target, of_q) = (target(&database), "SELECT revision FROM project_revision WHERE project = 2");
    let revision_of_q = sql(&database, of_q);
    let revision_of_p = || sql(&database, "SELECT revision FROM project_revision WHERE project = 1");
    let repair = || wait(repair_database(&target)).unwrap().projects;
    assert_eq!(repair(), 0);
    for (change, of_jobs, of_projects) in CHANGES {
        let before = revision_of_p();
        sql(&database, &change.replace("FIRST", "(SELECT min(job_type) FROM sub_job)"));
        let found = wait(check_database(&target)).unwrap();
        assert_eq!((found.job_drift, found.project_drift), (of_jobs, of_projects), "{change}");
        // The recount compares the counters of projects with those of jobs.
        assert!(recount(&store) >= of_jobs.max(of_projects), "{change}");
        assert_eq!(repair(), 1, "{change}");
        assert!(wait(check_database(&target)).unwrap().is_good(), "{change}");
        assert_eq!(recount(&store), 0, "{change}");
        let of_job = CountFilter { job_id: Some(JobId::parse("j").unwrap()), ..CountFilter::default() };
        for filter in [CountFilter::default(), of_job] {
            assert_eq!(wait(store.count(&project("p"), &filter)), Ok(2), "{change}");
        }
        assert_ne!(revision_of_p(), before, "{change}");
    }
    assert_eq!(sql(&database, of_q), revision_of_q);
}

#[test]
fn a_job_whose_id_is_lost_is_repaired_after_a_report_of_it() {
    let database = database();
    let store = store_with_two_projects(&database);
    sql(&database, "DELETE FROM job_tally WHERE project = 1; UPDATE project_tally SET s1 = 7");
    let before = sql(&database, "SELECT * FROM project_tally");
    let error = wait(repair_database(&target(&database))).unwrap_err().to_string();
    assert!(error.contains("job_tally has no row of 1 of the jobs"), "{error}");
    assert_eq!(sql(&database, "SELECT * FROM project_tally"), before);
    // A report brings the id again.
    store.report(&project("p"), vec![sub_job("a", "j", Status::Success, 1)]).unwrap();
    assert_eq!(wait(repair_database(&target(&database))).unwrap().projects, 2);
    let of_job = CountFilter { job_id: Some(JobId::parse("j").unwrap()), ..CountFilter::default() };
    assert_eq!(wait(store.count(&project("p"), &of_job)), Ok(2));
}

/// Each report is of a new subtask of one job, so that the counters tell whether a repair has missed one.
#[test]
fn reports_and_repairs_exclude_each_other() {
    let database = database();
    let store = store_with_two_projects(&database);
    let (is_over, reported) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (store, is_over, reported) = (&store, &is_over, &reported);
            scope.spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    let id = format!("{writer} {number}");
                    store.report(&project("p"), vec![sub_job(&id, "j", Status::Running, 0)]).unwrap();
                    reported.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let repairs = scope.spawn(|| {
            let begin = Instant::now();
            for round in 0..10 {
                while reported.load(Ordering::Acquire) < round * 10 {
                    assert!(begin.elapsed() < Duration::from_secs(60), "no report is answered");
                    std::thread::yield_now();
                }
                sql(&database, "UPDATE project_tally SET s2 = s2 + 1 WHERE project = 1");
                assert_eq!(wait(repair_database(&target(&database))).unwrap().projects, 1);
                let found = wait(check_database(&target(&database))).unwrap();
                assert!(found.is_good(), "{found}");
            }
        });
        let repairs = repairs.join();
        is_over.store(true, Ordering::Release);
        repairs.unwrap();
    });
    assert_eq!(wait(store.count(&project("p"), &CountFilter::default())), Ok(2 + reported.into_inner()));
}
