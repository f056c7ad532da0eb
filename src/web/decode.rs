//! Strict percent-decoding. The usual one leaves invalid sequences as they are; this one refuses them.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// The text is not percent-encoded UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be percent-encoded UTF-8")]
pub struct BadEncoding;

/// Decodes a path segment, in which `+` stands for itself.
///
/// # Errors
///
/// If it is not percent-encoded UTF-8.
pub fn segment(text: &str) -> Result<Cow<'_, str>, BadEncoding> {
    match memchr(b'%', text.as_bytes()) {
        // Fast path: nothing to decode.
        None => Ok(Cow::Borrowed(text)),
        Some(first) => decode(text, first, false),
    }
}

/// Decodes a name or value of a query, in which `+` stands for a space.
///
/// # Errors
///
/// If it is not percent-encoded UTF-8.
pub fn query(text: &str) -> Result<Cow<'_, str>, BadEncoding> {
    match memchr2(b'%', b'+', text.as_bytes()) {
        None => Ok(Cow::Borrowed(text)),
        Some(first) => decode(text, first, true),
    }
}

/// Whether a query, or a part of it, has anything to decode.
pub fn is_encoded(query: &str) -> bool {
    memchr2(b'%', b'+', query.as_bytes()).is_some()
}

/// Decodes a text in one pass. Nothing before `first` is encoded.
fn decode(text: &str, first: usize, plus_is_space: bool) -> Result<Cow<'_, str>, BadEncoding> {
    let (plain, mut rest) = text.as_bytes().split_at(first);
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match byte {
            b'%' => {
                let [high, low, after @ ..] = rest else { return Err(BadEncoding) };
                rest = after;
                hex_digit(*high)? << 4 | hex_digit(*low)?
            }
            b'+' if plus_is_space => b' ',
            byte => *byte,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| BadEncoding)
}

fn hex_digit(digit: u8) -> Result<u8, BadEncoding> {
    // Below 16, so it fits.
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(BadEncoding)
}

/// The pairs of name and value in a query, undecoded. A name without `=` has an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    split(query, b'&').map(|pair| {
        // Names are short, so a loop finds their end sooner than a search by blocks.
        let name_end = pair.bytes().position(|byte| byte == b'=');
        name_end.map_or((pair, ""), |end| (&pair[..end], &pair[end + 1..]))
    })
}

/// The parts of a text between occurrences of an ASCII character.
pub fn split(text: &str, at: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let (part, after) = split_at_byte(rest?, at);
        rest = after;
        Some(part)
    })
}

/// Splits a text at the first occurrence of an ASCII character: what is before it, and what is after it if it occurs.
pub fn split_at_byte(text: &str, at: u8) -> (&str, Option<&str>) {
    match memchr(at, text.as_bytes()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invalid_encoding_is_refused() {
        for text in ["%", "%1", "a%zz", "%%20", "%2", "%+1", "%ff%fe", "%c3", "%ed%a0%80", "%c0%80"] {
            assert_eq!(segment(text), Err(BadEncoding), "{text}");
            assert_eq!(query(text), Err(BadEncoding), "{text}");
        }
        assert_eq!(segment("%C3%a9+%25").as_deref(), Ok("é+%"));
        assert_eq!(query("%C3%a9+%2B").as_deref(), Ok("é +"));
    }

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        let cut = |query| pairs(query).collect::<Vec<_>>();
        assert_eq!(cut(""), [("", "")]);
        assert_eq!(cut("é=ü&&a&b==c&="), [("é", "ü"), ("", ""), ("a", ""), ("b", "=c"), ("", "")]);
    }

    proptest! {
        #[test]
        fn decoding_reverts_encoding(text in "\\PC{0,20}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(segment(&encoded), Ok(Cow::from(&text)));
            prop_assert_eq!(query(&encoded), Ok(Cow::from(&text)));
        }
    }
}
