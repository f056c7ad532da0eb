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

fn target(database: &str) -> Target {
    Target::new(Cluster::shared(ServerVersion::System).url(database).parse().unwrap(), None, None).unwrap()
}

/// An open store in that database.
pub(super) fn replica(database: &str) -> Store {
    let store = Store::in_postgres(target(database), types(), 2, Duration::from_secs(30));
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
