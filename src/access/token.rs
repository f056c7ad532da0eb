//! Tokens. Only their digests are stored.

use std::{fmt, io};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

/// A token as a caller sent it. It is never printed.
#[derive(Clone, Copy)]
pub struct Token<'a>(&'a [u8]);

impl<'a> Token<'a> {
    /// Any bytes; `None` if there are none.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// The token itself, to send it to the identity service.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The SHA-256 of the token.
    pub fn digest(self) -> TokenDigest {
        TokenDigest::from_bytes(digest(&SHA256, self.0).as_ref())
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a token. Equality takes the same time wherever two digests differ.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest([u64; 4]);

impl std::hash::Hash for TokenDigest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // All of it: an access file can have digests whose first words are equal.
        self.0.iter().for_each(|word| state.write_u64(*word));
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl TokenDigest {
    /// From the 32 bytes of a SHA-256.
    fn from_bytes(bytes: &[u8]) -> Self {
        let word = |at: usize| bytes[8 * at..8 * at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Self([word(0), word(1), word(2), word(3)])
    }

    /// From 64 hexadecimal digits; `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let word = |at: usize| u64::from_str_radix(&text[16 * at..16 * at + 16], 16).ok();
        Some(Self([word(0)?, word(1)?, word(2)?, word(3)?]))
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// Makes a token of 258 random bits, as 43 characters of the URL-safe base64 alphabet: short enough for one block of SHA-256.
///
/// # Errors
///
/// The system has no random bytes.
pub fn random() -> io::Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 43];
    getrandom::fill(&mut bytes)?;
    // 64 divides 256, so each character is as likely as any other: 43 x 6 = 258 bits.
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha_256() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Token::new(b"abc").unwrap().digest();
        assert_eq!(digest.to_string(), hex);
        assert_eq!(TokenDigest::from_hex(hex), Some(digest));
        assert_eq!(TokenDigest::from_hex(&hex.to_uppercase()), Some(digest));
        assert_ne!(TokenDigest::from_hex(&hex.replace("15ad", "15ae")), Some(digest));
        for bad in ["", "ba78", &hex[1..], &format!("{hex}00"), &hex.replace('b', "g"), &hex.replace("ba", "+a")] {
            assert_eq!(TokenDigest::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn neither_tokens_nor_digests_are_printed() {
        let token = Token::new(b"secret").unwrap();
        assert_eq!(format!("{token:?} {:?}", token.digest()), "Token(…) TokenDigest(…)");
        assert!(Token::new(b"").is_none());
    }

    #[test]
    fn random_tokens_are_long_and_differ() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
    }
}
