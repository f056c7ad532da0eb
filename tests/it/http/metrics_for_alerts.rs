//! The metrics that alerts use: readiness, the last reload, the last report, and the limits.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, access, record, report_path};
use crate::support::program::{Program, Signal, writer};
use crate::support::wait::until;

const READY: &str = "subjobs_ready";
const STORABLE: &str = "subjobs_reports_storable";
const LAST_REPORT: &str = "subjobs_last_accepted_report_timestamp_seconds";
const RELOADED: &str = "subjobs_access_reload_success";
const LAST_RELOAD: &str = "subjobs_access_last_reload_timestamp_seconds";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn ready_is_1_from_the_end_of_the_load_to_the_drain() {
    let files = Files::new();
    let load = files.fifo("load.ndjson");
    let program = Program::begin(&["--access", &files.access(), "--load", &load, "--drain-delay", "1h"]);
    assert_eq!(program.metric(READY), Some(0));
    drop(writer(load));
    program.await_log("ready");
    assert_eq!((program.metric(READY), program.metric(STORABLE)), (Some(1), Some(1)));
    program.signal(Signal::Term);
    program.await_log("draining");
    until("it is not ready", || (program.metric(READY) == Some(0)).then_some(()));
}

#[test]
fn only_an_accepted_report_sets_the_time_of_the_last_report() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access(), "--data-dir", &files.arg("data")]);
    assert_eq!((program.metric(LAST_REPORT), program.metric(STORABLE)), (Some(0), Some(1)));
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, "x").status, 400);
    assert_eq!(program.metric(LAST_REPORT), Some(0));
    let before = now();
    let report = record("1", "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, &report).status, 200);
    let at = program.metric(LAST_REPORT).unwrap();
    assert!((before..=now()).contains(&at), "{at}");
}

#[test]
fn limits_have_the_values_of_the_options() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access(), "--max-in-flight", "7", "--max-connections", "9"]);
    assert_eq!(program.metric("subjobs_http_in_flight_limit"), Some(7));
    for listener in ["public", "internal"] {
        let series = format!("subjobs_http_connections_limit{{listener=\"{listener}\"}}");
        assert_eq!(program.metric(&series), Some(9), "{listener}");
    }
}

#[test]
fn failed_and_successful_reloads_are_measured() {
    let files = Files::new();
    let before = now();
    let program = Program::start(&["--access", &files.access()]);
    assert_eq!(program.metric(RELOADED), Some(1));
    let at_start = program.metric(LAST_RELOAD).unwrap();
    assert!((before..=now()).contains(&at_start), "{at_start}");
    files.put("access.toml", "x");
    program.signal(Signal::Hup);
    until("the failure is seen", || (program.metric(RELOADED) == Some(0)).then_some(()));
    assert_eq!(program.metric(LAST_RELOAD), Some(at_start));
    until("the clock moves on", || (now() > at_start).then_some(()));
    files.put("access.toml", &access());
    program.signal(Signal::Hup);
    until("the good one is seen", || (program.metric(RELOADED) == Some(1)).then_some(()));
    assert!(program.metric(LAST_RELOAD).unwrap() > at_start);
}
