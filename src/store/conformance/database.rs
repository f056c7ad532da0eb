//! The conformance of a store in a database, with a PostgreSQL server of the tests' own.

use super::*;
use crate::store::cluster::{Cluster, Version as ServerVersion};

/// The name of a new database with the schema, in the cluster that the tests of this process share.
pub(super) fn database() -> String {
    static TEMPLATE: LazyLock<String> = LazyLock::new(|| {
        let template = Cluster::shared(ServerVersion::System).create_database(None);
        wait(migrate(&target(&template))).unwrap();
        template
    });
    Cluster::shared(ServerVersion::System).create_database(Some(&TEMPLATE))
}

pub(super) fn target(database: &str) -> Target {
    Target::new(Cluster::shared(ServerVersion::System).url(database).parse().unwrap(), None, None).unwrap()
}

/// An open store in that database.
pub(super) fn replica(database: &str) -> Store {
    replica_with(database, types(), 2)
}

/// The same with these types and so many lanes.
pub(super) fn replica_with(database: &str, types: JobTypes, lanes: usize) -> Store {
    let store = Store::in_postgres(target(database), types, lanes, Duration::from_secs(30));
    let _context = RUNTIME.enter();
    store.open(|_, _| (), &AtomicBool::new(false)).unwrap();
    store
}

proptest! {
    // Few, since each step compares some five hundred lists.
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn a_store_in_a_database_conforms(steps in proptest::collection::vec(arbitrary_step(40), 1..12)) {
        let database = database();
        let reopen = |store: Store| {
            store.close();
            replica(&database)
        };
        conforms(replica(&database), reopen, steps)?;
    }
}

#[test]
fn readers_of_a_database_never_see_half_a_report() {
    readers_never_see_half_a_report(&replica(&database()));
}

