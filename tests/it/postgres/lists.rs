//! Lists that take long: they end in time, in the database too, and leave other projects connections.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::blocking::{BlockingConnection, get, post};
use crate::support::fixtures::{Files, OPS, OTHER_PROJECT, PROJECT, record, report_path};
use crate::support::postgres::{Cluster, Version};
use crate::support::program::Program;
use crate::support::replicas::{assert_unavailable, migrated, start};
use crate::support::response::Response;
use crate::support::wait::until;

/// A server, and a database in which each row of one project takes a minute to read.
struct Setup {
    cluster: Cluster,
    program: Program,
    _files: Files,
}

impl Setup {
    fn new() -> Self {
        let (files, cluster) = (Files::new(), Cluster::start(Version::System));
        let database = migrated(&cluster);
        cluster.sql(
            &database,
            "CREATE ROLE tested LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO tested; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tested",
        );
        let program = start(&files, &cluster.url_of("tested", "x", &database), &[]);
        for project in [PROJECT, OTHER_PROJECT] {
            let body = record("a", "j", "CREATE_SERVER", "RUNNING");
            let stored = post(program.internal, &report_path(project), OPS, &body);
            assert_eq!(stored.status, 200, "{stored:?}");
        }
        let slow = format!("SELECT no FROM project WHERE id = '{PROJECT}'");
        let slow = cluster.value(&database, &slow);
        cluster.sql(
            &database,
            &format!(
                "ALTER TABLE sub_job ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY slow ON sub_job USING (CASE WHEN project = {slow} THEN pg_sleep(60) IS NOT NULL ELSE true END)"
            ),
        );
        Self { cluster, program, _files: files }
    }

    fn list(&self, project: &str) -> Response {
        get(self.program.public, &list_path(project), OPS)
    }

    /// How many lists run in the database.
    fn running(&self) -> usize {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        self.cluster.value("postgres", running).parse().unwrap()
    }
}

fn list_path(project: &str) -> String {
    format!("/v1/{project}/app-server-sub-jobs?job_type=")
}

#[test]
fn slow_lists_of_one_project_leave_others_a_connection() {
    let setup = Setup::new();
    thread::scope(|scope| {
        let slow = || {
            let begun = Instant::now();
            (setup.list(PROJECT), begun.elapsed())
        };
        let slow: Vec<_> = (0..6).map(|_| scope.spawn(slow)).collect();
        until("slow lists run", || (setup.running() > 0).then_some(()));
        let listed = setup.list(OTHER_PROJECT);
        assert_eq!((listed.status, &listed.json()["count"]), (200, &1.into()), "{listed:?}");
        for list in slow {
            let (response, took) = list.join().unwrap();
            assert_unavailable(&response);
            assert!(took < Duration::from_secs(4), "{took:?}");
        }
    });
    until("nothing runs any more", || (setup.running() == 0).then_some(()));
}

#[test]
fn a_list_whose_caller_has_gone_ends_in_the_database() {
    let setup = Setup::new();
    let mut caller = BlockingConnection::open(setup.program.public);
    let begun = Instant::now();
    caller.send(format!("GET {} HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {OPS}\r\n\r\n", list_path(PROJECT)));
    until("the list runs", || (setup.running() > 0).then_some(()));
    drop(caller);
    until("it has ended", || (setup.running() == 0).then_some(()));
    // By a request of the server, or by the rest of its deadline.
    assert!(setup.cluster.read_log().contains("canceling statement due to"));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
