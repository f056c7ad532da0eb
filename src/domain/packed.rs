//! An identifier in 24 bytes: UUIDs and short names in place, anything longer on the heap.

use std::fmt;

/// A string that takes no heap when it is a lower-case UUID, 32 lower-case hexadecimal digits, or at most 16 bytes.
///
/// Each string has exactly one packed form, so the derived equality and hash are those of the string.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Packed {
    /// `8-4-4-4-12` lower-case hexadecimal digits.
    Uuid([u8; 16]),
    /// 32 lower-case hexadecimal digits.
    Hex([u8; 16]),
    /// At most 16 bytes of UTF-8, zero beyond the length.
    Short(u8, [u8; 16]),
    Long(Box<str>),
}

/// Where a UUID's text has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Where a UUID's text has the pairs of digits that make a byte each.
const UUID_PAIRS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The same for 32 digits without hyphens.
const HEX_PAIRS: [usize; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];

impl Packed {
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes.len() {
            0..=16 => {
                let mut short = [0; 16];
                short[..bytes.len()].copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            32 => hex16(bytes, HEX_PAIRS).map_or_else(|| Self::Long(text.into()), Self::Hex),
            36 if HYPHENS.iter().all(|&at| bytes[at] == b'-') => {
                hex16(bytes, UUID_PAIRS).map_or_else(|| Self::Long(text.into()), Self::Uuid)
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl Packed {
    /// The 16 bytes of one that takes no heap, and what kind it is; `None` for a longer one.
    pub(super) fn to_fixed(&self) -> Option<([u8; 16], u8)> {
        match self {
            Self::Short(len, bytes) => Some((*bytes, *len)),
            Self::Uuid(bytes) => Some((*bytes, FIXED_UUID)),
            Self::Hex(bytes) => Some((*bytes, FIXED_HEX)),
            Self::Long(_) => None,
        }
    }

    /// What [`Packed::to_fixed`] was given.
    pub(super) fn from_fixed(bytes: [u8; 16], kind: u8) -> Self {
        match kind {
            FIXED_UUID => Self::Uuid(bytes),
            FIXED_HEX => Self::Hex(bytes),
            len => Self::Short(len, bytes),
        }
    }

    /// The text of one that is on the heap.
    pub(super) fn as_long(&self) -> Option<&str> {
        match self {
            Self::Long(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a UUID or 32 digits.
    pub(super) fn is_hexadecimal(&self) -> bool {
        matches!(self, Self::Uuid(_) | Self::Hex(_))
    }

    /// Appends the form that [`Packed::decode`] reads: a tag that is never zero, then 16 bytes, or a length and a text.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut text = |text: &[u8]| {
            out.push(TEXT);
            // A text of at most 128 characters has at most 512 bytes.
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text);
        };
        match self {
            Self::Short(len, bytes) => text(&bytes[..usize::from(*len)]),
            Self::Long(long) => text(long.as_bytes()),
            Self::Uuid(bytes) => {
                out.push(UUID);
                out.extend_from_slice(bytes);
            }
            Self::Hex(bytes) => {
                out.push(HEX);
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Takes an encoded string off the front; `None` if there is none.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let tag = *bytes.split_off_first()?;
        match tag {
            UUID | HEX => {
                let value = bytes.split_off(..16)?.try_into().ok()?;
                Some(if tag == UUID { Self::Uuid(value) } else { Self::Hex(value) })
            }
            TEXT => {
                let length = u16::from_be_bytes(bytes.split_off(..2)?.try_into().ok()?);
                let text = std::str::from_utf8(bytes.split_off(..usize::from(length))?).ok()?;
                Some(Self::new(text))
            }
            _ => None,
        }
    }
}

/// The kinds of fixed strings that are none of the lengths of a short one.
const FIXED_UUID: u8 = 17;
const FIXED_HEX: u8 = 18;

/// What an encoded string begins with.
const UUID: u8 = 1;
const HEX: u8 = 2;
const TEXT: u8 = 3;

/// The value of each lower-case hexadecimal digit; of every other byte something above 15.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The value of 32 lower-case hexadecimal digits, a pair of which begins at each of `pairs`.
fn hex16(bytes: &[u8], pairs: [usize; 16]) -> Option<[u8; 16]> {
    let mut seen = 0;
    let value = pairs.map(|at| {
        let (high, low) = (DIGITS[usize::from(bytes[at])], DIGITS[usize::from(bytes[at + 1])]);
        seen |= high | low;
        high << 4 | low
    });
    (seen < 16).then_some(value)
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            Self::Hex(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Short(len, bytes) => {
                let text = bytes.get(..usize::from(*len)).unwrap_or_default();
                f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)
            }
            Self::Long(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uuids_hex_and_short_names_take_no_heap() {
        assert!(matches!(Packed::new("2382dd96-1f0a-456d-a0a4-c4b09a35b58a"), Packed::Uuid(_)));
        assert!(matches!(Packed::new("2b31ed520ab14c7bebedb6e57f00aa11"), Packed::Hex(_)));
        assert!(matches!(Packed::new("57576827748194"), Packed::Short(14, _)));
        assert_eq!(size_of::<Packed>(), 24);
    }

    #[test]
    fn texts_similar_to_uuids_are_unchanged() {
        for text in [
            "2382DD96-1f0a-456d-a0a4-c4b09a35b58a",
            "2382dd961-f0a-456d-a0a4-c4b09a35b58a",
            "2B31ed520ab14c7bebedb6e57f00aa11",
            "2382dd96-1f0a-456d-a0a4-c4b09a35b58g",
        ] {
            assert!(matches!(Packed::new(text), Packed::Long(_)), "{text}");
            assert_eq!(Packed::new(text).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_unpacked_to_itself(text in prop_oneof![
            "\\PC{0,40}",
            "[0-9a-fA-F]{32}",
            "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[0-9a-f-]{36}",
        ]) {
            let packed = Packed::new(&text);
            prop_assert_eq!(packed.to_string(), &*text);
            let mut encoded = Vec::new();
            packed.encode(&mut encoded);
            for cut in 0..encoded.len() {
                prop_assert!(Packed::decode(&mut &encoded[..cut]).is_none_or(|short| short != packed));
            }
            encoded.push(9);
            let mut rest = &encoded[..];
            prop_assert!(Packed::decode(&mut rest) == Some(packed));
            prop_assert_eq!(rest, [9]);
        }

        #[test]
        fn packed_values_are_equal_if_and_only_if_the_texts_are(a in "[ab\u{0}-]{0,18}", b in "[ab\u{0}-]{0,18}") {
            prop_assert_eq!(Packed::new(&a) == Packed::new(&b), a == b);
        }
    }
}
