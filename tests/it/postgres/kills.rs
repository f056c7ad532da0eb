//! The database, or a server, is killed while workers report.

use std::thread;

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, Version};
use crate::support::replicas::{migrated, start, work_while};
use crate::support::workers::{Worker, assert_stored};

/// More kills than the usual: `SUBJOBS_TEST_KILLS=500 cargo test --test it postgres::kills`.
const KILLS: &str = "SUBJOBS_TEST_KILLS";

#[test]
fn a_killed_database_loses_nothing_acknowledged_and_applies_nothing_twice() {
    let kills: usize = std::env::var(KILLS).map_or(20, |kills| kills.parse().unwrap());
    let (files, mut cluster) = (Files::new(), Cluster::start(Version::System));
    let url = cluster.url(&migrated(&cluster));
    let programs = [start(&files, &url, &[]), start(&files, &url, &[])];
    work_while(&programs, &url, |await_reports| {
        for kill in 0..kills {
            await_reports(kill % 10);
            cluster.kill();
            cluster.restart();
        }
        await_reports(20);
    });
}

#[test]
fn a_killed_server_leaves_no_half_report() {
    let (files, cluster) = (Files::new(), Cluster::shared(Version::System));
    let url = cluster.url(&migrated(cluster));
    let steady = [start(&files, &url, &[])];
    // In a project of its own, whose reports all go through the servers that are killed.
    let mut worker = Worker::new(9, "killed");
    work_while(&steady, &url, |await_reports| {
        for _ in 0..5 {
            let killed = start(&files, &url, &[]);
            thread::scope(|scope| {
                let address = killed.internal;
                let worker = &mut worker;
                scope.spawn(move || worker.work(address, || ()));
                await_reports(20);
                drop(killed);
            });
        }
    });
    assert_stored(&steady[0], &[worker], "after five kills");
}
