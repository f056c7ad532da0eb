//! An identifier in 24 bytes: UUIDs and short names in place, anything longer on the heap.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A string that takes no heap when it is a lower-case UUID, 32 lower-case hexadecimal digits, or at most 16 bytes.
///
/// Each string has exactly one packed form, so the derived equality is that of the string, and so is the hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Packed {
    /// `8-4-4-4-12` lower-case hexadecimal digits.
    Uuid([u8; 16]),
    /// 32 lower-case hexadecimal digits.
    Hex([u8; 16]),
    /// At most 16 bytes of UTF-8, zero beyond the length.
    Short(u8, [u8; 16]),
    Long(Box<str>),
}

impl Hash for Packed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.to_fixed() {
            // As two numbers, which takes half the time of a list of bytes: a report hashes each identifier several times.
            Some((bytes, kind)) => {
                state.write_u8(kind);
                state.write_u128(u128::from_ne_bytes(bytes));
            }
            None => self.as_long().hash(state),
        }
    }
}

/// Where a UUID's text has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Where a UUID's text has its digits, four at a time.
const UUID_DIGITS: [usize; 8] = [0, 4, 9, 14, 19, 24, 28, 32];

/// The same for 32 digits without hyphens.
const HEX_DIGITS: [usize; 8] = [0, 4, 8, 12, 16, 20, 24, 28];

impl Packed {
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes.len() {
            0..=16 => {
                let mut short = [0; 16];
                short[..bytes.len()].copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            _ => Self::hexadecimal(bytes).unwrap_or_else(|| Self::Long(text.into())),
        }
    }

    /// A UUID or 32 digits.
    fn hexadecimal(bytes: &[u8]) -> Option<Self> {
        if let Ok(text) = <&[u8; 36]>::try_from(bytes) {
            let has_hyphens = HYPHENS.iter().all(|&at| text[at] == b'-');
            hex16(digits(text, UUID_DIGITS)).filter(|_| has_hyphens).map(Self::Uuid)
        } else {
            hex16(digits(<&[u8; 32]>::try_from(bytes).ok()?, HEX_DIGITS)).map(Self::Hex)
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

/// The digits of a text. Four of them begin at each of `at`. Inlined, so that the compiler sees that all of them are in the text.
#[inline(always)]
fn digits<const N: usize>(text: &[u8; N], at: [usize; 8]) -> [u64; 4] {
    let four = |at: usize| u64::from(u32::from_be_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]));
    [0, 2, 4, 6].map(|pair| four(at[pair]) << 32 | four(at[pair + 1]))
}

/// The value of 32 lower-case hexadecimal digits.
fn hex16(digits: [u64; 4]) -> Option<[u8; 16]> {
    let values = digits.map(hex4);
    let is_right = values.iter().all(|(_, wrong)| *wrong == 0);
    is_right.then(|| values.iter().fold(0, |all, (value, _)| all << 32 | u128::from(*value)).to_be_bytes())
}

/// The value of eight lower-case hexadecimal digits, and zero unless one of them is none. All eight are converted in one word,
/// because identifiers are a large part of a report.
fn hex4(digits: u64) -> (u32, u64) {
    let each = |byte: u64| byte * 0x0101_0101_0101_0101;
    // `0` to `9` are 0x30 to 0x39, `a` to `f` are 0x61 to 0x66.
    let letters = digits >> 6 & each(1);
    let values = (digits & each(0x0f)) + 9 * letters;
    let is_above_9 = (values + each(0x76)) >> 7 & each(1);
    let wrong = digits ^ (values + each(0x30) + 0x27 * letters) | letters ^ is_above_9 | values & each(0x10);
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32, wrong)
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

    #[test]
    fn only_lower_case_digits_are_hexadecimal() {
        for at in 0..32 {
            for byte in 0..=u8::MAX {
                let mut text = *b"2b31ed520ab14c7bebedb6e57f00aa11";
                text[at] = byte;
                let expected: Option<Vec<u8>> = text
                    .chunks_exact(2)
                    .map(|pair| {
                        let value = |digit| b"0123456789abcdef".iter().position(|known| *known == digit);
                        Some((16 * value(pair[0])? + value(pair[1])?) as u8)
                    })
                    .collect();
                assert_eq!(hex16(digits(&text, HEX_DIGITS)).map(Vec::from), expected, "{byte} at {at}");
            }
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
