//! Transactions of several replicas that wait for each other's locks, and for those of another program.

use std::thread::{ScopedJoinHandle, scope};
use std::time::Instant;

use super::database::{database, replica_with};
use super::*;
use crate::store::cluster::{Cluster, Version as ServerVersion};

/// A subtask with this identifier is stored when nobody holds the gate.
const GATE: &str = "gate";

/// A database whose locks a test watches.
struct Setup {
    cluster: &'static Cluster,
    database: String,
}

impl Setup {
    fn new() -> Self {
        let (cluster, database) = (Cluster::shared(ServerVersion::System), database());
        let gate = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS \
            'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END'; \
            CREATE TRIGGER wait BEFORE INSERT ON sub_job FOR EACH ROW WHEN (NEW.id = 'gate') EXECUTE FUNCTION wait()";
        cluster.sql(&database, gate);
        Self { cluster, database }
    }

    fn replica(&self) -> Store {
        replica_with(&self.database, types(), 1)
    }

    fn value(&self, query: &str) -> String {
        self.cluster.value(&self.database, query)
    }

    /// Runs a statement in a transaction that stays open until [`Setup::release`] of this name, or for 30 s.
    fn hold<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, name: &str, statement: &str) -> Holder<'scope> {
        self.cluster.sql(&self.database, &format!("CREATE TABLE {name} ()"));
        let held = format!(
            "BEGIN; {statement}; SET application_name = '{name}'; \
             DO 'BEGIN FOR n IN 1..3000 LOOP EXIT WHEN EXISTS (SELECT FROM {name}); PERFORM pg_sleep(0.01); END LOOP; END'; COMMIT"
        );
        let holder = scope.spawn(move || drop(self.cluster.sql(&self.database, &held)));
        let holds = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND datname = current_database()"
        );
        self.until(|| holder.is_finished() || self.value(&holds) == "1");
        holder
    }

    fn release(&self, name: &str) {
        self.cluster.sql(&self.database, &format!("INSERT INTO {name} DEFAULT VALUES"));
    }

    /// The number of sessions that wait for a lock.
    fn waiting(&self) -> String {
        self.value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )
    }

    /// Waits until so many sessions wait for a lock, or one of this replica has waited so long that it tries again later.
    fn until_waiting(&self, sessions: &str, replica: &Store) {
        self.until(|| self.waiting() == sessions || replica.database_stats().unwrap().repeats > 0);
    }

    fn until(&self, is_true: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_true() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?} wait", self.waiting());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

type Scope<'scope, 'env> = std::thread::Scope<'scope, 'env>;
type Holder<'scope> = ScopedJoinHandle<'scope, ()>;

fn batch(ids: &[&str], status: Status) -> Vec<SubJob> {
    ids.iter().map(|id| sub_job(id, "j", status, 0)).collect()
}

fn identifiers(store: &Store) -> Vec<String> {
    let page = wait(store.page(&project("p"), &CountFilter::default(), 0, 99)).unwrap();
    page.sub_jobs.iter().map(|sub_job| sub_job.id.to_string()).collect()
}

/// A walker of the list would otherwise see a subtask twice, or never.
#[test]
fn a_list_waits_for_subtasks_that_come_before_others_in_it() {
    let setup = Setup::new();
    let (slow, fast) = (setup.replica(), setup.replica());
    slow.report(&project("p"), batch(&["first"], Status::Running)).unwrap();
    scope(|scope| {
        setup.hold(scope, "held", "SELECT pg_advisory_xact_lock(7)");
        let submitted = slow.submit(project("p"), batch(&[GATE], Status::Running));
        setup.until_waiting("1", &slow);
        assert_eq!(fast.report(&project("p"), batch(&["fast"], Status::Running)).unwrap().created, 1);
        let list = scope.spawn(|| identifiers(&fast));
        setup.until(|| list.is_finished() || setup.waiting() == "2");
        setup.release("held");
        assert_eq!(list.join().unwrap(), ["first", GATE, "fast"]);
        assert_eq!(wait(submitted.outcome()).unwrap().created, 1);
    });
}

