//! The filter of a count: no query makes the parser panic, and how a query is encoded makes no difference.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use subjobs::api::query;
use subjobs::domain::{CountFilter, Family, JobTypeSet, JobTypes, Status};

static TYPES: LazyLock<JobTypes> = LazyLock::new(JobTypes::default);

fn parse(query: &str) -> Result<CountFilter, String> {
    query::count(query, Family::App, &TYPES).map_err(|error| error.to_string())
}

fn digit(byte: Option<&u8>) -> Option<u8> {
    char::from(*byte?).to_digit(16).map(|digit| digit as u8)
}

/// The same text with every byte percent-encoded; a `%` that begins no digits stays what it is, wrong.
fn encode(text: &str) -> String {
    let (bytes, mut at, mut encoded) = (text.as_bytes(), 0, String::new());
    while let Some(&byte) = bytes.get(at) {
        let (length, meant) = match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => (3, Some(high << 4 | low)),
            (b'%', ..) => (1, None),
            (b'+', ..) => (1, Some(b' ')),
            (byte, ..) => (1, Some(byte)),
        };
        at += length;
        match meant {
            Some(meant) => encoded.push_str(&format!("%{meant:02x}")),
            // Not followed by two digits before, nor must it be now.
            None => encoded.push_str("%%"),
        }
    }
    encoded
}

/// The query that asks for what a filter says.
fn written(filter: &CountFilter) -> String {
    let mut pairs = Vec::new();
    pairs.extend(filter.status.map(|status| format!("status={status}")));
    if filter.job_types != JobTypeSet::APP {
        let names = TYPES.iter().filter(|it| filter.job_types.contains(it.index())).map(|it| TYPES.name(it));
        pairs.push(format!("job_type={}", names.collect::<Vec<_>>().join(",")));
    }
    pairs.extend(filter.job_id.as_ref().map(|id| format!("job_id={}", encode_plain(&id.to_string()))));
    pairs.join("&")
}

fn encode_plain(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(query) = std::str::from_utf8(data) else { return Corpus::Reject };
    if let Ok(list) = query::list(query, Family::Image, &TYPES) {
        assert!(list.offset <= i32::MAX as u32 && (1..=100).contains(&list.limit));
    }
    let parsed = parse(query);
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) => format!("{}={}", encode(name), encode(value)),
        None => encode(pair),
    });
    assert_eq!(parse(&pairs.collect::<Vec<_>>().join("&")), parsed);
    if let Ok(filter) = parsed {
        assert!(filter.status.is_none_or(|status| Status::ALL.contains(&status)));
        let written = written(&filter);
        // All types together are longer than the parameter may be.
        if written.len() < 256 {
            assert_eq!(parse(&written), Ok(filter), "{written}");
        }
    }
    Corpus::Keep
});
