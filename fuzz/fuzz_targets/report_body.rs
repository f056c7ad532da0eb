//! Reports in both forms: no body makes a reader panic, and what one form takes line by line, the other takes too.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use subjobs::domain::{JobTypes, ProjectId};
use subjobs::record::{RecordError, from_json, from_load_line, from_ndjson, is_blank};

static TYPES: LazyLock<JobTypes> = LazyLock::new(JobTypes::default);
static PROJECT: LazyLock<ProjectId> = LazyLock::new(|| ProjectId::parse("p").expect("a project"));

fuzz_target!(|data: &[u8]| {
    let as_json = from_json(data, &PROJECT, &TYPES);
    let as_ndjson = from_ndjson(data, &PROJECT, &TYPES);
    let lines: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let records: Vec<_> = lines.iter().copied().filter(|line| !is_blank(line)).collect();
    let array = [&b"["[..], &records.join(&b","[..]), b"]"].concat();
    match as_ndjson {
        Ok(batch) => {
            assert_eq!(batch.len(), records.len());
            assert_eq!(from_json(&array, &PROJECT, &TYPES).as_ref(), Ok(&batch));
            for (record, sub_job) in records.iter().zip(batch) {
                // A load line is a record that names its project.
                if let Ok((project, loaded)) = from_load_line(record, &TYPES) {
                    assert_eq!((project, loaded), (PROJECT.clone(), sub_job));
                }
            }
        }
        Err(RecordError::Line(at, reason)) => {
            // The line that is named is the first bad one.
            assert!(from_ndjson(lines[at - 1], &PROJECT, &TYPES).is_err(), "line {at}: {reason}");
            assert!(from_ndjson(&lines[..at - 1].join(&b'\n'), &PROJECT, &TYPES).is_ok(), "before line {at}");
        }
        Err(other) => panic!("{other:?}"),
    }
    match as_json {
        Ok(batch) => assert!(batch.len() <= data.len() / 2),
        Err(RecordError::Line(..)) => panic!("an array has no lines"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
