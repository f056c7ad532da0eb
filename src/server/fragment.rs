//! Finds a fragment (`#...`) in a request target. The URI type removes it while parsing.
//!
//! A request target has no fragment (RFC 9112, section 3.2), so a request with one is refused. But the HTTP layer gives its
//! service a URI without the fragment, and keeps no copy of the original. Only the socket sees the bytes as sent, and only
//! the HTTP layer knows which of them are a target and which are a body.
//!
//! Memory addresses connect the two. A URI is a slice of the HTTP layer's read buffer, into which the socket has read. The
//! socket records at which offsets of the stream it has seen a `#`, and the address of the last byte read. From these follow
//! the offset at which a URI ends, and whether a `#` is the next byte. Addresses are compared and never dereferenced. If the
//! HTTP layer begins to copy URIs, the tests of this module and of the listener fail.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use http::Uri;
use memchr::{memchr, memchr2, memmem, memrchr2};

/// More bytes than the HTTP layer buffers of a connection. Its buffer doubles until the largest head fits.
const MAX_BUFFERED_BYTES: usize = 1024 * 1024;

/// The most candidates that are kept. Each looks like the end of a request line, so only a client that sends very many of
/// those at once has more.
const MAX_CANDIDATES: usize = 256;

/// Knows at which offsets of a connection's stream a `#` may follow a request target. It is only used in the connection's task,
/// so relaxed atomics are enough.
#[derive(Debug, Default)]
pub(super) struct FragmentDetector {
    /// How many bytes have been read.
    bytes_read: AtomicU64,
    /// The address after the last byte that has been read.
    end: AtomicUsize,
    /// Whether `candidates` has any. Usually it has none, and its lock is not taken.
    has_candidates: AtomicBool,
    candidates: Mutex<Candidates>,
}

#[derive(Debug, Default)]
struct Candidates {
    /// Offsets in the stream, ascending.
    positions: VecDeque<u64>,
    /// Below this offset some candidates have been discarded.
    complete_from: u64,
}

impl FragmentDetector {
    /// Sets the address of the next byte. Called before each read, since the HTTP layer may have moved its buffer.
    pub(super) fn before_read(&self, address: usize) {
        self.end.store(address, Relaxed);
    }

    /// Records bytes that have been read to that address.
    pub(super) fn after_read(&self, bytes: &[u8]) {
        let from = self.bytes_read.load(Relaxed);
        self.bytes_read.store(from + bytes.len() as u64, Relaxed);
        self.end.store(self.end.load(Relaxed) + bytes.len(), Relaxed);
        if memchr(b'#', bytes).is_some() {
            self.record_candidates(from, bytes);
        }
    }

    #[cold]
    fn record_candidates(&self, from: u64, bytes: &[u8]) {
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        for_each_candidate(bytes, |at| {
            if candidates.positions.len() == MAX_CANDIDATES
                && let Some(lost) = candidates.positions.pop_front()
            {
                candidates.complete_from = lost + 1;
            }
            candidates.positions.push_back(from + at as u64);
        });
        self.has_candidates.store(!candidates.positions.is_empty(), Relaxed);
    }

    /// Whether a `#` follows the target of the request whose head has just been read. Called once for each request, in order.
    pub(super) fn has_fragment(&self, target: &Uri) -> bool {
        self.has_candidates.load(Relaxed) && self.check_target(target)
    }

    #[cold]
    fn check_target(&self, target: &Uri) -> bool {
        let (bytes_read, end) = (self.bytes_read.load(Relaxed), self.end.load(Relaxed));
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_found = false;
        // In `http://host#x` the `#` follows the authority.
        let parts = [target.authority().map(|it| it.as_str()), target.path_and_query().map(|it| it.as_str())];
        for part in parts.into_iter().flatten() {
            let behind = end.checked_sub(part.as_ptr().addr() + part.len());
            // An absent path is represented by a static `/` outside the buffer.
            let Some(behind) = behind.filter(|behind| *behind <= MAX_BUFFERED_BYTES) else { continue };
            let position = bytes_read.saturating_sub(behind as u64);
            is_found |= position < candidates.complete_from || candidates.positions.contains(&position);
            while candidates.positions.front().is_some_and(|first| *first < position) {
                candidates.positions.pop_front();
            }
        }
        self.has_candidates.store(
            !candidates.positions.is_empty()
                || candidates.complete_from > bytes_read.saturating_sub(MAX_BUFFERED_BYTES as u64),
            Relaxed,
        );
        is_found
    }
}

