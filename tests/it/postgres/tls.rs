//! TLS to the database: the certificate and the name of the server are always verified.

use crate::support::postgres::{Authority, Cluster, Version};
use crate::support::program::{run, subjobs, text};

/// What `check` says of a database that has no schema, and so of every server that accepts the connection.
const CONNECTED: &str = "the database has no schema";

fn check(url: &str, authority: Option<&Authority>) -> String {
    let mut command = subjobs(&["check", "--store", url]);
    if let Some(authority) = authority {
        command.arg("--store-ca").arg(authority.path());
    }
    text(&run(&mut command, "").stdout)
}

#[test]
fn a_connection_is_encrypted_only_after_the_certificate_was_verified() {
    let mut cluster = Cluster::start(Version::System);
    let url = |parameters: &str| cluster.url("postgres").replace("sslmode=disable", parameters);
    let [require, disable] = ["sslmode=require", "sslmode=disable"].map(url);
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let without = check(&require, Some(&good));
    assert!(without.contains("server does not support TLS"), "{without}");

    cluster.use_certificate(&good, &format!("IP:{}", cluster.address().ip()));
    let by_name = cluster.url("postgres").replace("sslmode=disable", "sslmode=verify-full&channel_binding=require");
    for url in [&require, &by_name] {
        let said = check(url, Some(&good));
        assert!(said.contains(CONNECTED), "{said}");
        for authority in [Some(&other), None] {
            let said = check(url, authority);
            assert!(said.contains("invalid peer certificate") && !said.contains(CONNECTED), "{said}");
        }
    }
    assert!(check(&disable, None).contains(CONNECTED));
    // The server sees encrypted connections.
    cluster.sql("postgres", "ALTER SYSTEM SET log_connections = on");
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    check(&require, Some(&good));
    assert!(cluster.read_log().contains("SSL enabled"), "{}", cluster.read_log());

    cluster.use_certificate(&good, "DNS:elsewhere.example");
    let said = check(&require, Some(&good));
    assert!(said.contains("not valid for name") && !said.contains(CONNECTED), "{said}");
}

#[test]
fn a_file_without_certificates_is_refused() {
    let files = crate::support::fixtures::Files::new();
    let file = files.put("empty.pem", "no certificate\n");
    let output = run(&mut subjobs(&["check", "--store", "postgres://u@127.0.0.1:1/d", "--store-ca", &file]), "");
    assert_eq!(text(&output.stdout), format!("{file}: has no certificate in PEM\n"));
}
