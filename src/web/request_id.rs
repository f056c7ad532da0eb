//! The request id, in logs and responses.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::shards::Shards;

/// The bits of a copy's count: a million requests a second fill them in two thousand years.
const COUNT_BITS: u32 = 56;

/// The header's name in requests and responses. The publisher's SDKs read it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Generates request ids: a random part for the process, then a sequence number. A random number for each request would cost
/// more than a count. Each copy of the count begins at a number of its own, which no other reaches.
#[derive(Debug)]
pub struct RequestIds {
    process: [u8; 16],
    next: Shards<AtomicU64>,
}

impl RequestIds {
    /// Ids with a new random part.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        let next = Shards::from_fn(|number| AtomicU64::new((number as u64) << COUNT_BITS));
        Ok(Self { process: hex(getrandom::u64()?), next })
    }

    /// The caller's id if it sent exactly one of 1 to 128 visible ASCII characters, else a new one.
    pub fn identify(&self, headers: &HeaderMap) -> HeaderValue {
        // A pass over some headers costs less than the hash of a name.
        let mut own = headers.iter().filter(|(name, _)| **name == X_REQUEST_ID);
        match (own.next(), own.next()) {
            (Some((_, id)), None)
                if (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic) =>
            {
                id.clone()
            }
            _ => self.next(),
        }
    }

    fn next(&self) -> HeaderValue {
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.process);
        id[16..].copy_from_slice(&hex(self.next.own().fetch_add(1, Ordering::Relaxed)));
        // Hexadecimal digits are always a valid value.
        HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }
}

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at)) as usize & 15])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify(sent: &[&[u8]]) -> HeaderValue {
        let sent = sent.iter().map(|id| (X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap()));
        RequestIds::new().unwrap().identify(&sent.collect())
    }

    #[test]
    fn a_printable_request_id_is_kept() {
        for own in [b"a".as_slice(), b"!~", &[b'x'; 128]] {
            assert_eq!(identify(&[own]), own);
        }
        for unfit in [&[b"".as_slice()][..], &[b"a b"], &["é".as_bytes()], &[&[b'x'; 129]], &[b"a", b"a"], &[]] {
            let new = identify(unfit);
            assert_eq!(new.len(), 32);
            assert!(new.as_bytes().iter().all(u8::is_ascii_hexdigit), "{new:?}");
        }
    }

    #[test]
    fn new_ids_differ() {
        let ids = RequestIds::new().unwrap();
        let (one, other) = (ids.next(), ids.next());
        assert_ne!(one, other);
        assert_eq!(one.as_bytes()[..16], other.as_bytes()[..16]);
        assert_ne!(one.as_bytes()[..16], RequestIds::new().unwrap().next().as_bytes()[..16]);
    }
}
