//! Bodies in gzip and zstd: none makes a decoder panic or give more than is allowed, and a good one is decoded the same again.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use subjobs::web::budget::{ByteBudget, HeldBytes, Limits};
use subjobs::web::coding::ContentCoding;

const MAX: usize = 1024 * 1024;
const LIMITS: Limits = Limits { total: 16 * MAX, principal: 16 * MAX, unverified: 16 * MAX, all_unverified: 16 * MAX };

static BUDGET: LazyLock<Arc<ByteBudget>> = LazyLock::new(|| ByteBudget::new(LIMITS));

fuzz_target!(|data: &[u8]| {
    for coding in [ContentCoding::Gzip, ContentCoding::Zstd] {
        let decode = |body: &[u8]| coding.decode(body, MAX, &mut HeldBytes::new(&BUDGET), || {});
        if let Ok(decoded) = decode(data) {
            assert!(decoded.len() <= MAX);
            // Two of them, one after the other, are both, unless that is too much.
            match decode(&[data, data].concat()) {
                Ok(twice) => assert_eq!(twice, decoded.repeat(2)),
                Err(_) => assert!(2 * decoded.len() > MAX),
            }
        }
        // Whatever became of it, nothing is held any more.
        assert!(HeldBytes::new(&BUDGET).add(LIMITS.total).is_ok());
    }
});
