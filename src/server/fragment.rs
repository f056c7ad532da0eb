//! Finds a `#` in a request target, which the URI type has cut off together with all that follows.
//!
//! A target has no fragment (RFC 9112, section 3.2), so a request with one must be refused; but the HTTP layer hands over a
//! URI without it, and keeps no other copy. Only the socket sees the bytes as they came, and only the HTTP layer knows where
//! a head begins: what comes behind a body is a head, and a `#` in a body is nothing. So the two are brought together by
//! address. A URI is not copied: it is a part of the HTTP layer's buffer, in which the socket has put it. The socket notes
//! where in the stream of bytes it has seen a `#`, and which address the last byte has; from that follows where in the
//! stream a URI ends, and so whether a `#` stands right behind it. Addresses are only ever compared. Should the HTTP layer
//! copy URIs one day, the tests of this say so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use http::Uri;
use memchr::{memchr, memchr2, memmem, memrchr2};

/// More bytes than the HTTP layer holds of a connection: its buffer doubles until it has room for the largest head.
const WINDOW: usize = 1024 * 1024;

/// How many places are kept. Each looks like the rest of a request line, so that only somebody who sends very many of those at
/// once has more.
const KEPT: usize = 256;

/// Where in a connection's stream a `#` may end a request target. All who use it run in the connection's task, so that
/// relaxed atomics do.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// How many bytes have been read.
    read: AtomicU64,
    /// The address behind the last byte that has been read.
    end: AtomicUsize,
    /// Whether `seen` holds any place: as a rule it does not, and its lock is not taken.
    any: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Places in the stream, in their order.
    places: VecDeque<u64>,
    /// Before this place some are no longer kept.
    complete_from: u64,
}

impl Fragments {
    /// The next byte goes to this address. To be called before each read, since the HTTP layer may have moved its buffer.
    pub(super) fn will_read_to(&self, address: usize) {
        self.end.store(address, Relaxed);
    }

    /// These bytes have been read to that address.
    pub(super) fn has_read(&self, bytes: &[u8]) {
        let from = self.read.load(Relaxed);
        self.read.store(from + bytes.len() as u64, Relaxed);
        self.end.store(self.end.load(Relaxed) + bytes.len(), Relaxed);
        if memchr(b'#', bytes).is_some() {
            self.note(from, bytes);
        }
    }

    #[cold]
    fn note(&self, from: u64, bytes: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        each_candidate(bytes, |at| {
            if seen.places.len() == KEPT
                && let Some(lost) = seen.places.pop_front()
            {
                seen.complete_from = lost + 1;
            }
            seen.places.push_back(from + at as u64);
        });
        self.any.store(!seen.places.is_empty(), Relaxed);
    }

    /// Whether a `#` stands behind the target of the request whose head has just been read. To be asked of each request, in
    /// their order.
    pub(super) fn follows(&self, target: &Uri) -> bool {
        self.any.load(Relaxed) && self.look_behind(target)
    }

    #[cold]
    fn look_behind(&self, target: &Uri) -> bool {
        let (read, end) = (self.read.load(Relaxed), self.end.load(Relaxed));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_found = false;
        // The `#` of `http://host#x` stands behind the authority.
        let parts = [target.authority().map(|it| it.as_str()), target.path_and_query().map(|it| it.as_str())];
        for part in parts.into_iter().flatten() {
            let behind = end.checked_sub(part.as_ptr().addr() + part.len());
            // An absent path is given as a `/` that stands elsewhere in memory.
            let Some(behind) = behind.filter(|behind| *behind <= WINDOW) else { continue };
            let place = read.saturating_sub(behind as u64);
            is_found |= place < seen.complete_from || seen.places.contains(&place);
            while seen.places.front().is_some_and(|first| *first < place) {
                seen.places.pop_front();
            }
        }
        self.any.store(!seen.places.is_empty() || seen.complete_from > read.saturating_sub(WINDOW as u64), Relaxed);
        is_found
    }
}

