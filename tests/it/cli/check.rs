//! `subjobs check`: its output about access files and load files.

use std::fmt::Write as _;

use crate::support::fixtures::{Files, PROJECT, access_with_keys, load_line};
use crate::support::program::{run, subjobs, text};
use crate::support::snapshot::assert_snapshot;

#[test]
fn check_prints_the_content_or_the_error_of_each_file() {
    let files = Files::new();
    let records = [("1", PROJECT), ("2", PROJECT), ("1", "p2"), ("1", PROJECT)];
    let records = records.map(|(id, project)| load_line(project, id, "CREATE_SERVER", "RUNNING"));
    let identity = "[identity]\nurl = \"http://127.0.0.1:1\"\n[identity.roles]\nadmin = \"account\"\n";
    files.put("keys.toml", &(access_with_keys() + identity));
    files.put("bad.toml", "x");
    files.put("unknown_field.toml", "projects = []\nprojets = []\n");
    files.put("four.ndjson", &records.join("\n"));
    files.put("new_type.ndjson", &load_line(PROJECT, "1", "NEW", "RUNNING"));
    files.put("bad.ndjson", &format!("{}\n\nx", records[0]));
    let mut said = String::new();
    for (args, code) in [
        ("--access access.toml", 0),
        ("--access keys.toml", 0),
        ("--load four.ndjson", 0),
        ("--access access.toml --load new_type.ndjson --job-type NEW", 0),
        ("--access bad.toml --load new_type.ndjson --load bad.ndjson", 2),
        ("--access unknown_field.toml", 2),
        ("--load nowhere.ndjson", 2),
        ("", 2),
    ] {
        let output = run(subjobs(&["check"]).args(args.split_whitespace()).current_dir(files.path("")), "");
        assert_eq!(output.status.code(), Some(code), "{args}");
        writeln!(said, "# check {args}\n{}{}", text(&output.stdout), text(&output.stderr)).unwrap();
    }
    assert_snapshot("check", &said);
}

#[test]
fn check_reads_environment_variables() {
    let files = Files::new();
    let bad = files.put("bad.toml", "x");
    let by_environment = run(subjobs(&["check"]).env("SUBJOBS_ACCESS", &bad), "");
    assert_eq!(by_environment.status.code(), Some(2));
}