/// Each reader finds out by its next count that its connection was lost.
#[test]
fn no_count_fails_because_connections_were_lost() {
    let database = database();
    let store = replica(&database);
    store.report(&project("p"), vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
    Cluster::shared(ServerVersion::System).sql("postgres", &end);
    for _ in 0..20 {
        assert_eq!(wait(store.count(&project("p"), &CountFilter::default())), Ok(1));
    }
}

#[test]
fn a_load_leaves_what_another_replica_has_stored_since_the_start() {
    let database = database();
    let (loading, other) = (replica(&database), replica(&database));
    let one = |status| vec![sub_job("a", "j", status, 0)];
    other.report(&project("p"), one(Status::Success)).unwrap();
    assert!(!loading.begin_load().unwrap());
    let load = |batch| loading.load([(project("p"), batch)]).unwrap();
    assert_eq!(load(one(Status::Running)).unchanged, 1);
    // A batch whose answer was lost is stored again, and another replica may have changed it meanwhile.
    let own = |status| vec![sub_job("b", "j", status, 0)];
    assert_eq!(load(own(Status::Running)).created, 1);
    other.report(&project("p"), own(Status::Failed)).unwrap();
    assert_eq!(load(own(Status::Running)).unchanged, 1);
    let page = wait(other.page(&project("p"), &CountFilter::default(), 0, 9)).unwrap();
    let statuses: Vec<_> = page.sub_jobs.iter().map(|sub_job| sub_job.status).collect();
    assert_eq!(statuses, [Status::Success, Status::Failed]);
}

#[test]
fn a_type_that_another_replica_adds_fails_only_the_projects_that_have_it() {
    let database = database();
    let old = replica(&database);
    old.report(&project("p"), vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    let types = JobTypes::new(["LATER"]).unwrap();
    let new = replica_with(&database, types.clone(), 1);
    let later = SubJob { job_type: types.iter().last().unwrap(), ..sub_job("b", "j", Status::Running, 0) };
    new.report(&project("q"), vec![later]).unwrap();
    let (p, q, all) = (project("p"), project("q"), CountFilter::default());
    for _ in 0..4 {
        let counts = wait(futures_util::future::join(old.count(&q, &all), old.count(&p, &all)));
        assert_eq!(counts, (Err(StoreError::Unavailable), Ok(1)));
    }
    assert_eq!(wait(new.count(&q, &all)), Ok(1));
}

#[test]
fn counters_that_cannot_be_summed_fail_only_their_project() {
    let (database, all) = (database(), CountFilter::default());
    let store = replica(&database);
    let projects = ["p", "q", "r"].map(project);
    for project in &projects {
        store.report(project, vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    }
    // More than fits into a counter, in another stripe.
    let sql = |statement: &str| drop(Cluster::shared(ServerVersion::System).sql(&database, statement));
    sql("INSERT INTO project_tally SELECT project, 1, job_type, s0, 9223372036854775807, s2, s3, s4, s5, s6 \
        FROM project_tally WHERE project = (SELECT no FROM project WHERE id = 'q')");
    for _ in 0..4 {
        let counts = wait(futures_util::future::join_all(projects.iter().map(|project| store.count(project, &all))));
        assert_eq!(counts, [Ok(1), Err(StoreError::Unavailable), Ok(1)]);
    }
}

#[test]
fn a_mismatch_is_told_until_a_recount_finds_none() {
    let database = database();
    let store = replica(&database);
    store.report(&project("p"), vec![sub_job("a", "j", Status::Running, 0)]).unwrap();
    let sql = |statement| drop(Cluster::shared(ServerVersion::System).sql(&database, statement));
    sql("UPDATE project_tally SET s1 = s1 + 2");
    assert_eq!((recount(&store), store.drift()), (2, 2));
    assert_eq!(store.check(), Err(StoreError::Drifted(2)));
    // It looks again although another replica has the background work.
    sql("UPDATE lease SET holder = gen_random_uuid(), until = now() + interval '1 hour'");
    sql("UPDATE project_tally SET s1 = s1 - 2");
    assert_eq!((recount(&store), store.drift(), store.check()), (0, 0, Ok(())));
}

#[test]
fn a_refused_report_fails_alone() {
    let database = database();
    let store = replica_with(&database, types(), 1);
    let cluster = Cluster::shared(ServerVersion::System);
    cluster.sql(&database, "ALTER TABLE sub_job ADD CHECK (id <> 'bad')");
    cluster.sql(&database, "CREATE TABLE go ()");
    std::thread::scope(|scope| {
        // The first report waits for this lock, so that the others form a group.
        let held = "BEGIN; LOCK TABLE sub_job IN EXCLUSIVE MODE; \
            DO 'BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; END'; COMMIT";
        let holder = scope.spawn(|| cluster.sql(&database, held));
        let locks = |granted| {
            format!("SELECT count(*) FROM pg_locks WHERE granted = {granted} AND relation = 'sub_job'::regclass")
        };
        let until = |locks: &str| while !holder.is_finished() && cluster.value(&database, locks) == "0" {};
        until(&locks(true));
        let submit = |id| store.submit(project("p"), vec![sub_job(id, "j", Status::Running, 0)]);
        let first = submit("first");
        until(&locks(false));
        let [bad, good] = ["bad", "good"].map(submit);
        cluster.sql(&database, "INSERT INTO go DEFAULT VALUES");
        assert_eq!(wait(bad.outcome()), Err(StoreError::Refused));
        assert_eq!([first, good].map(|submitted| wait(submitted.outcome()).unwrap().created), [1, 1]);
    });
    assert_eq!(wait(store.count(&project("p"), &CountFilter::default())), Ok(2));
}

/// In a database that was restored from a dump, the primary key may be older than the other indexes, which the planner then prefers as
/// long as it finds the table small.
#[test]
fn reports_stay_fast_while_a_table_grows() {
    let database = database();
    let newer = "REINDEX INDEX CONCURRENTLY sub_job_by_job; REINDEX INDEX CONCURRENTLY sub_job_order";
    newer.split(';').for_each(|statement| drop(Cluster::shared(ServerVersion::System).sql(&database, statement)));
    let store = replica_with(&database, types(), 1);
    store.report(&project("p"), vec![sub_job("first", "j", Status::Running, 0)]).unwrap();
    Cluster::shared(ServerVersion::System).sql(&database, "ANALYZE sub_job");
    // A lane keeps the plan of the first execution for some time.
    let sizes = [vec![1; 20], vec![1500; 40]].concat();
    for (report, size) in sizes.into_iter().enumerate() {
        let batch = (0..size).map(|n| sub_job(&format!("{report}-{n}"), "j", Status::Running, 0)).collect();
        assert_eq!(store.report(&project("p"), batch).map(|outcome| outcome.created), Ok(size));
    }
}
