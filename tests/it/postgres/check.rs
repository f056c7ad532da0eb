//! `subjobs check --store`: what is wrong with a database, a server or a role.

use std::process::Output;

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, PASSWORD, Version};
use crate::support::program::{run, subjobs, text};

/// What the documentation tells an operator to grant.
const RIGHTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tested; \
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO tested";

fn check(url: &str, more: &[&str]) -> (i32, String) {
    let output: Output = run(subjobs(&["check", "--store", url]).args(more), "");
    assert_eq!(text(&output.stderr), "");
    (output.status.code().unwrap(), text(&output.stdout))
}

/// A database with the schema, and its URL.
fn migrated(cluster: &Cluster) -> (String, String) {
    let database = cluster.create_database(None);
    let url = cluster.url(&database);
    assert!(run(&mut subjobs(&["migrate", "--store", &url]), "").status.success());
    (database, url)
}

#[test]
fn check_compares_every_counter_with_the_subtasks() {
    for version in Version::installed() {
        let cluster = Cluster::shared(version);
        let (database, url) = migrated(cluster);
        let (code, said) = check(&url, &[]);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains(": good, schema 1, PostgreSQL 1") && said.ends_with(", 0 subtasks of 0 jobs in 0 projects\n"),
            "{said}"
        );
        cluster.sql(
            &database,
            "INSERT INTO sub_job (project, id, job, job_type, status, version, seq) \
                SELECT 1, n::text, gen_random_uuid(), 0, n % 2, 1, n FROM generate_series(1, 4) n; \
             INSERT INTO job_tally SELECT project, job, job_type, id, 1 - status, status, 0, 0, 0, 0, 0 FROM sub_job; \
             INSERT INTO project_tally VALUES (1, 0, 0, 3, 2, 0, 0, 0, 0, 0), (1, 1, 0, -1, 0, 0, 0, 0, 0, 0)",
        );
        let (code, said) = check(&url, &[]);
        assert!(code == 0 && said.ends_with(", 4 subtasks of 4 jobs in 1 project\n"), "{said}");
        cluster.sql(
            &database,
            "UPDATE job_tally SET s1 = s1 + 1 WHERE job_id = '1'; UPDATE project_tally SET s6 = 2 WHERE stripe = 0",
        );
        let (code, said) = check(&url, &[]);
        assert!(code == 2 && said.ends_with(": the counters of jobs are off by 1, those of projects by 2\n"), "{said}");
        for expected in ["the counters of 1 project were wrong, and were computed again", "no counter was wrong"] {
            let (code, said) = check(&url, &["--repair"]);
            let lines: Vec<_> = said.lines().collect();
            assert!(code == 0 && lines.len() == 2 && lines[0].ends_with(&format!(": {expected}")), "{said}");
            assert!(
                lines[1].contains(": good, ") && lines[1].ends_with(", 4 subtasks of 4 jobs in 1 project"),
                "{said}"
            );
        }
        cluster.sql(&database, "DELETE FROM job_tally WHERE job_id = '1'");
        let (code, said) = check(&url, &["--repair"]);
        assert!(code == 2 && said.contains(": not repaired: job_tally has no row of 1 of the jobs"), "{said}");
    }
}

#[test]
fn check_says_what_a_role_lacks() {
    let mut cluster = Cluster::start(Version::System);
    let (database, url) = migrated(&cluster);
    cluster.sql(&database, "CREATE ROLE tested LOGIN PASSWORD 'secret of the role'");
    let tested = cluster.url_of("tested", "secret of the role", &database);
    let (code, said) = check(&tested, &[]);
    assert!(code == 2 && said.contains("permission denied for table subjobs_schema (42501)"), "{said}");
    cluster.sql(&database, RIGHTS);
    let (code, said) = check(&tested, &[]);
    assert!(code == 0, "{said}");
    cluster.sql(&database, "REVOKE DELETE ON sub_job FROM tested; REVOKE USAGE ON SEQUENCE sub_job_block FROM tested");
    let (code, said) = check(&tested, &[]);
    assert!(code == 2 && said.contains("the role lacks DELETE on sub_job, USAGE on sub_job_block"), "{said}");

    for (url, reason) in [
        (cluster.url_of("tested", "wrong", &database), "password authentication failed for user \"tested\" (28P01)"),
        (cluster.url("nowhere"), "database \"nowhere\" does not exist (3D000)"),
        (cluster.url("postgres"), "the database has no schema: run subjobs migrate"),
    ] {
        let (code, said) = check(&url, &[]);
        assert!(code == 2 && said.contains(reason) && !said.contains("secret"), "{said}");
    }
    // A database that is not open for changes.
    cluster.sql(&database, &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let (code, said) = check(&url, &[]);
    assert!(code == 2 && said.contains("the server is read-only"), "{said}");
    cluster.stop();
}

#[test]
fn the_password_comes_from_a_file() {
    let cluster = Cluster::shared(Version::System);
    let (_, url) = migrated(cluster);
    let files = Files::new();
    let without = url.replacen(&url[url.find(":not").unwrap()..url.find('@').unwrap()], "", 1);
    for (content, expected) in [(format!("{PASSWORD}\n"), 0), (PASSWORD.to_owned(), 0), ("wrong\n".to_owned(), 2)] {
        let file = files.put("password", &content);
        let (code, said) = check(&without, &["--store-password-file", &file]);
        assert!(code == expected && !said.contains(PASSWORD), "{said}");
    }
    for (content, reason) in [("", "is empty"), ("a\nb\n", "must be one line")] {
        let file = files.put("password", content);
        let (code, said) = check(&without, &["--store-password-file", &file]);
        assert_eq!((code, said), (2, format!("{file}: {reason}\n")));
    }
    let (code, said) = check(&url, &["--store-password-file", &files.put("password", PASSWORD)]);
    assert!(code == 2 && said.contains("give one of them"), "{said}");
}

#[test]
fn a_server_that_could_lose_a_commit_is_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let cluster = Cluster::start_with(Version::System, &format!("{setting} = off"));
        for command in ["check", "migrate"] {
            let output = run(&mut subjobs(&[command, "--store", &cluster.url("postgres")]), "");
            assert_eq!(output.status.code(), Some(2));
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(
                said.contains(&format!("the server has {setting} = off, and may lose what it acknowledged")),
                "{said}"
            );
        }
    }
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let cluster = Cluster::shared(Version::System);
    cluster.sql("postgres", "CREATE DATABASE latin_checked TEMPLATE template0 ENCODING 'LATIN1'");
    for command in ["check", "migrate"] {
        let output = run(&mut subjobs(&[command, "--store", &cluster.url("latin_checked")]), "");
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("the database has the encoding LATIN1, and identifiers need UTF8"), "{said}");
    }
}

#[test]
fn the_primary_is_found_among_several_servers() {
    let mut primary = Cluster::start(Version::System);
    let (database, _) = migrated(&primary);
    let standby = primary.start_standby(true);
    let url = |hosts: &str| primary.url(&database).replace(&primary.address().to_string(), hosts);
    let (first, second) = (primary.address(), standby.address());
    let orders =
        [url(&format!("127.0.0.1:1,{first}")), url(&format!("{second},{first}")), url(&format!("{first},{second}"))];
    for url in &orders {
        let (code, said) = check(url, &[]);
        assert_eq!(code, 0, "{said}");
    }
    primary.kill();
    let (code, said) = check(&orders[1], &[]);
    assert!(code == 2 && said.contains("the server is read-only"), "{said}");
    standby.promote();
    let (code, said) = check(&orders[2], &[]);
    assert_eq!(code, 0, "{said}");
}
