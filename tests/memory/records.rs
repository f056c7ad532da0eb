//! Subtasks as JSON, and as a data directory keeps them.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use subjobs::domain::{JobTypes, ProjectId};
use subjobs::record::{from_json, from_load_line, from_ndjson};
use subjobs::store::{DataDir, Store};

use crate::Bound;

/// About as many bytes of each.
const SIZE: usize = 256 * 1024;

/// The least that a record can be: a job type of one character, which an operator may add.
const LEAST: &str = r#"{"id":"1","job_id":"1","job_type":"A","status":"FAILED"}"#;

fn types() -> JobTypes {
    JobTypes::new(["A"]).unwrap()
}

fn least(more: &str) -> String {
    LEAST.replacen('}', &format!("{more}}}"), 1)
}

/// Records, each of them many times in a report.
fn repeated() -> Vec<(&'static str, String)> {
    let id = |text: &str| LEAST.replacen("\"1\"", &format!("\"{text}\""), 1);
    vec![
        ("the least records", LEAST.into()),
        ("records with the least detail", least(r#","error_code":"""#)),
        ("records with a time", least(r#","end_time":"2022-03-07T10:40:43Z""#)),
        ("records with empty objects", least(r#","job_execute_info":{},"job_resource_info":{}"#)),
        (
            "records with every detail",
            least(r#","error_code":"","error_message":"","job_execute_info":{},"job_resource_info":{}"#),
        ),
        ("ids of escapes", id(&"\\u0041".repeat(128))),
        ("ids of 25 characters", id(&"x".repeat(25))),
        ("deep objects", least(&format!(",\"job_execute_info\":{{\"a\":{}{}}}", "[".repeat(4_000), "]".repeat(4_000)))),
        ("nulls", least(r#","version":null,"project_id":null,"end_time":null"#)),
    ]
}

/// Bodies that are refused at their end, or at their beginning with much behind it.
fn refused() -> Vec<(&'static str, String)> {
    let long = |piece: &str| piece.repeat(SIZE / piece.len());
    let value = |field: &str, value: &str| format!("{{\"{field}\":{value}");
    vec![
        ("a long unknown field", value(&long("x"), "1}")),
        ("a long unknown field of escapes", value(&long("\\u00e9"), "1}")),
        ("a long id", value("id", &format!("\"{}\"}}", long("x")))),
        ("a long id of escapes", least("").replacen("\"1\"", &format!("\"{}\"", long("\\n")), 1)),
        ("a long job type", LEAST.replace("\"A\"", &format!("\"{}\"", long("\\n")))),
        ("a long status", LEAST.replace("FAILED", &long("\\n"))),
        ("a long text for a number", value("version", &format!("\"{}\"}}", long("\\n")))),
        ("a long number", value("version", &long("9"))),
        ("a long number of digits behind the point", value("version", &format!("0.{}", long("9")))),
        ("a long message", least(&format!(",\"error_message\":\"{}\"", long("\\u00e9")))),
        ("a large object", least(&format!(",\"job_execute_info\":{{\"a\":\"{}\"}}", long("x")))),
        ("a deep object", least(&format!(",\"job_execute_info\":{}", long("[")))),
        ("deep arrays", long("[")),
        ("deep objects", long("{\"a\":")),
        ("empty objects", long("{},")),
        ("one key many times", format!("{{{}", long("\"id\":\"1\","))),
        ("a long string", format!("\"{}\"", long("\\u00e9"))),
        ("white space", long(" \n")),
        ("no JSON", long("x")),
    ]
}

pub(crate) fn reports() {
    let (types, project) = (types(), ProjectId::parse("p").unwrap());
    let mut array = Bound::new("report as JSON", 6);
    let mut lines = Bound::new("report as NDJSON", 6);
    let mut check = |name: &str, body: &str, is_good: bool| {
        array.hold(name, body.len(), || {
            let batch = from_json(body.as_bytes(), &project, &types);
            assert!(batch.is_ok() || !is_good, "{name}");
            batch
        });
    };
    let mut check_lines = |name: &str, body: &str| {
        lines.hold(name, body.len(), || from_ndjson(body.as_bytes(), &project, &types));
    };
    for (name, record) in repeated() {
        // One more than a power of two is where a growing buffer is largest.
        for count in [SIZE / record.len(), (SIZE / record.len()).next_power_of_two() / 2 + 1] {
            check(name, &format!("[{}]", vec![&*record; count].join(",")), true);
            check_lines(name, &vec![&*record; count].join("\n"));
        }
    }
    for (name, body) in refused() {
        for body in [format!("[{body}"), format!("[{body}]"), format!("[{LEAST},{body}"), body.clone()] {
            check(name, &body, false);
            check_lines(name, &body);
        }
    }
    let inputs = std::cell::RefCell::new(Vec::new());
    let record = prop::sample::select(repeated().into_iter().map(|(_, record)| record).collect::<Vec<_>>());
    let junk = "[\\[\\]{}:,\"\\\\a0-9. \nu-]{0,200}";
    let piece = prop_oneof![4 => record, 1 => junk];
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..Default::default() });
    runner
        .run(&prop::collection::vec(piece, 0..30), |pieces| {
            inputs.borrow_mut().push(pieces);
            Ok(())
        })
        .unwrap();
    for pieces in inputs.take() {
        check("generated", &format!("[{}]", pieces.join(",")), false);
        check_lines("generated", &pieces.join("\n"));
    }
}

pub(crate) fn load_lines() {
    let types = types();
    let mut bound = Bound::new("load line", 6);
    for (name, line) in repeated().into_iter().chain(refused()) {
        let line = line.replacen('{', "{\"project_id\":\"p\",", 1);
        bound.hold(name, line.len(), || from_load_line(line.as_bytes(), &types));
    }
}

/// What is read of a data directory at the start: records stay in memory, the rest does not.
pub(crate) fn data_directories() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (dir, cancelled) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let open = || {
        let store = Store::on_disk(DataDir::claim(dir.path()).unwrap(), types());
        store.open(|_, _| {}, &cancelled).unwrap();
        store
    };
    let store = open();
    let message = "é".repeat(1024);
    let info = format!("{{\"a\":\"{}\"}}", "x".repeat(8000));
    for batch in 0..5 {
        let record = |n: usize| {
            let record = least(&format!(",\"error_message\":\"{message}\",\"job_execute_info\":{info}"));
            let record = if n.is_multiple_of(10) { record } else { LEAST.to_owned() };
            record.replacen("\"1\"", &format!("\"{batch}-{n}\""), 1)
        };
        let lines: Vec<_> = (0..1000).map(record).collect();
        let sub_jobs = from_ndjson(lines.join("\n").as_bytes(), &ProjectId::parse("p").unwrap(), &types()).unwrap();
        runtime.block_on(store.submit(ProjectId::parse("p").unwrap(), sub_jobs).outcome()).unwrap();
    }
    store.close();
    drop(store);
    let size = |path: &std::path::Path| std::fs::metadata(path).unwrap().len() as usize;
    let mut all = vec![dir.path().to_owned()];
    let mut length = 0;
    while let Some(path) = all.pop() {
        if path.is_dir() {
            all.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            length += size(&path);
        }
    }
    let mut bound = Bound::new("data directory", 1);
    bound.base = 32 * 1024 * 1024;
    bound.hold("5,000 subtasks", length, open);
}
