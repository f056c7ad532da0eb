//! Bodies with a content coding. What zstd allocates is not Rust's to count: the decoder says it, and a unit test holds that.

use std::io::Write as _;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use subjobs::web::budget::{ByteBudget, HeldBytes, Limits};
use subjobs::web::coding::ContentCoding;

use crate::Bound;

const MIB: usize = 1024 * 1024;

/// The memory of a gzip decoder: the fields of a header have at most three times 64 KiB, and it decodes one slice.
const DECODER: usize = 384 * 1024;

fn gzip(mut encoder: GzEncoder<Vec<u8>>, data: &[u8]) -> Vec<u8> {
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The length is that of what is decoded.
pub(crate) fn gzip_bodies() {
    let mut bound = Bound::new("body in gzip", 3);
    bound.base = DECODER;
    let budget = ByteBudget::new(Limits {
        total: MIB * 64,
        principal: MIB * 64,
        unverified: MIB * 64,
        all_unverified: MIB * 64,
    });
    let mut check = |name: &str, body: &[u8], length: usize| {
        bound.hold(name, length, || {
            let decoded = ContentCoding::Gzip.decode(body, 16 * MIB, &mut HeldBytes::new(&budget), || {});
            assert!(decoded.is_err() || decoded.is_ok_and(|decoded| decoded.len() == length), "{name}");
        });
    };
    let plain = || GzEncoder::new(Vec::new(), Compression::fast());
    check("nothing", b"", 0);
    check("an empty member", &gzip(plain(), b""), 0);
    check("empty members", &gzip(plain(), b"").repeat(10_000), 0);
    for length in [1, 64 * 1024, MIB + 1, 16 * MIB] {
        check("zeros", &gzip(plain(), &vec![0; length]), length);
    }
    check("a bomb", &gzip(plain(), &vec![0; 16 * MIB]).repeat(100), 16 * MIB);
    let fields = || {
        let header =
            GzBuilder::new().filename(vec![b'x'; 65_000]).comment(vec![b'x'; 65_000]).extra(vec![b'x'; 65_000]);
        header.write(Vec::new(), Compression::fast())
    };
    check("long fields", &gzip(fields(), b""), 0);
    check("members with long fields", &gzip(fields(), b"").repeat(100), 0);
}
