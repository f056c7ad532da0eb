//! A data directory of the program: restarts, load files, retention, verification of counters, export.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use subjobs::domain::Timestamp;

use crate::ingest::load_files::GENERATED;
use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, load_line, record, report_path};
use crate::support::program::{Program, Signal, event, fatal_error_text, run, serve, subjobs, text, writer};
use crate::support::wait::until;

fn report(program: &Program, lines: &[String]) -> String {
    let answer = post(program.internal, &report_path(PROJECT), OPS, &lines.join("\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().to_owned()
}

fn stop(program: Program) -> Vec<String> {
    program.signal(Signal::Term);
    let (code, log) = program.ended();
    assert_eq!(code, 0, "{log:?}");
    log
}

/// The output of `export` for a directory.
fn export(data: &str) -> String {
    let output = run(&mut subjobs(&["export", "--data-dir", data]), "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn reported_subtasks_survive_a_restart() {
    let files = Files::new();
    let (access, data) = (files.access(), files.arg("deep/data"));
    let args = ["--access", &access, "--data-dir", &data];
    let program = Program::start(&args);
    report(&program, &[record("1", "j", "CREATE_SERVER", "RUNNING"), record("2", "k", "CREATE_SERVER", "FAILED")]);
    let log = stop(program);
    assert!(!log.iter().any(|line| line.contains("a restart loses all subtasks")), "{log:?}");

    let program = Program::start(&args);
    assert_eq!((program.count(""), program.count("?job_id=k"), program.count("?status=FAILED")), (2, 1, 1));
    let unchanged = report(&program, &[record("2", "k", "CREATE_SERVER", "FAILED")]);
    assert_eq!(unchanged, r#"{"created":0,"updated":0,"unchanged":1,"stale":0}"#);
    assert_eq!(program.metric(r#"subjobs_subtasks{job_type="CREATE_SERVER",status="FAILED"}"#), Some(1));
    stop(program);
}

#[test]
fn a_load_file_does_not_overwrite_reported_subtasks() {
    let files = Files::new();
    let (access, data) = (files.access(), files.arg("data"));
    let load = files.put(
        "load.ndjson",
        &[load_line(PROJECT, "1", "CREATE_SERVER", "WAITING"), load_line(PROJECT, "2", "CREATE_SERVER", "WAITING")]
            .join("\n"),
    );
    let args = ["--access", &access, "--data-dir", &data, "--load", &load];
    let program = Program::start(&args);
    assert_eq!(program.count("?status=WAITING"), 2);
    report(&program, &[record("1", "j", "CREATE_SERVER", "SUCCESS")]);
    stop(program);

    fs::write(&load, fs::read_to_string(&load).unwrap() + "\n" + &load_line(PROJECT, "3", "CREATE_SERVER", "WAITING"))
        .unwrap();
    let program = Program::start(&args);
    assert_eq!((program.count(""), program.count("?status=WAITING"), program.count("?status=SUCCESS")), (3, 2, 1));
    stop(program);
}

#[test]
fn an_interrupted_load_is_discarded() {
    let files = Files::new();
    let (access, data, load) = (files.access(), files.arg("data"), files.arg("load"));
    // Each subtask twice, in different batches.
    let of = |range: std::ops::Range<u32>, status| -> String {
        range.map(|id| load_line(PROJECT, &id.to_string(), "CREATE_SERVER", status) + "\n").collect()
    };
    let (waiting, running) = (of(0..20_000, "WAITING"), of(0..20_000, "RUNNING"));
    let args = ["--access", &access, "--data-dir", &data, "--load", &load];
    let is_refused = || {
        let output = run(&mut serve(&args), "");
        assert!(text(&output.stderr).contains("status must be one of"), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(2));
    };
    // First an invalid line, then a kill.
    fs::write(&load, format!("{waiting}{}", load_line(PROJECT, "1", "CREATE_SERVER", "DONE"))).unwrap();
    is_refused();
    assert!(fs::exists(files.path("data/loading")).unwrap());
    fs::remove_file(&load).unwrap();
    files.fifo("load");
    let mut program = Program::begin(&args);
    let mut pipe = writer(&load);
    pipe.write_all(waiting.as_bytes()).unwrap();
    until("some are stored", || (*fs::read(files.path("data/acknowledged")).ok()?.get(4096)? > 0).then_some(()));
    program.kill();
    drop(pipe);
    fs::remove_file(&load).unwrap();
    fs::write(&load, format!("{waiting}{running}")).unwrap();
    program = Program::start(&args);
    assert_eq!((program.count(""), program.count("?status=RUNNING")), (20_000, 20_000));
    assert!(!fs::exists(files.path("data/loading")).unwrap());
    report(&program, &[record("1", "j", "CREATE_SERVER", "SUCCESS")]);
    stop(program);

    // Reported subtasks stay. A file with an invalid line adds none.
    fs::write(&load, format!("{}{}", of(30_000..50_000, "RUNNING"), load_line(PROJECT, "1", "CREATE_SERVER", "DONE")))
        .unwrap();
    is_refused();
    let program = Program::start(&args[..4]);
    assert_eq!((program.count(""), program.count("?status=RUNNING")), (20_000, 19_999));
    stop(program);
}

#[test]
fn expired_subtasks_are_deleted() {
    let files = Files::new();
    let (access, data) = (files.access(), files.arg("data"));
    let with_end = |id: &str, status: &str, end: &str| {
        record(id, "j", "CREATE_SERVER", status).replace('}', &format!(r#","end_time":"{end}"}}"#))
    };
    let old = with_end("old", "SUCCESS", "2022-03-07T10:40:43Z");
    let reported = [
        old.clone(),
        with_end("new", "FAILED", "2999-01-01T00:00:00Z"),
        with_end("running", "RUNNING", "2022-03-07T10:40:43Z"),
        record("just now", "j", "CREATE_SERVER", "ABNORMAL"),
    ];
    let (in_memory, on_disk) = (["--access", &*access], ["--access", &*access, "--data-dir", &*data]);
    let retaining = |args: &[&str], time| Program::start(&[args, &["--retain-finished", time]].concat());
    for args in [&in_memory[..], &on_disk[..]] {
        let program = retaining(args, "30d");
        report(&program, &reported);
        until("one is dropped", || (program.metric("subjobs_expired_total")? == 1).then_some(()));
        assert_eq!((program.count(""), program.count("?status=SUCCESS"), program.count("?job_id=j")), (3, 0, 3));
        // The expired subtask can be created again.
        assert_eq!(
            report(&program, std::slice::from_ref(&old)),
            r#"{"created":1,"updated":0,"unchanged":0,"stale":0}"#
        );
        until("it is dropped again", || (program.metric("subjobs_expired_total")? == 2).then_some(()));
        stop(program);
    }
    let program = Program::start(&on_disk);
    assert_eq!(program.count(""), 3);
    stop(program);

    // Without an end time, the first report of the final status is the end.
    let program = retaining(&on_disk, "1s");
    until("another is dropped", || (program.count("?status=ABNORMAL") == 0).then_some(()));
    assert_eq!(program.count(""), 2);
    stop(program);
}

#[test]
fn the_counters_are_verified_without_a_mismatch() {
    let files = Files::new();
    let args = ["--access", &files.access(), "--data-dir", &files.arg("data")];
    for counted in [0, 300] {
        let program = Program::start(&args);
        until("a recount", || (program.metric("subjobs_recounts_total")? > 0).then_some(()));
        assert_eq!(program.metric("subjobs_recount_drift"), Some(0));
        assert_eq!((program.internal_status("/readyz"), program.count("")), (200, counted));
        let id = |number: u32| number.to_string();
        let records: Vec<_> =
            (0..300).map(|number| record(&id(number), &id(number % 7), "CREATE_SERVER", "RUNNING")).collect();
        report(&program, &records);
        stop(program);
    }
}

/// A record in canonical form.
fn canonical(mut record: Value) -> Value {
    for time in ["begin_time", "end_time"] {
        record[time] = record[time].as_str().map(|text| text.parse::<Timestamp>().unwrap().to_string()).into();
    }
    let version = record["version"].as_u64().unwrap_or(0);
    record["version"] = version.into();
    record
}

#[test]
fn an_export_can_be_loaded_again() {
    let files = Files::new();
    let hash = subjobs::access::Token::new(OPS.as_bytes()).unwrap().digest();
    let principal = "[[principal]]\nname = \"ops\"\nkind = \"account\"\nprojects = [\"*\"]\n";
    let access = files.put("any.toml", &format!("{principal}tokens = [{{ sha256 = \"{hash}\" }}]"));
    let made = &*GENERATED;
    let load = |data: &str, file: &Path| {
        let file = file.to_str().unwrap();
        let program = Program::start(&["--access", &access, "--data-dir", data, "--load", file]);
        made.assert_metrics(&program.metrics());
        stop(program);
    };
    let [first, second] = ["first", "second"].map(|name| files.arg(name));
    load(&first, &made.path);
    let exported = export(&first);
    let records = |text: &str| -> BTreeMap<(String, String), Value> {
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.map(|all| ((all["project_id"].to_string(), all["id"].to_string()), canonical(all))).collect()
    };
    assert!(records(&exported) == records(&fs::read_to_string(&made.path).unwrap()), "the export is not the file");

    let file = files.put("exported.ndjson", &exported);
    load(&second, file.as_ref());
    assert_eq!(export(&second), exported, "the second export is not the first");
}

#[test]
fn an_export_of_a_directory_in_use_is_refused() {
    let files = Files::new();
    let (access, data) = (files.access(), files.arg("data"));
    let program = Program::start(&["--access", &access, "--data-dir", &data]);
    let export = |data: &str| {
        let output = run(&mut subjobs(&["export", "--data-dir", data]), "");
        (output.status.code().unwrap(), text(&output.stderr), text(&output.stdout))
    };
    let refused = |data: &str| {
        let (code, said, out) = export(data);
        assert_eq!(out, "");
        (code, fatal_error_text(&said))
    };
    assert_eq!(refused(&data), (1, format!("{data}: another process is using it")));
    stop(program);
    let (code, said, out) = export(&data);
    assert_eq!((code, out.as_str()), (0, ""));
    // The lines before it report progress each second.
    let event = event(said.lines().last().unwrap());
    assert_eq!((&event["message"], &event["from"], &event["sub_jobs"]), (&"exported".into(), &data.into(), &0.into()));
    let missing = files.arg("missing");
    assert_eq!(refused(&missing), (2, format!("{missing}: is not a directory")));
    assert!(!files.path("missing").exists());
}
