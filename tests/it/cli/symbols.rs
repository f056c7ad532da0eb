//! `deploy/split-symbols`, which moves the symbols of a program to a file of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::program::{run, text};

/// A program that panics. A test cannot make the server panic.
const SOURCE: &str = "#[inline(never)] fn the_fault() { panic!() }\nfn main() { the_fault() }\n";

/// Runs a program, and returns its standard error.
fn said(command: &mut Command, succeeds: bool) -> String {
    let output = run(command, "");
    assert_eq!(output.status.success(), succeeds, "{command:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn a_stripped_program_reads_its_symbol_file_when_it_panics() {
    let dir = tempfile::tempdir().unwrap();
    let (source, whole, dist) = (dir.path().join("faulty.rs"), dir.path().join("faulty"), dir.path().join("dist"));
    fs::write(&source, SOURCE).unwrap();
    fs::create_dir(&dist).unwrap();
    let rustc = option_env!("RUSTC").unwrap_or("rustc");
    said(Command::new(rustc).args(["-O", "-C", "debuginfo=line-tables-only", "-o"]).arg(&whole).arg(&source), true);
    let split = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/split-symbols");
    said(Command::new("sh").arg(split).arg(&whole).arg(&dist), true);
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&dist.join("faulty")) * 2 < size(&whole));
    let backtrace = || said(Command::new(dist.join("faulty")).env("RUST_BACKTRACE", "1"), false);
    assert!(backtrace().contains("faulty::the_fault") && backtrace().contains("faulty.rs:1"), "{}", backtrace());
    fs::remove_file(dist.join("faulty.debug")).unwrap();
    assert!(!backtrace().contains("the_fault"), "{}", backtrace());
}
