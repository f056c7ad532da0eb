//! `subjobs backup` while a server runs: each copy starts, and has what was acknowledged before.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, access_to_any_project, record, report_path};
use crate::support::program::{Program, run, subjobs, text};
use crate::support::wait::SetOnDrop;

/// How many backups are made under load.
const BACKUPS: usize = 5;

/// The number of subtasks of each report.
const REPORT: u64 = 50;

/// Runs `backup`. Returns its exit code and what it says.
fn backup(data: &str, to: &str) -> (i32, String) {
    let output = run(&mut subjobs(&["backup", "--data-dir", data, "--to", to]), "");
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

/// Reports to a project until it is over. Returns how many reports were acknowledged.
fn work(program: &Program, project: &str, is_over: &AtomicBool, acknowledged: impl Fn(u64)) {
    for number in 1.. {
        let records: String =
            (0..REPORT).map(|at| record(&format!("{number}-{at}"), "j", "CREATE_SERVER", "RUNNING") + "\n").collect();
        assert_eq!(post(program.internal, &report_path(project), OPS, &records).status, 200);
        acknowledged(number);
        if is_over.load(Ordering::SeqCst) {
            return;
        }
    }
}

fn count(program: &Program, project: &str) -> u64 {
    let path = crate::support::fixtures::count_path(project);
    crate::support::blocking::get(program.public, &path, OPS).json()["count"].as_u64().unwrap()
}

#[test]
fn a_backup_of_a_running_server_has_all_that_was_acknowledged_before() {
    let files = Files::new();
    let access = files.put("all.toml", &access_to_any_project());
    let data = files.arg("data");
    let program = Program::start(&["--access", &access, "--data-dir", &data]);
    let acknowledged = [const { std::sync::atomic::AtomicU64::new(0) }; 3];
    let is_over = AtomicBool::new(false);
    let before = || -> Vec<u64> { acknowledged.iter().map(|number| number.load(Ordering::SeqCst)).collect() };
    let backups: Vec<_> = std::thread::scope(|scope| {
        for (worker, acknowledged) in acknowledged.iter().enumerate() {
            let (program, is_over) = (&program, &is_over);
            let done = move |number| acknowledged.store(number, Ordering::SeqCst);
            scope.spawn(move || work(program, &format!("p{worker}"), is_over, done));
        }
        let _end = SetOnDrop(&is_over);
        let made = (0..BACKUPS).map(|number| {
            let (to, before) = (files.arg(&format!("backup-{number}")), before());
            (to.clone(), before, backup(&data, &to))
        });
        made.collect()
    });
    for (to, before, (code, said)) in backups {
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with(&format!("{to}: complete, ")), "{said}");
        // The original is in use, and the copy is not.
        let restored = Program::start(&["--access", &access, "--data-dir", &to]);
        for (worker, before) in before.into_iter().enumerate() {
            let found = count(&restored, &format!("p{worker}"));
            assert!(found >= before * REPORT, "{to}: {found} of {before} reports");
            assert_eq!(found % REPORT, 0, "{to}: a part of a report");
        }
    }
}

#[test]
fn a_backup_is_complete_or_absent() {
    let files = Files::new();
    let (data, to) = (files.arg("data"), files.arg("backup"));
    let exit = |expected: i32, reason: &str| {
        let (code, said) = backup(&data, &to);
        assert_eq!(code, expected, "{said}");
        assert!(said.contains(reason), "{said}");
    };
    exit(2, "data: is not a directory");
    drop(Program::start(&["--access", &files.access(), "--data-dir", &data]));
    fs::write(&to, "").unwrap();
    exit(2, "backup: exists already");
    fs::remove_file(&to).unwrap();
    let segment = files.path("data/log-00000000000000000001");
    let good = fs::read(&segment).unwrap();
    fs::write(&segment, "damaged").unwrap();
    exit(3, "log-00000000000000000001: damaged");
    assert!(!files.path("backup").exists() && !files.path("backup.partial").exists());
    fs::write(&segment, good).unwrap();
    exit(0, "backup: complete, 0 subtasks, 3 files");
    exit(2, "backup: exists already");
}

/// What was acknowledged is worth the same to both commands.
#[test]
fn backup_and_export_say_the_same_of_files_that_are_missing() {
    let files = Files::new();
    let (data, to) = (files.arg("data"), files.arg("backup"));
    let program = Program::start(&["--access", &files.access(), "--data-dir", &data]);
    let body = record("1", "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(post(program.internal, &report_path(PROJECT), OPS, &body).status, 200);
    drop(program);
    let names = ["acknowledged", "format", "log-00000000000000000001"];
    let good = names.map(|name| fs::read(files.path("data").join(name)).unwrap());
    for missing in 1..1 << names.len() {
        let gone: Vec<_> = names.iter().enumerate().filter(|(at, _)| missing >> at & 1 == 1).collect();
        gone.iter().for_each(|(_, name)| fs::remove_file(files.path("data").join(name)).unwrap());
        // Without any of its files it is no data directory.
        let expected = if gone.len() == names.len() { 2 } else { 3 };
        let exported = run(&mut subjobs(&["export", "--data-dir", &data]), "");
        assert_eq!(exported.status.code(), Some(expected), "{gone:?}: {}", text(&exported.stderr));
        let (code, said) = backup(&data, &to);
        assert_eq!(code, expected, "{gone:?}: {said}");
        assert!(!files.path("backup").exists() && !files.path("backup.partial").exists());
        for (name, good) in names.iter().zip(&good) {
            fs::write(files.path("data").join(name), good).unwrap();
        }
    }
    // A slash at the end does not change the name.
    let (code, said) = backup(&data, &(to.clone() + "/"));
    assert_eq!((code, said.starts_with(&format!("{to}: complete, 1 subtasks, 3 files"))), (0, true), "{said}");
    let (code, said) = backup(&data, &files.arg("absent/backup"));
    assert_eq!((code, said.contains("absent: is not a directory")), (2, true), "{said}");
}

#[test]
fn both_directories_are_required() {
    let output = run(&mut subjobs(&["backup"]), "");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("--data-dir <DIR>") && said.contains("--to <DIR>"), "{said}");
}
