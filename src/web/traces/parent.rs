//! The header `traceparent` of W3C Trace Context: which trace a request belongs to, and which span has caused it.

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::TraceFlags;
use opentelemetry::{SpanId, TraceId};

/// The header's name.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The bytes of a header of version 00. Higher versions begin with the same fields.
const LENGTH: usize = 55;

/// The version that is never valid.
const FORBIDDEN_VERSION: u8 = 0xff;

/// What a valid header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceParent {
    pub(super) trace_id: TraceId,
    /// The span of the caller.
    pub(super) span_id: SpanId,
    /// Whether the caller exports its span.
    pub(super) is_sampled: bool,
}

impl TraceParent {
    /// The parent in the headers of a request; none if the header is absent, repeated or invalid.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        match (given.next(), given.next()) {
            (Some(header), None) => Self::parse(header.as_bytes()),
            _ => None,
        }
    }

    /// Parses `VERSION-TRACE_ID-SPAN_ID-FLAGS` in lower-case hexadecimal digits.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let [version] = digits(&known[..2])?;
        let (trace_id, span_id) = (digits(&known[3..35])?, digits(&known[36..52])?);
        let [flags] = digits(&known[53..])?;
        let parent = Self {
            trace_id: TraceId::from_bytes(trace_id),
            span_id: SpanId::from_bytes(span_id),
            is_sampled: TraceFlags::new(flags).is_sampled(),
        };
        let is_complete = match more {
            [] => true,
            [first, ..] => *first == b'-' && version > 0,
        };
        let is_valid = version != FORBIDDEN_VERSION
            && [2, 35, 52].iter().all(|at| known[*at] == b'-')
            && is_complete
            && parent.trace_id != TraceId::INVALID
            && parent.span_id != SpanId::INVALID;
        is_valid.then_some(parent)
    }
}

/// The bytes of `2 * N` lower-case hexadecimal digits.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    fn parent(is_sampled: bool) -> TraceParent {
        let (trace_id, span_id) = (TraceId::from_bytes(TRACE.to_be_bytes()), SpanId::from_bytes(SPAN.to_be_bytes()));
        TraceParent { trace_id, span_id, is_sampled }
    }

    #[test]
    fn a_valid_header_is_parsed() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (text, is_sampled) in [
            (format!("00-{ids}-01"), true),
            (format!("00-{ids}-00"), false),
            // Flags that are not defined yet.
            (format!("00-{ids}-03"), true),
            (format!("00-{ids}-fe"), false),
            // Later versions, with and without more fields.
            (format!("01-{ids}-01"), true),
            (format!("cc-{ids}-01-what the future may bring"), true),
            (format!("fe-{ids}-00-"), false),
        ] {
            assert_eq!(parse(&text), Some(parent(is_sampled)), "{text}");
        }
    }

    #[test]
    fn an_invalid_header_is_ignored() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for text in [
            String::new(),
            "00".into(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-"),
            format!("00-{trace}-{span}-0"),
            // Version 00 has four fields and no more.
            format!("00-{trace}-{span}-01-"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{trace}-{span}-011"),
            format!("cc-{trace}-{span}-01.more"),
            format!("ff-{trace}-{span}-01"),
            format!("0-{trace}-{span}-01"),
            format!("0g-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{}-01", span.to_uppercase()),
            format!("00-{trace}-{span}-0A"),
            format!("00-{trace}-{span}-0x"),
            format!("00_{trace}-{span}-01"),
            format!("00-{trace}_{span}-01"),
            format!("00-{trace}-{span}_01"),
            format!("00-{}-{span}-01", &trace[1..]),
            format!("00-{trace}--{span}-01"),
            format!(" 00-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01 "),
            format!("00-{}é-{span}-01", &trace[2..]),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    #[test]
    fn a_repeated_header_is_ignored() {
        let header = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::of(&headers), None);
        headers.append(TRACEPARENT, header.clone());
        assert_eq!(TraceParent::of(&headers), Some(parent(true)));
        headers.append(TRACEPARENT, header);
        assert_eq!(TraceParent::of(&headers), None);
    }

    proptest! {
        #[test]
        fn every_id_and_flag_is_parsed_as_it_was_written(trace in 1u128.., span in 1u64.., flags: u8, version in 0u8..0xff) {
            let expected = TraceParent {
                trace_id: TraceId::from_bytes(trace.to_be_bytes()),
                span_id: SpanId::from_bytes(span.to_be_bytes()),
                is_sampled: flags % 2 == 1,
            };
            prop_assert_eq!(parse(&format!("{version:02x}-{trace:032x}-{span:016x}-{flags:02x}")), Some(expected));
        }

        #[test]
        fn any_bytes_are_parsed_or_ignored(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceParent::parse(&text);
        }

        #[test]
        fn a_changed_byte_never_gives_the_same_header(at in 0..LENGTH, byte: u8) {
            let mut text = *b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            prop_assume!(text[at] != byte);
            text[at] = byte;
            // Other flags than the sampled one, and other versions, say the same.
            if let Some(parsed) = TraceParent::parse(&text) {
                prop_assert!(parsed != parent(true) || at == 53 || at == 54 || at < 2);
                prop_assert!(byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            }
        }
    }
}
