//! The shipped compose file of the shared store, as far as it can be checked without containers, and the rights that the
//! documentation grants.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::CommandFactory as _;
use serde_json::Value;
use subjobs::config::Cli;
use subjobs::store::StoreUrl;

use crate::support::fixtures::Files;
use crate::support::postgres::{Cluster, PASSWORD, SUPERUSER, Version};
use crate::support::program::{run, subjobs, text};

fn compose() -> Value {
    serde_saphyr::from_str(include_str!("../../../deploy/shared-store/compose.yaml")).unwrap()
}

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/shared-store").join(name)
}

#[test]
fn the_compose_file_has_two_equal_servers_on_one_migrated_database() {
    let compose = compose();
    let services = &compose["services"];
    assert_eq!(services["subjobs-1"], services["subjobs-2"]);
    let server = &services["subjobs-1"];
    assert_eq!(server["depends_on"]["migrate"]["condition"], "service_completed_successfully");
    assert_eq!(services["migrate"]["depends_on"]["database"]["condition"], "service_healthy");
    // The gateway forwards to the name that both servers have.
    let alias = server["networks"]["backend"]["aliases"][0].as_str().unwrap();
    assert!(include_str!("../../../deploy/nginx.conf").contains(&format!("server {alias}:8080 ")));
    for name in ["subjobs-1", "subjobs-2"] {
        assert_eq!(services["gateway"]["depends_on"][name]["condition"], "service_healthy");
    }
    // Only the gateway has a port and the outer network.
    for (name, service) in services.as_object().unwrap() {
        let is_gateway = name == "gateway";
        assert_eq!(service.get("ports").is_some(), is_gateway, "{name}");
        assert_eq!(service["networks"].to_string().contains("edge"), is_gateway, "{name}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
    }
    assert_eq!(compose["networks"]["backend"]["internal"], true);
    let grace: u64 = server["stop_grace_period"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    assert!(Duration::from_secs(grace) >= Duration::from_secs(10 + 5), "longer than --drain and the end of the store");
}

#[test]
fn the_compose_file_sets_options_that_exist_and_mounts_files_that_exist() {
    let compose = compose();
    for (service, command) in [("subjobs-1", "serve"), ("migrate", "migrate")] {
        let service = &compose["services"][service];
        let cli = Cli::command();
        let arguments = cli.find_subcommand(command).unwrap().get_arguments();
        let known: Vec<_> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
        for (variable, value) in service["environment"].as_object().unwrap() {
            assert!(known.contains(&variable.as_str()), "{command} does not read {variable}");
            let value = value.as_str().unwrap();
            if variable == "SUBJOBS_STORE" {
                let url: StoreUrl = value.parse().unwrap();
                assert!(url.to_string().contains("@database:5432/subjobs"), "{url}");
                assert!(compose["services"].get("database").is_some());
            }
            if variable == "SUBJOBS_STORE_PASSWORD_FILE" {
                let secret = value.strip_prefix("/run/secrets/").unwrap();
                assert_eq!(service["secrets"][0], secret);
                assert!(compose["secrets"].get(secret).is_some());
            }
        }
    }
    for service in compose["services"].as_object().unwrap().values() {
        for mount in service["volumes"].as_array().into_iter().flatten().filter(|mount| mount.is_object()) {
            let source = mount["source"].as_str().unwrap();
            // The operator makes it from the example.
            let source = if source == "./access.toml" { "../access.example.toml" } else { source };
            assert!(file(source).exists(), "{source}");
        }
    }
    let ignored = include_str!("../../../.gitignore");
    for secret in compose["secrets"].as_object().unwrap().values() {
        assert!(secret["file"].as_str().unwrap().ends_with("-password"));
    }
    assert!(
        ignored.contains("/deploy/shared-store/*-password") && ignored.contains("/deploy/shared-store/access.toml")
    );
}

/// What the documentation tells an operator to run before the first migration.
fn documented_rights() -> &'static str {
    let document = include_str!("../../../docs/shared-store.md");
    let (_, rest) = document.split_once("```sql\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_documented_rights_are_enough_to_serve_and_not_to_migrate() {
    let cluster = Cluster::start(Version::System);
    let files = Files::new();
    let role = |name: &str, command: &str, database: &str| {
        let output = run(&mut subjobs(&[command, "--store", &cluster.url_of(name, "replace me", database)]), "");
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let migrate = |database: &str| {
        let output = run(&mut subjobs(&["migrate", "--store", &cluster.url(database)]), "");
        assert!(output.status.success(), "{output:?}");
    };
    let documented = cluster.create_database(None);
    cluster.sql(&documented, documented_rights());
    migrate(&documented);
    let (code, said) = role("subjobs", "check", &documented);
    assert_eq!(code, 0, "{said}");
    for change in ["DROP TABLE lease", "TRUNCATE lease", "CREATE TABLE t (n int)"] {
        let url = cluster.url_of("subjobs", "replace me", &documented);
        assert!(cluster.try_sql_at(&url, change).unwrap_err().starts_with("42501"), "{change}");
    }
    cluster.sql(&documented, "DROP OWNED BY subjobs; DROP ROLE subjobs");

    // The script of the compose file does the same.
    let shipped = cluster.create_database(None);
    let mut script = Command::new(file("make-role.sh"));
    let path = format!("{}:{}", cluster.version.bin().display(), std::env::var("PATH").unwrap());
    script.env("PATH", path).env("PGHOST", cluster.dir()).env("PGPORT", cluster.address().port().to_string());
    script.env("PGPASSWORD", PASSWORD).env("POSTGRES_USER", SUPERUSER).env("POSTGRES_DB", &shipped);
    let output = run(script.env("SUBJOBS_PASSWORD_FILE", files.put("password", "replace me\n")), "");
    assert!(output.status.success(), "{output:?}");
    migrate(&shipped);
    let (code, said) = role("subjobs", "check", &shipped);
    assert_eq!(code, 0, "{said}");
    let other = cluster.create_database(None);
    let (code, said) = role("subjobs", "migrate", &other);
    assert!(code == 1 && said.contains("permission denied for schema public (42501)"), "{said}");
}
