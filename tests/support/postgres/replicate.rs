//! Streaming replication: a standby, synchronous or not, and its promotion.

use std::thread;
use std::time::{Duration, Instant};

use super::{Cluster, DEADLINE, PASSWORD, SUPERUSER, run};

/// The name by which a primary knows its standby.
const STANDBY: &str = "standby";

impl Cluster {
    /// Starts a standby that streams from this server. If it is synchronous, a commit here returns when the standby has it on disk.
    pub(crate) fn start_standby(&self, is_synchronous: bool) -> Self {
        let mut standby = Self::prepare(self.version);
        let mut backup = standby.program("pg_basebackup");
        let (host, port) = (self.address.ip(), self.address.port());
        let from = format!("host={host} port={port} user={SUPERUSER} application_name={STANDBY}");
        backup.env("PGPASSWORD", PASSWORD).args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "-d",
            &from,
        ]);
        run(backup.arg("-D").arg(&standby.data));
        standby.configure("");
        standby.restart();
        if is_synchronous {
            self.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"));
            self.sql("postgres", "SELECT pg_reload_conf()");
        }
        let expected = if is_synchronous { "sync" } else { "async" };
        let end = Instant::now() + DEADLINE;
        let query = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'";
        while self.sql("postgres", query) != [[Some(expected.to_owned())]] {
            assert!(Instant::now() < end, "the standby does not stream\n{}", standby.read_log());
            thread::sleep(Duration::from_millis(10));
        }
        standby
    }

    /// Makes a standby the primary; returns when it accepts changes.
    pub(crate) fn promote(&self) {
        assert_eq!(self.value("postgres", "SELECT pg_promote()"), "t");
    }
}
