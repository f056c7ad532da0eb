//! The database hangs, and a server hangs in a transaction.

use std::time::{Duration, Instant};

use crate::support::blocking::BlockingConnection;
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, record, report_path};
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Signal;
use crate::support::proxy::{Action, Direction, Fault, Proxy};
use crate::support::replicas::{
    assert_good, assert_unavailable, count_at_last, migrated, report, report_at_last, start,
};
use crate::support::wait::until;

/// What a busy machine may add to a time limit.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn a_database_that_hangs_gets_503_within_two_seconds_and_needs_no_restart() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let url = cluster.url(&migrated(&cluster));
    let program = start(&files, &url, &["--report-timeout", "2s"]);
    report_at_last(&program, "1");
    cluster.pause();
    let asked = Instant::now();
    assert_unavailable(&program.ask(OPS, ""));
    assert!(asked.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", asked.elapsed());
    let reported = Instant::now();
    assert_unavailable(&report(&program, "2"));
    assert!(reported.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", reported.elapsed());
    assert_eq!(program.internal_status("/healthz"), 200);
    until("it is not ready", || (program.internal_status("/readyz") == 503).then_some(()));
    cluster.resume();
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    report_at_last(&program, "2");
    assert_eq!(count_at_last(&program), 2);
    assert_good(&url);
}

#[test]
fn a_server_that_stops_in_a_transaction_holds_others_for_five_seconds() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    let url = cluster.url(&database);
    let proxy = Proxy::start(cluster.address());
    let through = url.replace(&cluster.address().to_string(), &proxy.address.to_string());
    let stopped = start(&files, &through, &["--store-lanes", "1"]);
    let other = start(&files, &url, &[]);
    report_at_last(&stopped, "held");
    // The answer to the locks never comes, so the transaction stays open.
    let fault =
        Fault { pattern: b"held".into(), direction: Direction::ToClient, after: Some(0), action: Action::Silence };
    proxy.set_fault(fault);
    let mut connection = BlockingConnection::open(stopped.internal);
    let record = record("held", "j", "CREATE_SERVER", "SUCCESS");
    let path = report_path(PROJECT);
    let length = format!("Content-Length: {}", record.len());
    let more = ["Content-Type: application/x-ndjson", &length];
    connection.send(request("POST", &path, OPS, &more) + &record);
    until("the transaction hangs", || proxy.has_happened().then_some(()));
    stopped.signal(Signal::Stop);
    let reported = Instant::now();
    report_at_last(&other, "held");
    assert!(reported.elapsed() < Duration::from_secs(5) + SLACK, "{:?}", reported.elapsed());
    stopped.signal(Signal::Cont);
    until("it is ready", || (stopped.internal_status("/readyz") == 200).then_some(()));
    assert_good(&url);
}