#[test]
fn a_list_that_has_waited_in_vain_holds_no_report() {
    let setup = Setup::new();
    let (slow, fast) = (setup.replica(), setup.replica());
    scope(|scope| {
        setup.hold(scope, "held", "SELECT pg_advisory_xact_lock(7)");
        let submitted = slow.submit(project("p"), batch(&[GATE], Status::Running));
        setup.until_waiting("1", &slow);
        let list = scope.spawn(|| wait(fast.page(&project("p"), &CountFilter::default(), 0, 99)));
        setup.until(|| list.is_finished() || setup.waiting() == "2");
        let report = fast.submit(project("p"), batch(&["fast"], Status::Running));
        assert_eq!(list.join().unwrap(), Err(StoreError::Unavailable));
        assert_eq!(wait(report.outcome()).unwrap().created, 1);
        setup.release("held");
        assert_eq!(wait(submitted.outcome()).unwrap().created, 1);
    });
    assert_eq!(identifiers(&fast), [GATE, "fast"]);
}

/// It may take seconds to store.
#[test]
fn a_list_does_not_wait_for_a_large_report() {
    let setup = Setup::new();
    let (slow, fast) = (setup.replica(), setup.replica());
    slow.report(&project("p"), batch(&["first"], Status::Running)).unwrap();
    let ids: Vec<String> = (0..4096).map(|number| format!("a{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).chain([GATE]).collect();
    scope(|scope| {
        setup.hold(scope, "held", "SELECT pg_advisory_xact_lock(7)");
        let large = slow.submit(project("p"), batch(&ids, Status::Running));
        setup.until_waiting("1", &slow);
        let small = fast.submit(project("p"), batch(&["fast"], Status::Running));
        setup.until_waiting("2", &fast);
        assert_eq!(identifiers(&fast), ["first"]);
        setup.release("held");
        assert_eq!(wait(large.outcome()).unwrap().created, 4097);
        assert_eq!(wait(small.outcome()).unwrap().created, 1);
    });
    let page = wait(fast.page(&project("p"), &CountFilter::default(), 4097, 99)).unwrap();
    assert_eq!((page.total, page.sub_jobs.len()), (4099, 2));
    assert_eq!(page.sub_jobs[1].id, SubJobId::parse("fast").unwrap());
}

/// A session of another program takes each of the two locks, whose keys docs/shared-store.md has.
#[test]
fn a_place_in_the_order_is_taken_under_both_locks() {
    let setup = Setup::new();
    let store = setup.replica();
    store.report(&project("p"), batch(&["first"], Status::Running)).unwrap();
    let class = setup.value("SELECT no % 256 FROM project WHERE id = 'p'");
    for (name, key) in [("adding", 1_937_072_747), ("listing", 1_937_072_748)] {
        scope(|scope| {
            setup.hold(scope, name, &format!("SELECT pg_advisory_xact_lock({key}, {class})"));
            let last = || setup.value("SELECT last_value FROM sub_job_block");
            let before = last();
            let submitted = store.submit(project("p"), batch(&[name], Status::Running));
            setup.until_waiting("1", &store);
            assert_eq!(last(), before);
            // What adds no subtask needs no place.
            let updated = setup.replica().report(&project("p"), batch(&["first"], Status::Failed)).unwrap();
            assert_eq!(updated.updated + updated.unchanged, 1);
            setup.release(name);
            assert_eq!(wait(submitted.outcome()).unwrap().created, 1);
        });
    }
    assert_eq!(identifiers(&store), ["first", "adding", "listing"]);
}

/// It keeps the counters of the project locked from one statement to the next. A list waits for each transaction that waits for these.
#[test]
fn a_large_report_is_alone_although_it_adds_nothing() {
    let setup = Setup::new();
    let store = setup.replica();
    let ids: Vec<String> = (0..4097).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    store.report(&project("p"), batch(&ids, Status::Running)).unwrap();
    let class = setup.value("SELECT no % 256 FROM project WHERE id = 'p'");
    scope(|scope| {
        setup.hold(scope, "adding", &format!("SELECT pg_advisory_xact_lock_shared(1937072747, {class})"));
        let large = store.submit(project("p"), batch(&ids, Status::Success));
        setup.until_waiting("1", &store);
        setup.release("adding");
        assert_eq!(wait(large.outcome()).unwrap().updated, 4097);
    });
}

#[test]
fn a_reset_and_a_report_do_not_lock_each_other_out() {
    let setup = Setup::new();
    let (resetting, reporting) = (setup.replica(), setup.replica());
    reporting.report(&project("p"), batch(&["a", "m", "z"], Status::Running)).unwrap();
    scope(|scope| {
        setup.hold(scope, "row", "SELECT FROM sub_job WHERE id = 'm' FOR UPDATE");
        setup.hold(scope, "held", "SELECT pg_advisory_xact_lock(7)");
        let report = reporting.submit(project("p"), batch(&["a", "m", "z"], Status::Failed));
        setup.until_waiting("1", &reporting);
        // While its lane waits, a report and a reset become one group.
        let gate = resetting.submit(project("q"), batch(&[GATE], Status::Running));
        setup.until_waiting("2", &resetting);
        let last = resetting.submit(project("p"), batch(&["z"], Status::Success));
        let reset = resetting.reset(project("p"));
        setup.release("held");
        assert_eq!(wait(gate.outcome()).unwrap().created, 1);
        setup.until_waiting("2", &resetting);
        setup.release("row");
        let report = wait(report.outcome()).unwrap();
        assert_eq!(report.updated + report.created, 3);
        assert_eq!((wait(last.outcome()).unwrap().updated, wait(reset.outcome())), (1, Ok(3)));
    });
    [resetting, reporting].iter().for_each(Store::close);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    setup.until(|| setup.value(sessions) == "1");
    assert_eq!(setup.value(deadlocks), "0");
}

/// The report adds one of the subtasks and settles the other. A deletion of both sees both changes or none.
#[test]
fn a_deletion_sees_what_a_report_adds_while_it_waits_for_the_same_report() {
    let setup = Setup::new();
    let (reporting, deleting) = (setup.replica(), setup.replica());
    reporting.report(&project("p"), batch(&["z"], Status::Running)).unwrap();
    scope(|scope| {
        setup.hold(scope, "row", "SELECT FROM sub_job WHERE id = 'z' FOR UPDATE");
        let both = [batch(&["a"], Status::Running), batch(&["z"], Status::Success)].concat();
        let report = reporting.submit(project("p"), both);
        setup.until_waiting("1", &reporting);
        let ids = ["a", "z"].map(|id| SubJobId::parse(id).unwrap()).to_vec();
        let deletion = deleting.delete(project("p"), ids, JobTypeSet::APP);
        setup.until_waiting("2", &deleting);
        setup.release("row");
        assert_eq!(wait(report.outcome()).unwrap().created, 1);
        assert_eq!(wait(deletion.outcome()).unwrap().unwrap_err().position, 0);
    });
    assert_eq!(identifiers(&reporting), ["z", "a"]);
}

#[test]
fn a_project_that_another_program_locks_does_not_hold_others() {
    let setup = Setup::new();
    let store = setup.replica();
    for of in ["p", "q"] {
        store.report(&project(of), batch(&["a"], Status::Running)).unwrap();
    }
    scope(|scope| {
        setup.hold(
            scope,
            "row",
            "SELECT FROM sub_job WHERE project = (SELECT no FROM project WHERE id = 'p') FOR UPDATE",
        );
        setup.hold(scope, "held", "SELECT pg_advisory_xact_lock(7)");
        let gate = store.submit(project("r"), batch(&[GATE], Status::Running));
        setup.until_waiting("1", &store);
        // One group.
        let [locked, free] = ["p", "q"].map(|of| store.submit(project(of), batch(&["a"], Status::Failed)));
        setup.release("held");
        assert_eq!(wait(gate.outcome()).unwrap().created, 1);
        let begun = Instant::now();
        assert_eq!(wait(free.outcome()).unwrap().updated, 1);
        // The project that is locked is tried again meanwhile.
        let more = store.submit(project("p"), batch(&["b"], Status::Running));
        for status in [Status::Running, Status::Success, Status::Failed] {
            assert_eq!(store.report(&project("q"), batch(&["a"], status)).unwrap().updated, 1);
        }
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        setup.release("row");
        assert_eq!((wait(locked.outcome()).unwrap().updated, wait(more.outcome()).unwrap().created), (1, 1));
    });
}
