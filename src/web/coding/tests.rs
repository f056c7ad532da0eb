use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use zstd_safe::{CCtx, CParameter};

use super::*;
use crate::web::budget::{ByteBudget, Limits};
use crate::web::error::Unavailable;

const MIB: usize = 1024 * 1024;
const MAX: usize = 16 * MIB;
const ALL: [ContentCoding; 2] = [ContentCoding::Gzip, ContentCoding::Zstd];

fn budget(total: usize) -> Arc<ByteBudget> {
    ByteBudget::new(Limits { total, principal: total, unverified: total, all_unverified: total })
}

fn decode(coding: ContentCoding, body: &[u8]) -> Result<Vec<u8>, Error> {
    coding.decode(body, MAX, &mut HeldBytes::new(&budget(64 * MIB)), || {})
}

fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Encodes without a content size, so that the window has the configured size.
fn zstd(data: &[u8], set: &[CParameter]) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in set {
        context.set_parameter(*parameter).unwrap();
    }
    let mut encoded = Vec::with_capacity(zstd_safe::compress_bound(data.len()) + 64);
    let (mut input, mut output) = (InBuffer::around(data), OutBuffer::around(&mut encoded));
    context.compress_stream(&mut output, &mut input).unwrap();
    assert_eq!(input.pos(), data.len());
    assert_eq!(context.end_stream(&mut output).unwrap(), 0);
    encoded
}

fn encode(coding: ContentCoding, data: &[u8]) -> Vec<u8> {
    match coding {
        ContentCoding::Gzip => gzip(data, 6),
        ContentCoding::Zstd => zstd(data, &[]),
    }
}

/// Random bytes, which cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn content_codings_are_parsed_by_name() {
    let of = |lists: &[&str]| {
        ContentCoding::of(&lists.iter().map(|list| (CONTENT_ENCODING, list.parse().unwrap())).collect())
    };
    for lists in [&[][..], &[""], &["identity"], &["Identity, ,identity"], &["identity", " , "]] {
        assert!(matches!(of(lists), Ok(None)), "{lists:?}");
    }
    for lists in [&["gzip"][..], &["GZIP"], &["x-gzip"], &["X-GZip"], &["identity, gzip"], &["", "gzip ,"]] {
        assert!(matches!(of(lists), Ok(Some(ContentCoding::Gzip))), "{lists:?}");
    }
    assert!(matches!(of(&["ZSTD"]), Ok(Some(ContentCoding::Zstd))));
    for lists in [
        &["gzip, gzip"][..],
        &["gzip", "zstd"],
        &["br"],
        &["deflate"],
        &["gzip;q=1"],
        &["x-zstd"],
        &["*"],
        &["\"gzip\""],
    ] {
        assert!(matches!(of(lists), Err(Error::ContentCoding)), "{lists:?}");
    }
}

#[test]
fn a_decoded_body_has_at_most_its_limit() {
    for coding in ALL {
        for data in [vec![b'x'; MAX], noise(MAX)] {
            let encoded = encode(coding, &data);
            assert_eq!(decode(coding, &encoded).unwrap().len(), MAX);
            let more = [encoded, encode(coding, b"x")].concat();
            assert!(matches!(decode(coding, &more), Err(Error::DecodedTooLarge(MAX))), "{coding:?}");
        }
    }
    // Stored as it is, in 16 MiB and some bytes.
    assert_eq!(decode(ContentCoding::Gzip, &gzip(&noise(MAX), 0)).unwrap().len(), MAX);
}

#[test]
fn a_bomb_is_refused_without_decoding_all_of_it() {
    for coding in ALL {
        // A thousand members or frames of 16 MiB.
        let bomb = encode(coding, &vec![0; MAX]).repeat(1000);
        let (mut held, mut slices) = (HeldBytes::new(&budget(64 * MIB)), 0);
        let refused = coding.decode(&bomb, MAX, &mut held, || slices += 1);
        assert!(matches!(refused, Err(Error::DecodedTooLarge(MAX))), "{coding:?}");
        assert!(slices <= MAX / SLICE * 2, "{coding:?}: {slices} slices");
    }
}

#[test]
fn decoded_bytes_and_the_decoder_count_against_the_budget() {
    let data = noise(4 * MIB);
    for (coding, encoded, decoder) in [
        (ContentCoding::Gzip, gzip(&data, 6), MIB),
        (ContentCoding::Zstd, zstd(&data, &[CParameter::WindowLog(20)]), 2 * MIB),
        (ContentCoding::Zstd, zstd(&data, &[CParameter::WindowLog(23)]), 9 * MIB),
    ] {
        let enough = budget(4 * MIB + decoder);
        let mut held = HeldBytes::new(&enough);
        assert_eq!(coding.decode(&encoded, MAX, &mut held, || {}).unwrap(), data);
        // The decoded bytes are still counted.
        let mut rest = HeldBytes::new(&enough);
        assert_eq!(rest.add(decoder + 1), Err(Unavailable::ReportsHeld));
        assert_eq!(rest.add(decoder), Ok(()));
        drop((held, rest));

        let too_little = budget(4 * MIB);
        let refused = coding.decode(&encoded, MAX, &mut HeldBytes::new(&too_little), || {});
        assert!(matches!(refused, Err(Error::Unavailable(Unavailable::ReportsHeld))), "{coding:?}");
        assert_eq!(HeldBytes::new(&too_little).add(4 * MIB), Ok(()), "something is still held");
    }
    // The window is counted also for a short frame.
    let window = zstd(&noise(MIB), &[CParameter::WindowLog(23)]);
    let refused = ContentCoding::Zstd.decode(&window, MAX, &mut HeldBytes::new(&budget(8 * MIB)), || {});
    assert!(matches!(refused, Err(Error::Unavailable(Unavailable::ReportsHeld))));
}

