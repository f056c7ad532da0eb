//! The PostgreSQL servers that the other tests use.

use crate::support::postgres::{Cluster, Version};

#[test]
fn a_killed_server_keeps_what_it_committed() {
    for version in Version::installed() {
        let mut cluster = Cluster::start(version);
        let database = cluster.create_database(None);
        cluster.sql(&database, "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
        cluster.kill();
        assert!(cluster.try_sql(&database, "SELECT n FROM t").is_err());
        cluster.restart();
        assert_eq!(cluster.value(&database, "SELECT n FROM t"), "7");
        assert_eq!(cluster.value(&database, "SHOW fsync"), "on");
        cluster.stop();
    }
}

#[test]
fn a_promoted_standby_has_what_the_killed_primary_committed() {
    for version in Version::installed() {
        let mut primary = Cluster::start(version);
        let standby = primary.start_standby(true);
        primary.sql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
        assert!(standby.try_sql("postgres", "INSERT INTO t VALUES (8)").unwrap_err().starts_with("25006"));
        primary.kill();
        standby.promote();
        assert_eq!(standby.value("postgres", "INSERT INTO t VALUES (8) RETURNING (SELECT n FROM t)"), "7");
    }
}

#[test]
fn a_full_disk_refuses_changes_until_it_has_space() {
    let Some(cluster) = Cluster::start_on_small_disk(Version::System, 200, "") else { return };
    cluster.sql("postgres", "CREATE TABLE t (n int, text text)");
    let insert = "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n";
    cluster.fill_disk();
    let refused = (0..5).find_map(|_| cluster.try_sql("postgres", insert).err());
    assert!(refused.is_some_and(|error| error.starts_with("53100")), "{}", cluster.read_log());
    cluster.free_disk();
    cluster.sql("postgres", insert);
}

#[test]
fn a_server_ends_with_its_cluster_after_a_hang_up() {
    let cluster = Cluster::start(Version::System);
    let pid = cluster.pid();
    cluster.hang_up();
    drop(cluster);
    let is_running = rustix::process::test_kill_process(pid).is_ok();
    if is_running {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert!(!is_running);
}
