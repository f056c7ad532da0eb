//! Bodies of a batch delete: no body makes the reader panic, and what it takes is what any reader of JSON finds in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use subjobs::api::sub_job_ids::parse;

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let read: serde_json::Value = serde_json::from_slice(data).expect("JSON");
            assert_eq!(read, serde_json::json!({ "items": ids }));
            assert!((1..=20).contains(&ids.len()));
            assert!(ids.iter().all(|id| (1..=128).contains(&id.chars().count()) && !id.contains(char::is_control)));
            assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)));
        }
        Err(error) => {
            let message = error.to_string();
            assert!(["body ", "items ", "item "].iter().any(|input| message.starts_with(input)), "{message}");
        }
    }
});
