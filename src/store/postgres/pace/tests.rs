use std::sync::atomic::AtomicBool;

use tokio::runtime::Runtime;
use tokio::time::advance;

use super::*;
use crate::domain::{CountFilter, JobId, JobTypeSet, JobTypes, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::cluster::{Cluster, Version as ServerVersion};
use crate::store::postgres::PostgresStore;
use crate::store::{Target, check_database, migrate};

/// The most subtasks that a report of the greatest length has.
const LARGEST_REPORT: usize = 139_572;

/// In how many statements a thousand new subtasks are stored while counts are slow.
const SLICES_OF_1000: i64 = (1000 / GENTLE_SLICE) as i64;

const FAST_READ: Duration = Duration::from_micros(100);

#[tokio::test(start_paused = true)]
async fn large_groups_are_sliced_for_a_while_after_a_slow_count() {
    let pace = Pace::default();
    pace.note_read(1, FAST_READ);
    assert_eq!(pace.slice(LARGE_GROUP), SLICE);
    pace.note_read(FEW_KEYS + 1, SLOW_READ);
    assert_eq!(pace.slice(LARGE_GROUP), SLICE);
    pace.note_read(FEW_KEYS, SLOW_READ);
    assert_eq!([LARGE_GROUP - 1, LARGE_GROUP].map(|rows| pace.slice(rows)), [SLICE, GENTLE_SLICE]);
    advance(GENTLE_TIME).await;
    assert_eq!(pace.slice(LARGE_GROUP), SLICE);
}

#[tokio::test(start_paused = true)]
async fn a_database_at_a_distance_gets_no_slices() {
    let pace = Pace::default();
    for (reads, is_gentle) in [([NEAR, SLOW_READ], false), ([FAST_READ, SLOW_READ], true)] {
        reads.into_iter().for_each(|read| pace.note_read(1, read));
        assert_eq!(pace.is_gentle(), is_gentle, "{reads:?}");
    }
    // The next host may be at another distance.
    pace.note_connected();
    pace.note_read(1, SLOW_READ);
    assert!(!pace.is_gentle());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_has_a_bounded_number_of_slices() {
    let pace = Pace::default();
    [FAST_READ, SLOW_READ].into_iter().for_each(|read| pace.note_read(1, read));
    for rows in [LARGE_GROUP, 1000, 2048, 2049, LARGEST_REPORT] {
        assert!(rows.div_ceil(pace.slice(rows)) <= MAX_GENTLE_SLICES, "{rows}");
    }
    assert_eq!(pace.slice(100 * MAX_GENTLE_SLICES * SLICE), SLICE);
}

/// A database in which statements that insert subtasks are counted, and two stores in it.
struct Setup {
    runtime: Runtime,
    database: String,
    target: Target,
    stores: [PostgresStore; 2],
    project: ProjectId,
}

impl Setup {
    fn new() -> Self {
        let cluster = Cluster::shared(ServerVersion::System);
        let (runtime, database) = (Runtime::new().unwrap(), cluster.create_database(None));
        let target = Target::new(cluster.url(&database).parse().unwrap(), None, None).unwrap();
        runtime.block_on(migrate(&target)).unwrap();
        let counted = "CREATE SEQUENCE inserts MINVALUE 0; SELECT nextval('inserts'); CREATE SEQUENCE cut_at; CREATE SEQUENCE slow; \
            CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
                IF (SELECT is_called FROM slow) THEN PERFORM pg_sleep(0.01); END IF; \
                IF nextval(''inserts'') = (SELECT last_value FROM cut_at) AND (SELECT is_called FROM cut_at) \
                THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END'; \
            CREATE TRIGGER counted AFTER INSERT ON sub_job FOR EACH STATEMENT EXECUTE FUNCTION counted()";
        cluster.sql(&database, counted);
        let store = || {
            let store = PostgresStore::new(target.clone(), JobTypes::default(), 1, Duration::from_secs(60));
            let _context = runtime.enter();
            store.open(|_, _| (), &AtomicBool::new(false)).unwrap();
            store
        };
        let stores = [store(), store()];
        Self { runtime, database, target, stores, project: ProjectId::parse("p").unwrap() }
    }

    fn sql(&self, statement: &str) -> String {
        Cluster::shared(ServerVersion::System).value(&self.database, statement)
    }

    /// Reports so many new subtasks, while counts are slow or not. Returns in how many statements.
    fn report(&self, subtasks: usize, is_gentle: bool) -> i64 {
        let inserts = || self.sql("SELECT last_value FROM inserts").parse::<i64>().unwrap();
        let before = inserts();
        let one = |at| SubJob {
            id: SubJobId::parse(&format!("{before}-{at}")).unwrap(),
            job_id: JobId::parse("j").unwrap(),
            job_type: JobTypes::default().iter().next().unwrap(),
            status: Status::Running,
            version: Version::default(),
            details: None,
        };
        let report = || self.stores[0].report(&self.project, (0..subtasks).map(one).collect());
        let outcome = if is_gentle { self.gently(report) } else { self.near(&[FAST_READ], report) };
        assert_eq!(outcome.unwrap().created, subtasks as u64);
        inserts() - before
    }

    /// Makes a change of the first store while counts are slow.
    fn gently<A: Send>(&self, change: impl FnOnce() -> A + Send) -> A {
        self.near(&[FAST_READ, SLOW_READ], change)
    }

    /// The same while counts take so long.
    fn near<A: Send>(&self, reads: &[Duration], change: impl FnOnce() -> A + Send) -> A {
        let pace = &self.stores[0].tasks().unwrap().shared.pace;
        let note = || reads.iter().for_each(|read| pace.note_read(1, *read));
        std::thread::scope(|scope| {
            note();
            let changing = scope.spawn(change);
            while !changing.is_finished() {
                note();
                std::thread::sleep(Duration::from_millis(1));
            }
            changing.join().unwrap()
        })
    }

    fn count(&self) -> u64 {
        self.runtime.block_on(self.stores[1].count(&self.project, &CountFilter::default())).unwrap()
    }
}

#[test]
fn a_large_report_is_written_in_at_most_so_many_slices_and_only_while_counts_are_slow() {
    let setup = Setup::new();
    assert_eq!(setup.report(1000, true), SLICES_OF_1000);
    // 40 rows each.
    assert_eq!(setup.report(10_000, true), 250);
    assert_eq!(setup.report(LARGE_GROUP / 2, true), 1);
    while setup.stores[0].tasks().unwrap().shared.pace.is_gentle() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(setup.report(10_000, false), 1);
    assert_eq!(setup.count(), 10_000 * 2 + 1000 + LARGE_GROUP as u64 / 2);
}

/// Rows that are inserted, updated and removed, each of a job of its own.
#[test]
fn counters_are_right_after_slices_of_every_kind() {
    let setup = Setup::new();
    let (store, ids) = (&setup.stores[0], (0..1000).map(|at| SubJobId::parse(&at.to_string()).unwrap()));
    let is_good = || setup.runtime.block_on(check_database(&setup.target)).unwrap().is_good();
    for (round, status) in [(0, Status::Running), (1, Status::Success)] {
        let one = |id: SubJobId| SubJob {
            job_id: JobId::parse(&format!("{round} {id}")).unwrap(),
            id,
            job_type: JobTypes::default().iter().nth(round).unwrap(),
            status,
            version: Version::default(),
            details: None,
        };
        let outcome = setup.gently(|| store.report(&setup.project, ids.clone().map(one).collect())).unwrap();
        assert_eq!([outcome.created, outcome.updated][round], 1000);
        assert!(is_good());
        let filter = CountFilter { status: Some(status), ..CountFilter::default() };
        assert_eq!(setup.runtime.block_on(setup.stores[1].count(&setup.project, &filter)), Ok(1000));
    }
    let delete =
        || setup.runtime.block_on(store.delete(setup.project.clone(), ids.collect(), JobTypeSet::ALL).outcome());
    assert_eq!(setup.gently(delete), Ok(Ok(1000)));
    assert!(is_good());
    assert_eq!((setup.count(), setup.sql("SELECT count(*) FROM job_tally")), (0, "0".into()));
}

/// The slices that are due after [`MAX_GENTLE_WRITE`] are sent at once, with COMMIT.
#[test]
fn a_report_that_is_written_for_long_is_stored_as_a_whole() {
    let setup = Setup::new();
    setup.sql("SELECT nextval('slow')");
    assert_eq!(setup.report(1000, true), SLICES_OF_1000);
    assert_eq!(setup.count(), 1000);
    assert!(setup.runtime.block_on(check_database(&setup.target)).unwrap().is_good());
}

#[test]
fn a_report_whose_connection_ends_between_two_slices_is_stored_as_a_whole_or_not_at_all() {
    let setup = Setup::new();
    assert_eq!(setup.report(1000, true), SLICES_OF_1000);
    let before = setup.count();
    setup.sql(&format!("SELECT setval('cut_at', {SLICES_OF_1000} + 20)"));
    let inserts = std::thread::scope(|scope| {
        let reporting = scope.spawn(|| setup.report(1000, true));
        while !reporting.is_finished() {
            let count = setup.count();
            assert!([before, before + 1000].contains(&count), "{count}");
        }
        reporting.join().unwrap()
    });
    // The INSERT that ended the connection, and all once more.
    assert_eq!(inserts, 20 + SLICES_OF_1000);
    assert_eq!(setup.count(), before + 1000);
    let stored = setup.sql("SELECT count(*) FROM sub_job");
    assert_eq!(stored, (before + 1000).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_one_statement_writes_slices_for_a_while_only() {
    assert_eq!(slices_until(SLICE), Some(Instant::now() + MAX_GENTLE_WRITE));
    assert_eq!(slices_until(SLICE + 1), None);
}
