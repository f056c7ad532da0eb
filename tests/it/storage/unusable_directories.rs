//! Paths that cannot be a data directory, and directories in use.

use std::fs;
use std::process::Command;

use xxhash_rust::xxh3::xxh3_64;

use crate::support::blocking::post;
use crate::support::fixtures::{Files, OPS, PROJECT, code, record, report_path};
use crate::support::program::{Program, event, fatal_error_text, run, serve, subjobs, text};
use crate::support::small_disk::SmallDisk;

/// Runs a start that fails. Returns the exit code and the reason. Asserts that standard error has events of the log only.
fn refused(command: &mut Command) -> (i32, String) {
    let output = run(command, "");
    let (code, said) = (output.status.code(), text(&output.stderr));
    said.lines().for_each(|line| drop(event(line)));
    (code.unwrap(), format!("subjobs: {}", fatal_error_text(&said)))
}

fn on(files: &Files, data_dir: &str) -> Command {
    serve(&["--access", &files.access(), "--data-dir", data_dir])
}

#[test]
fn a_directory_in_use_is_refused() {
    let files = Files::new();
    let data = files.arg("data");
    let first = Program::start(&["--access", &files.access(), "--data-dir", &data]);
    let report = |id| post(first.internal, &report_path(PROJECT), OPS, &record(id, "j", "CREATE_SERVER", "RUNNING"));
    assert_eq!(report("1").status, 200);
    for _ in 0..3 {
        let (code, line) = refused(&mut on(&files, &data));
        assert_eq!((code, line), (1, format!("subjobs: {data}: another process is using it")));
    }
    assert_eq!(report("2").status, 200);
    assert_eq!(first.count(""), 2);
    drop(first);
    assert_eq!(Program::start(&["--access", &files.access(), "--data-dir", &data]).count(""), 2);
}

#[test]
fn a_directory_stays_locked_when_its_lock_file_is_removed_or_it_is_renamed() {
    let files = Files::new();
    let data = files.arg("data");
    let first = Program::start(&["--access", &files.access(), "--data-dir", &data]);
    let report = |id| post(first.internal, &report_path(PROJECT), OPS, &record(id, "j", "CREATE_SERVER", "RUNNING"));
    let assert_in_use = |data: &str, what: &str| {
        let mut export = subjobs(&["export", "--data-dir", data]);
        for command in [&mut on(&files, data), &mut export] {
            let (code, line) = refused(command);
            assert_eq!((code, line), (1, format!("subjobs: {data}: another process is using it")), "{what}");
        }
    };
    assert_eq!(report("1").status, 200);
    let lock = files.path("data/lock");
    fs::remove_file(&lock).unwrap();
    assert_in_use(&data, "no lock file");
    fs::write(&lock, "").unwrap();
    assert_in_use(&data, "another lock file");
    assert_eq!(report("2").status, 200);
    let moved = files.arg("moved");
    fs::rename(&data, &moved).unwrap();
    assert_in_use(&moved, "another name");
    // Another program could now own the files at these paths.
    report("3").assert_error(503, code::UNAVAILABLE);
    let second = Program::start(&["--access", &files.access(), "--data-dir", &data]);
    report("4").assert_error(503, code::UNAVAILABLE);
    assert_eq!((first.count(""), second.count("")), (2, 0));
    drop((first, second));
    assert_eq!(Program::start(&["--access", &files.access(), "--data-dir", &moved]).count(""), 2);
    assert_eq!(Program::start(&["--access", &files.access(), "--data-dir", &data]).count(""), 0);
}

#[test]
fn a_path_that_is_no_data_directory_is_refused() {
    let files = Files::new();
    let file = files.put("file", "");
    let other = files.path("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "").unwrap();
    let other = other.to_str().unwrap();
    for (path, why) in [
        (file.as_str(), "is not a directory"),
        (&format!("{file}/below"), "Not a directory (os error 20)"),
        (other, "holds other files and no data of subjobs"),
    ] {
        let (code, line) = refused(&mut on(&files, path));
        assert_eq!((code, line), (2, format!("subjobs: {path}: {why}")));
    }
    assert_eq!(fs::read_dir(other).unwrap().count(), 1);
    let missing = files.arg("not/yet/there");
    assert_eq!(Program::start(&["--access", &files.access(), "--data-dir", &missing]).count(""), 0);
}

#[test]
fn another_format_is_refused_with_an_explanation() {
    let files = Files::new();
    let data = files.arg("data");
    drop(Program::start(&["--access", &files.access(), "--data-dir", &data]));
    let file = files.path("data/format");
    let good = fs::read(&file).unwrap();
    let line = |format: u32| {
        let text = format!("subjobs data format {format} ");
        format!("{text}{:016x}\n", xxh3_64(text.as_bytes()))
    };
    assert_eq!(line(2).as_bytes(), good);
    for (format, why) in [
        (3, "is in format 3 of a newer subjobs; this one knows formats up to 2"),
        (
            1,
            "is in format 1 of an earlier subjobs: `subjobs export` of that version writes it to a file, which --load of this \
             one takes into another directory",
        ),
        (0, "is in format 0, which no released subjobs has written"),
    ] {
        fs::write(&file, line(format)).unwrap();
        let (code, said) = refused(&mut on(&files, &data));
        assert_eq!((code, said), (2, format!("subjobs: {data}: {why}")));
    }
    fs::write(&file, line(3).replace("format 3", "format 2")).unwrap();
    let (code, said) = refused(&mut on(&files, &data));
    assert_eq!((code, said), (3, format!("subjobs: {}: damaged: it is not as it was written", file.display())));
    fs::write(&file, good).unwrap();
    drop(Program::start(&["--access", &files.access(), "--data-dir", &data]));
}

#[test]
fn a_read_only_directory_is_refused() {
    let files = Files::new();
    let Some(disk) = SmallDisk::new(&files, 8) else { return };
    let mut with_data = disk.start(&files);
    with_data.kill();
    disk.protect();
    let (code, line) = refused(&mut disk.serve(&files));
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("/disk/data: Read-only file system"), "{line}");

    let files = Files::new();
    let Some(disk) = SmallDisk::new(&files, 8) else { return };
    disk.protect();
    let (code, line) = refused(&mut disk.serve(&files));
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("/disk/data: Read-only file system"), "{line}");
}