/// Calls `found` with the index of each `#` that may end a target: the first one in a word that begins like a target and is
/// followed by a version. A part of the word or version outside these bytes is assumed to match.
fn for_each_candidate(bytes: &[u8], mut found: impl FnMut(usize)) {
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

    /// A read buffer like the HTTP layer's, filled in pieces of `size` bytes.
    fn read_in_pieces(stream: &'static [u8], size: usize) -> (FragmentDetector, Bytes) {
        let (detector, buffer) = (FragmentDetector::default(), Bytes::from_static(stream));
        for piece in stream.chunks(size) {
            detector.before_read(piece.as_ptr().addr());
            detector.after_read(piece);
        }
        (detector, buffer)
    }

    /// Whether these targets of the stream, in order, have a fragment.
    fn targets_with_fragment<const N: usize>(read: &(FragmentDetector, Bytes), targets: [&str; N]) -> [bool; N] {
        let mut from = 0;
        targets.map(|target| {
            let at = memchr::memmem::find(&read.1[from..], format!(" {target}").as_bytes()).unwrap() + from + 1;
            from = at + target.len();
            read.0.has_fragment(&Uri::from_maybe_shared(read.1.slice(at..from)).unwrap())
        })
    }

    #[test]
    fn a_fragment_is_found_for_any_read_size() {
        let stream = b"GET /a#b HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\nX: #\r\n\r\n{ #}GET /a?# HTTP/1.1\r\n\r\nGET a://h#/# HTTP/1.0\n";
        for size in 1..=stream.len() {
            let read = read_in_pieces(stream, size);
            let expected = [true, false, true, true];
            assert_eq!(targets_with_fragment(&read, ["/a#b", "/a", "/a?#", "a://h#/#"]), expected, "{size}");
        }
    }

    #[test]
    fn number_signs_in_bodies_and_headers_are_ignored() {
        let stream = b"POST /a HTTP/1.1\r\n\r\nPOST /b# HTTP/1.1\n# #\n##\n /b# HTTP/1.1 {\"a\": \"#\"}\nGET /b HTTP/1.1\r\nX: /b#\r\n\r\n";
        for size in 1..=stream.len() {
            let read = read_in_pieces(stream, size);
            assert_eq!(targets_with_fragment(&read, ["/a"]), [false], "{size}");
            let at = memchr::memmem::find(&read.1, b"/b HTTP").unwrap();
            let target = Uri::from_maybe_shared(read.1.slice(at..at + 2)).unwrap();
            assert!(!read.0.has_fragment(&target), "{size}");
        }
    }

    #[test]
    fn a_fragment_is_found_after_the_buffer_has_moved() {
        let (detector, moved) = (FragmentDetector::default(), Bytes::from_static(b"GET /a#b HTTP/1.1\r\n\r\n"));
        let first = Bytes::copy_from_slice(&moved[..8]);
        detector.before_read(first.as_ptr().addr());
        detector.after_read(&first);
        detector.before_read(moved[8..].as_ptr().addr());
        detector.after_read(&moved[8..]);
        assert!(detector.has_fragment(&Uri::from_maybe_shared(moved.slice(4..8)).unwrap()));
    }

    #[test]
    fn candidates_are_bounded_and_none_is_missed() {
        let stream: &'static [u8] = "G /a# HTTP/1.1\n\n".repeat(10_000).leak().as_bytes();
        let read = read_in_pieces(stream, 100_000);
        assert_eq!(read.0.candidates.lock().unwrap().positions.len(), MAX_CANDIDATES);
        let targets = (2..stream.len()).step_by(16).map(|at| Uri::from_maybe_shared(read.1.slice(at..at + 3)).unwrap());
        assert!(targets.fold(true, |all, target| all & read.0.has_fragment(&target)));
        // In a report few bytes look like the end of a request line.
        let report =
            "{\"id\": \"#1\", \"error_message\": \"build #7 of http://h/a#b failed, see /a#b\"}\n".repeat(10_000);
        let mut found = 0;
        for_each_candidate(report.as_bytes(), |_| found += 1);
        assert!(found <= 2, "{found}");
    }
}
