//! The fence: what a lost connection has sent may arrive at any time, and changes nothing that its lane does not know of.

use std::thread;

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Program;
use crate::support::proxy::{Action, Direction, Fault, Proxy};
use crate::support::replicas::{assert_good, count_at_last, migrated, report, report_at_last, start};
use crate::support::wait::until;

/// A server with one lane, whose connections pass through a proxy, and its database.
struct Setup {
    cluster: Cluster,
    database: String,
    proxy: Proxy,
    program: Program,
    _files: Files,
}

impl Setup {
    fn new() -> Self {
        let (files, cluster) = (Files::new(), Cluster::start(Version::System));
        let database = migrated(&cluster);
        let proxy = Proxy::start(cluster.address());
        let through = cluster.url(&database).replace(&cluster.address().to_string(), &proxy.address.to_string());
        let program = start(&files, &through, &["--store-lanes", "1"]);
        report_at_last(&program, "first");
        Self { cluster, database, proxy, program, _files: files }
    }

    /// Holds back what a lane sends, from the read that has this text on, and cuts the lane off.
    fn hold(&self, pattern: &str) {
        let (direction, action) = (Direction::ToServer, Action::Hold);
        self.proxy.set_fault(Fault { pattern: pattern.into(), direction, after: Some(0), action });
    }

    /// The number of sessions of which this is true.
    fn sessions(&self, condition: &str) -> String {
        let query = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}");
        self.cluster.value(&self.database, &query)
    }

    fn metric(&self, series: &str) -> u64 {
        self.program.metric(series).unwrap()
    }

    fn assert_stored(&self, subtasks: u64) {
        assert_eq!(count_at_last(&self.program), subtasks);
        assert_good(&self.cluster.url(&self.database));
    }
}

/// The lane cannot tell whether it was committed, and makes it again only when it cannot be committed any more.
#[test]
fn a_commit_that_arrives_after_its_connection_is_lost_is_applied_once() {
    let setup = Setup::new();
    setup.hold("COMMIT");
    let response = thread::scope(|scope| {
        let reporting = scope.spawn(|| report(&setup.program, "held"));
        // The next transaction, or the registration before it, meets the one whose COMMIT is on its way.
        until("the lane waits", || (setup.sessions("wait_event_type = 'Lock'") == "1").then_some(()));
        setup.proxy.release();
        reporting.join().unwrap()
    });
    assert_eq!((response.status, &response.json()["created"]), (200, &1.into()), "{response:?}");
    let resolved = |how| setup.metric(&format!("subjobs_store_unknown_total{{resolved=\"{how}\"}}"));
    assert_eq!(resolved("committed") + resolved("absent"), 1);
    setup.assert_stored(2);
}

/// The first half of a transaction, which its lane has given up, comes after the lane has made the transaction again.
#[test]
fn a_transaction_of_an_earlier_connection_does_not_hold_its_lane() {
    let setup = Setup::new();
    setup.hold("held");
    let response = report(&setup.program, "held");
    assert_eq!((response.status, &response.json()["created"]), (200, &1.into()), "{response:?}");
    setup.proxy.release();
    until("it has begun", || (setup.sessions("state = 'idle in transaction'") == "1").then_some(()));
    let free = "SELECT count(*) FROM (SELECT FROM writer FOR UPDATE SKIP LOCKED) free";
    assert_eq!(setup.cluster.value(&setup.database, free), "1");
    let next = report(&setup.program, "next");
    assert_eq!((next.status, &next.json()["created"]), (200, &1.into()), "{next:?}");
    setup.assert_stored(3);
}

/// A transaction that does not find its lane's epoch changes nothing.
#[test]
fn a_lane_whose_epoch_is_over_registers_again() {
    let setup = Setup::new();
    let fenced = setup.metric("subjobs_store_fenced_total");
    setup.cluster.sql(&setup.database, "UPDATE writer SET epoch = epoch + 1");
    let before = setup.cluster.value(&setup.database, "SELECT epoch FROM writer");
    let response = report(&setup.program, "next");
    assert_eq!((response.status, &response.json()["created"]), (200, &1.into()), "{response:?}");
    assert_eq!(setup.metric("subjobs_store_fenced_total"), fenced + 1);
    assert_ne!(setup.cluster.value(&setup.database, "SELECT epoch FROM writer"), before);
    setup.assert_stored(2);
}
