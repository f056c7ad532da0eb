//! Flags are parsed to a `Config`.

use clap::Parser as _;

use super::*;

fn serve(flags: &str) -> Result<Config, String> {
    let line = format!("subjobs serve {flags}");
    match Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?.command {
        Command::Serve(flags) => (*flags).try_into().map_err(|error: ConfigError| error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_and_an_embedded_config_have_the_same_defaults() {
    let config = serve("--access a.toml").unwrap();
    let embedded = Config::on_any_port(AccessSource::File("a.toml".into()));
    assert_eq!(
        (config.listen, config.internal_listen),
        ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:9090".parse().unwrap())
    );
    assert_eq!(
        format!(
            "{:?}",
            Config { listen: embedded.listen.clone(), internal_listen: embedded.internal_listen.clone(), ..config }
        ),
        format!("{embedded:?}")
    );
}

#[test]
fn each_flag_sets_its_field() {
    let config = serve(
        "--demo --listen [::1]:0 --load a --load b --max-in-flight 1 --max-connections 2 --max-connections-per-address 7 --request-timeout 500ms \
         --report-timeout 1m30s --head-timeout 2h --idle-timeout 1s --drain 0s --drain-delay 3s --job-type NEW --demo-token t --public-host a,b:1 --public-host c",
    )
    .unwrap();
    assert_eq!(config.public_hosts, ["a", "b:1", "c"].map(|name| name.parse().unwrap()));
    assert_eq!(config.load, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!((config.max_in_flight, config.max_connections), (1, 2));
    assert_eq!(config.max_connections_per_address, Some(7));
    assert_eq!(config.request_timeout, Duration::from_millis(500));
    assert_eq!(config.report_timeout, Duration::from_secs(90));
    assert_eq!((config.drain, config.drain_delay), (Duration::ZERO, Duration::from_secs(3)));
    assert!(config.job_types.parse(crate::domain::Family::App, "NEW").is_some());
    assert!(config.demo.is_some());
    let config = serve("--access a --store postgres://u:secret@a,b:1/d --store-lanes 3").unwrap();
    assert_eq!(config.store_lanes, 3);
    assert_eq!(config.store.unwrap().url().to_string(), "postgres://u@a:5432,b:1/d");
    let config = serve("--access a --traces-endpoint http://h:4318/v1/traces --traces-sample 0.5").unwrap();
    let traces = config.traces.unwrap();
    assert_eq!((traces.endpoint.to_string().as_str(), traces.sample), ("http://h:4318/v1/traces", 0.5));
    let config = serve("--access a --data-dir d --retain-finished 30d12h").unwrap();
    assert_eq!(config.data_dir, Some(PathBuf::from("d")));
    assert_eq!(config.retain_finished, Some(Duration::from_secs((30 * 24 + 12) * 3600)));
}

#[test]
fn an_error_names_the_flag_and_the_rule() {
    for (flags, reason) in [
        ("", "there is no access file: give --access FILE, or --demo"),
        ("--demo --access a", "--demo (SUBJOBS_DEMO) and --access (SUBJOBS_ACCESS) exclude each other"),
        ("--demo --public-host a/b", "--public-host <NAME>': must be a host or a host and port"),
        ("--demo --public-host a,b,c,d,e --public-host f,g,h,i", "--public-host: at most 8 may be given"),
        ("--demo --job-type new", "'--job-type <NAME>': job type \"new\" must be"),
        ("--demo --request-timeout 0s", "--request-timeout <DURATION>': must not be zero"),
        ("--demo --drain=-1s", "--drain <DURATION>': must not be negative"),
        (
            "--demo --data-dir d",
            "--demo (SUBJOBS_DEMO) and --data-dir (SUBJOBS_DATA_DIR) exclude each other: give one of them",
        ),
        ("--demo --store postgres://u@h/d", "--demo (SUBJOBS_DEMO) and --store (SUBJOBS_STORE) exclude each other"),
        (
            "--access a --data-dir d --store postgres://u@h/d",
            "--data-dir (SUBJOBS_DATA_DIR) and --store (SUBJOBS_STORE) exclude each other",
        ),
        ("--access a --store h", "--store (SUBJOBS_STORE): must begin with postgres://"),
        ("--access a --store-ca f", "--store <URL>"),
        ("--access a --store postgres://u@h/d --store-password-file /nowhere", "/nowhere: No such file"),
        ("--access a --store postgres://u@h/d --store-ca /nowhere", "/nowhere: "),
        ("--access a --store postgres://u@h/d --store-lanes 0", "'--store-lanes <N>'"),
        ("--demo --traces-sample 2", "--traces-sample <RATIO>': must be a number from 0 to 1"),
        ("--demo --traces-endpoint http://h", "--traces-endpoint (SUBJOBS_TRACES_ENDPOINT): must have a path"),
        ("--demo --retain-finished 30", "--retain-finished <DURATION>': must be a number and a unit, as 12h or 30d"),
        ("--demo --retain-finished 1month", "must be in days, hours, minutes or seconds"),
        ("--demo --retain-finished 999ms", "must be 1s to 36500d"),
        ("--demo --retain-finished=-1d", "must be 1s to 36500d"),
        ("--demo --drain 10", "--drain <DURATION>': must be a number and a unit"),
        ("--demo --drain 25h", "must be at most 24h"),
        ("--demo --max-in-flight 0", "'--max-in-flight <N>'"),
        ("--demo --max-connections-per-address 0", "'--max-connections-per-address <N>'"),
        ("--demo --listen localhost", "'--listen <ADDR>': must have a port, as localhost:8080"),
        ("--demo --log-format xml", "'--log-format <LOG_FORMAT>'"),
        ("--demo --demo-token é", "SUBJOBS_DEMO_TOKEN must be"),
    ] {
        let error = serve(flags).unwrap_err();
        assert!(error.contains(reason), "{flags}: {error}");
    }
}

/// README.md and docs/contract.md have the defaults of the command line.
#[test]
fn documented_defaults_are_those_of_the_command_line() {
    use clap::CommandFactory as _;
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    for document in [include_str!("../../README.md"), include_str!("../../docs/contract.md")] {
        let mut checked = 0;
        for arg in serve.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.get_default_values().is_empty()) {
            let Some(option) = arg.get_long().filter(|option| *option != "demo") else { continue };
            let default = arg.get_default_values()[0].to_str().unwrap();
            let row = document.lines().find(|line| line.starts_with(&format!("| `--{option} "))).unwrap();
            assert_eq!(row.split('|').nth(2).unwrap().trim(), default, "--{option}");
            checked += 1;
        }
        assert_eq!(checked, 12);
        for (option, default) in [("listen", defaults::LISTEN), ("internal-listen", defaults::INTERNAL_LISTEN)] {
            let row = document.lines().find(|line| line.starts_with(&format!("| `--{option} "))).unwrap();
            assert_eq!(row.split('|').nth(2).unwrap().trim(), default.to_string(), "--{option}");
        }
    }
}
