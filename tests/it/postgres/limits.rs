//! The database refuses: it is read-only, full, out of connections, or the role lacks a right.

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, record, report_path};
use crate::support::postgres::{Cluster, Version};
use crate::support::replicas::{
    assert_good, assert_unavailable, begin, count_at_last, migrated, report, report_at_last, start,
};
use crate::support::wait::until;

/// Makes the database refuse by one statement and accept by another; reports get 503 meanwhile, and need no restart.
fn refuses_between(refuse: &str, accept: &str) {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    cluster.sql(&database, "CREATE ROLE tested LOGIN PASSWORD 'x'");
    cluster.sql(
        &database,
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO tested; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tested",
    );
    let url = cluster.url_of("tested", "x", &database);
    let program = start(&files, &url, &["--report-timeout", "2s"]);
    report_at_last(&program, "1");
    let end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tested'";
    cluster.sql("postgres", &refuse.replace("DATABASE_NAME", &database));
    cluster.sql("postgres", end_sessions);
    for _ in 0..3 {
        assert_unavailable(&report(&program, "2"));
    }
    assert_eq!(program.internal_status("/healthz"), 200);
    cluster.sql("postgres", &accept.replace("DATABASE_NAME", &database));
    cluster.sql("postgres", end_sessions);
    report_at_last(&program, "2");
    assert_eq!(count_at_last(&program), 2);
    assert_good(&cluster.url(&database));
}

#[test]
fn a_database_that_is_read_only_gets_503() {
    refuses_between(
        "ALTER DATABASE DATABASE_NAME SET default_transaction_read_only = on",
        "ALTER DATABASE DATABASE_NAME RESET default_transaction_read_only",
    );
}

#[test]
fn a_role_that_may_not_connect_gets_503() {
    refuses_between("ALTER ROLE tested NOLOGIN", "ALTER ROLE tested LOGIN");
}

#[test]
fn a_role_without_connections_gets_503() {
    refuses_between("ALTER ROLE tested CONNECTION LIMIT 0", "ALTER ROLE tested CONNECTION LIMIT -1");
}

/// The server is neither ready nor answers, until the database is mended.
fn is_not_ready_between(refuse: &[&str], accept: &[&str]) {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    cluster.sql(&database, "CREATE ROLE tested LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO tested");
    cluster.sql(&database, "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tested");
    let program = start(&files, &cluster.url_of("tested", "x", &database), &[]);
    report_at_last(&program, "1");
    refuse.iter().for_each(|statement| drop(cluster.sql(&database, statement)));
    until("it is not ready", || (program.internal_status("/readyz") == 503).then_some(()));
    assert_unavailable(&report(&program, "2"));
    assert_unavailable(&program.ask(OPS, ""));
    assert_eq!(program.internal_status("/healthz"), 200);
    accept.iter().for_each(|statement| drop(cluster.sql(&database, statement)));
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    report_at_last(&program, "2");
    assert_eq!(count_at_last(&program), 2);
}

#[test]
fn a_right_that_is_taken_away_gets_503_until_it_is_granted() {
    is_not_ready_between(&["REVOKE INSERT ON sub_job FROM tested"], &["GRANT INSERT ON sub_job TO tested"]);
}

#[test]
fn a_server_that_becomes_read_only_gets_503() {
    let reload = "SELECT pg_reload_conf()";
    is_not_ready_between(
        &["ALTER SYSTEM SET default_transaction_read_only = on", reload],
        &["ALTER SYSTEM RESET default_transaction_read_only", reload],
    );
}

#[test]
fn a_server_waits_for_a_free_connection() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    cluster.sql(
        &database,
        "CREATE ROLE tested LOGIN CONNECTION LIMIT 0 PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO tested",
    );
    cluster.sql(&database, "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tested");
    let program = begin(&files, &cluster.url_of("tested", "x", &database), &[]);
    assert_eq!(program.internal_status("/readyz"), 503);
    cluster.sql(&database, "ALTER ROLE tested CONNECTION LIMIT -1");
    until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
    report_at_last(&program, "1");
}

#[test]
fn a_full_disk_of_the_database_refuses_reports_until_it_has_space() {
    let Some(mut cluster) = Cluster::start_on_small_disk(Version::System, 200, "wal_recycle = off") else { return };
    let files = Files::new();
    let url = cluster.url(&migrated(&cluster));
    let program = start(&files, &url, &["--report-timeout", "2s"]);
    let mut stored = 0;
    cluster.fill_disk();
    let refused = (0..20_000).find_map(|id| match report(&program, &id.to_string()) {
        response if response.status == 200 => {
            stored += 1;
            None
        }
        response => Some((id, response)),
    });
    let (id, response) = refused.expect("the disk is never full");
    assert_unavailable(&response);
    cluster.free_disk();
    // The server ends itself when it cannot write its log.
    if !cluster.is_running() {
        cluster.restart_after_end();
    }
    report_at_last(&program, &id.to_string());
    assert_eq!(count_at_last(&program), stored + 1);
    assert_good(&url);
}

#[test]
fn a_session_that_lost_its_statements_is_replaced() {
    let (files, cluster) = (Files::new(), Cluster::start(Version::System));
    let database = migrated(&cluster);
    let program = start(&files, &cluster.url(&database), &["--store-lanes", "1"]);
    report_at_last(&program, "1");
    let once = "CREATE SEQUENCE forgotten; CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS \
        'BEGIN IF nextval(''forgotten'') = 1 THEN EXECUTE ''DEALLOCATE ALL''; END IF; RETURN NEW; END'; \
        CREATE TRIGGER forget BEFORE INSERT ON sub_job FOR EACH ROW EXECUTE FUNCTION forget()";
    cluster.sql(&database, once);
    let response = report(&program, "2");
    assert_eq!((response.status, &response.json()["created"]), (200, &1.into()), "{response:?}");
    // The result of a statement that the session has prepared gets another type.
    cluster.sql(&database, "ALTER TABLE project ALTER COLUMN id TYPE varchar COLLATE \"C\"");
    let other = post(program.internal, &report_path("other"), OPS, &record("1", "j", "CREATE_SERVER", "RUNNING"));
    assert_eq!((other.status, &other.json()["created"]), (200, &1.into()), "{other:?}");
    assert_eq!(count_at_last(&program), 2);
    assert_good(&cluster.url(&database));
}