/// Calls `found` with the place of each `#` that may end a target: the first in a word that begins as a target does and is
/// followed by a version. Of a word that has begun before these bytes or goes on behind them, that much is taken for granted.
fn each_candidate(bytes: &[u8], mut found: impl FnMut(usize)) {
    const VERSION: &[u8] = b" HTTP/1.";
    let mut from = 0;
    while let Some(at) = memchr(b'#', &bytes[from..]).map(|at| from + at) {
        let begin = memrchr2(b' ', b'\n', &bytes[from..at]).map_or(from, |at| from + at + 1);
        let end = memchr2(b' ', b'\n', &bytes[at..]).map_or(bytes.len(), |more| at + more);
        let word = &bytes[begin..at];
        let begins = begin == 0 || word.starts_with(b"/") || memmem::find(word, b"://").is_some();
        let ends = bytes[end..].iter().zip(VERSION).all(|(byte, expected)| byte == expected);
        if begins && ends {
            found(at);
        }
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// A buffer as the HTTP layer's, which has been read in pieces of `size` bytes.
    fn read(stream: &'static [u8], size: usize) -> (Fragments, Bytes) {
        let (fragments, buffer) = (Fragments::default(), Bytes::from_static(stream));
        for piece in stream.chunks(size) {
            fragments.will_read_to(piece.as_ptr().addr());
            fragments.has_read(piece);
        }
        (fragments, buffer)
    }

    /// What is said of the targets that stand at these places.
    fn follows<const N: usize>(of: &(Fragments, Bytes), targets: [&str; N]) -> [bool; N] {
        let mut from = 0;
        targets.map(|target| {
            let at = memchr::memmem::find(&of.1[from..], format!(" {target}").as_bytes()).unwrap() + from + 1;
            from = at + target.len();
            of.0.follows(&Uri::from_maybe_shared(of.1.slice(at..from)).unwrap())
        })
    }

    #[test]
    fn a_fragment_is_found_however_it_was_read() {
        let stream = b"GET /a#b HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nX: #\r\n\r\n{ #}GET /a?# HTTP/1.1\r\n\r\nGET a://h#/# HTTP/1.0\n";
        for size in 1..=stream.len() {
            let of = read(stream, size);
            let expected = [true, false, true, true];
            assert_eq!(follows(&of, ["/a#b", "/a", "/a?#", "a://h#/#"]), expected, "{size}");
        }
    }

    #[test]
    fn bodies_and_headers_are_no_targets() {
        let stream = b"POST /a HTTP/1.1\r\n\r\nPOST /b# HTTP/1.1\n# #\n##\n /b# HTTP/1.1 {\"a\": \"#\"}\nGET /b HTTP/1.1\r\nX: /b#\r\n\r\n";
        for size in 1..=stream.len() {
            let of = read(stream, size);
            assert_eq!(follows(&of, ["/a"]), [false], "{size}");
            let at = memchr::memmem::find(&of.1, b"/b HTTP").unwrap();
            let target = Uri::from_maybe_shared(of.1.slice(at..at + 2)).unwrap();
            assert!(!of.0.follows(&target), "{size}");
        }
    }

    #[test]
    fn a_moved_buffer_is_followed() {
        let (fragments, moved) = (Fragments::default(), Bytes::from_static(b"GET /a#b HTTP/1.1\r\n\r\n"));
        let first = Bytes::copy_from_slice(&moved[..8]);
        fragments.will_read_to(first.as_ptr().addr());
        fragments.has_read(&first);
        fragments.will_read_to(moved[8..].as_ptr().addr());
        fragments.has_read(&moved[8..]);
        assert!(fragments.follows(&Uri::from_maybe_shared(moved.slice(4..8)).unwrap()));
    }

    #[test]
    fn what_is_kept_is_bounded_and_never_missed() {
        let stream: &'static [u8] = "G /a# HTTP/1.1\n\n".repeat(10_000).leak().as_bytes();
        let of = read(stream, 100_000);
        assert_eq!(of.0.seen.lock().unwrap().places.len(), KEPT);
        let targets = (2..stream.len()).step_by(16).map(|at| Uri::from_maybe_shared(of.1.slice(at..at + 3)).unwrap());
        assert!(targets.fold(true, |all, target| all & of.0.follows(&target)));
        // Nothing that a report says looks like the rest of a request line.
        let report =
            "{\"id\": \"#1\", \"error_message\": \"build #7 of http://h/a#b failed, see /a#b\"}\n".repeat(10_000);
        let mut found = 0;
        each_candidate(report.as_bytes(), |_| found += 1);
        assert!(found <= 2, "{found}");
    }
}
