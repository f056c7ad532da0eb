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

impl Packed {
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes.len() {
            0..=16 => {
                let mut short = [0; 16];
                short[..bytes.len()].copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            32 => hex16(bytes.iter().copied()).map_or_else(|| Self::Long(text.into()), Self::Hex),
            36 if HYPHENS.iter().all(|&at| bytes[at] == b'-') => {
                let digits = bytes.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at));
                hex16(digits.map(|(_, &byte)| byte)).map_or_else(|| Self::Long(text.into()), Self::Uuid)
            }
            _ => Self::Long(text.into()),
        }
    }
}

/// The value of exactly 32 lower-case hexadecimal digits.
fn hex16(mut digits: impl Iterator<Item = u8>) -> Option<[u8; 16]> {
    let mut next = || match digits.next()? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut value = [0; 16];
    for byte in &mut value {
        *byte = next()? << 4 | next()?;
    }
    Some(value)
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
    fn near_uuids_are_kept_as_they_are() {
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
        fn any_text_comes_back(text in prop_oneof![
            "\\PC{0,40}",
            "[0-9a-fA-F]{32}",
            "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[0-9a-f-]{36}",
        ]) {
            prop_assert_eq!(Packed::new(&text).to_string(), text);
        }

        #[test]
        fn equal_packed_means_equal_text(a in "[ab\u{0}-]{0,18}", b in "[ab\u{0}-]{0,18}") {
            prop_assert_eq!(Packed::new(&a) == Packed::new(&b), a == b);
        }
    }
}
