//! The digests of tokens that have come lately. The SHA-256 of a token would be the dearest step of a count, also on processors with
//! instructions for it, and most requests have the token of an earlier one.

use std::cell::RefCell;

use siphasher::sip128::SipHasher24;

use super::token::{Token, TokenDigest};

/// The most digests that a thread remembers. Any other takes the place of one of them.
const MAX_REMEMBERED: usize = 256;

thread_local! {
    /// None if the system had no random bytes for its key.
    static REMEMBERED: Option<RefCell<RememberedDigests>> = RememberedDigests::new().ok().map(RefCell::new);
}

/// Digests by a keyed hash of their tokens, of 128 bits. The tokens themselves are not kept. An attacker needs the key to find two tokens with
/// the same hash.
struct RememberedDigests {
    hasher: SipHasher24,
    /// Each is at the place that the lowest bits of its hash say.
    digests: Box<[Option<(u128, TokenDigest)>; MAX_REMEMBERED]>,
}

impl RememberedDigests {
    fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        Ok(Self { hasher: SipHasher24::new_with_key(&key), digests: Box::new([None; MAX_REMEMBERED]) })
    }

    fn get(&mut self, token: Token<'_>) -> TokenDigest {
        let hash = self.hasher.hash(token.bytes()).as_u128();
        let place = &mut self.digests[hash as usize % MAX_REMEMBERED];
        match place {
            Some((known, digest)) if *known == hash => *digest,
            _ => place.insert((hash, token.digest())).1,
        }
    }
}

/// The same as [`Token::digest`], faster for a token that has come lately.
pub(super) fn digest(token: Token<'_>) -> TokenDigest {
    REMEMBERED.with(|remembered| match remembered {
        Some(remembered) => remembered.borrow_mut().get(token),
        None => token.digest(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more tokens than places, each asked for before and after others have taken its place.
    #[test]
    fn the_digest_of_every_token_is_its_own() {
        let tokens: Vec<_> = (0..8 * MAX_REMEMBERED).map(|number| format!("token {number}")).collect();
        let mut remembered = RememberedDigests::new().unwrap();
        for text in tokens.iter().flat_map(|text| [text, text, &tokens[0]]).chain(&tokens) {
            let token = Token::new(text.as_bytes()).unwrap();
            assert_eq!(remembered.get(token), token.digest(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_remembered() {
        let token = Token::new(b"a").unwrap();
        let mut remembered = RememberedDigests::new().unwrap();
        remembered.get(token);
        let mut kept = remembered.digests.iter_mut().flatten();
        let other = Token::new(b"b").unwrap().digest();
        kept.next().unwrap().1 = other;
        assert!(kept.next().is_none());
        assert_eq!(remembered.get(token), other);
    }

    #[test]
    fn each_has_a_key_of_its_own() {
        let hash = || RememberedDigests::new().unwrap().hasher.hash(b"a").as_u128();
        assert_ne!(hash(), hash());
    }
}