/// docs/security.md and docs/contract.md state this limit.
#[test]
fn a_zstd_decoder_allocates_at_most_8_and_a_half_mib() {
    for (log, most) in [(10, 256 * 1024), (23, 8 * MIB + MIB / 2)] {
        let encoded = zstd(&noise(MIB), &[CParameter::WindowLog(log)]);
        let (mut decoder, mut slice) = (Zstd::new(&encoded).unwrap(), vec![0; SLICE]);
        while decoder.decode(&mut slice).unwrap().is_some() {}
        let memory = decoder.memory();
        assert!(memory > 1 << log && memory <= most, "{log}: {memory}");
    }
}

#[test]
fn a_window_has_at_most_8_mib() {
    let data = noise(MIB);
    for (log, is_taken) in [(10, true), (23, true), (24, false), (27, false)] {
        let decoded = decode(ContentCoding::Zstd, &zstd(&data, &[CParameter::WindowLog(log)]));
        match decoded {
            Ok(decoded) => assert!(is_taken && decoded == data, "{log}"),
            Err(error) => {
                assert_eq!(error.status(), 400);
                let reason = "body is not valid zstd: Frame requires too much memory for decoding";
                assert!(!is_taken && error.to_string() == reason, "{log}: {error}");
            }
        }
    }
}

#[test]
fn a_body_has_its_coding_from_the_first_byte_to_the_last() {
    for coding in ALL {
        let data = noise(1000);
        let (good, name) = (encode(coding, &data), coding.name());
        let refused = |body: &[u8]| {
            let error = decode(coding, body).unwrap_err();
            assert_eq!(error.status(), 400);
            let text = error.to_string();
            assert!(text.starts_with(&format!("body is not valid {name}: ")), "{text}");
            text
        };
        for end in 0..good.len() {
            let text = refused(&good[..end]);
            assert_eq!(text, format!("body is not valid {name}: it ends too early"), "{end}");
        }
        for trailing in [&b"\0"[..], b"\n", b"x", b"\x1f", b"\x1f\x8b", b"(\xb5", &[0; 100], b"plain text at the end"] {
            refused(&[&good, trailing].concat());
        }
        for other in ALL.into_iter().filter(|other| *other != coding) {
            refused(&encode(other, &data));
        }
        refused(b"[]");
        // Several members or frames, some of them empty.
        let many = [&good[..], &encode(coding, b""), &good, &encode(coding, b"")].concat();
        assert_eq!(decode(coding, &many).unwrap(), data.repeat(2));
        assert_eq!(decode(coding, &encode(coding, b"")).unwrap(), b"");
    }
    // A skippable frame has no data.
    let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(b"x", &[])].concat();
    assert_eq!(decode(ContentCoding::Zstd, &skipped).unwrap(), b"x");
}

#[test]
fn a_checksum_is_verified() {
    for (coding, mut encoded) in [
        (ContentCoding::Gzip, gzip(&noise(1000), 0)),
        (ContentCoding::Zstd, zstd(&noise(1000), &[CParameter::ChecksumFlag(true)])),
    ] {
        encoded[500] ^= 1;
        let text = decode(coding, &encoded).unwrap_err().to_string();
        assert!(text.contains("checksum"), "{text}");
    }
}

/// A large number of empty members or frames is also decoded in slices.
#[test]
fn empty_members_are_decoded_in_slices() {
    for (coding, least) in [(ContentCoding::Gzip, 5_000), (ContentCoding::Zstd, 1_000)] {
        let body = encode(coding, b"").repeat(10_000);
        let mut slices = 0;
        let decoded = coding.decode(&body, MAX, &mut HeldBytes::new(&budget(4 * MIB)), || slices += 1);
        assert_eq!(decoded.unwrap(), b"");
        assert!(slices >= least, "{coding:?}: {slices} slices");
    }
}

proptest! {
    #[test]
    fn an_encoded_body_is_decoded_to_the_same_body(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
        for coding in ALL {
            let encoded: Vec<u8> = pieces.iter().flat_map(|piece| encode(coding, piece)).collect();
            prop_assert_eq!(decode(coding, &encoded).unwrap(), pieces.concat());
        }
    }

    /// A decoder returns an error or at most the limit for any body.
    #[test]
    fn no_body_makes_a_decoder_panic(data in prop::collection::vec(any::<u8>(), 0..300), at in 0..300usize, with: u8) {
        for coding in ALL {
            let mut encoded = encode(coding, &data);
            let at = at % encoded.len();
            encoded[at] = with;
            for body in [&encoded[..], &data, &[b"\x28\xb5\x2f\xfd", &data[..]].concat()] {
                if let Ok(decoded) = coding.decode(body, 1000, &mut HeldBytes::new(&budget(64 * MIB)), || {}) {
                    prop_assert!(decoded.len() <= 1000);
                }
            }
        }
    }
}
