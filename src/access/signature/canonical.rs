//! The canonical request: the form in which a request is signed.
//!
//! It is never held in memory as a whole: its parts go to the digest one by one. The memory needed is at most one copy of the
//! path, two of the query, and 16 bytes for each pair of the query.

use std::borrow::Cow;
use std::cmp::Ordering;

use http::HeaderMap;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentDecode, percent_decode, percent_decode_str, percent_encode};
use ring::digest;

use super::{BodyDigest, hex, single_value};

/// All characters but letters, digits and `-_.~`: those that are percent-encoded in a path segment, a name or a value.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Receives a text in parts.
pub(super) trait Sink {
    /// Appends the next part.
    fn push(&mut self, piece: &[u8]);
}

impl Sink for digest::Context {
    fn push(&mut self, piece: &[u8]) {
        self.update(piece);
    }
}

#[cfg(test)]
impl Sink for Vec<u8> {
    fn push(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

/// Whether each name is listed once and its header is given once. The names are counted first, so that a list longer than the
/// headers costs nothing.
pub(super) fn are_given_once(headers: &HeaderMap, names: &str) -> bool {
    if names.bytes().filter(|byte| *byte == b';').count() >= headers.len() {
        return false;
    }
    let mut names: Vec<&str> = names.split(';').collect();
    names.sort_unstable_by(|one, other| cmp_ignoring_case(one, other));
    names.iter().all(|name| single_value(headers, name).is_some())
        && names.windows(2).all(|pair| !pair[0].eq_ignore_ascii_case(pair[1]))
}

/// Whether Host is among the names.
pub(super) fn include_host(names: &str) -> bool {
    names.split(';').any(is_host)
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host")
}

fn cmp_ignoring_case(one: &str, other: &str) -> Ordering {
    let other = other.bytes().map(|byte| byte.to_ascii_lowercase());
    one.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(other)
}

/// The first part: method, path and query, a line each.
pub(super) fn push_target(to: &mut impl Sink, parts: &Parts) {
    to.push(parts.method.as_str().as_bytes());
    to.push(b"\n");
    push_path(to, parts.uri.path());
    to.push(b"\n");
    push_query(to, parts.uri.query().unwrap_or_default());
    to.push(b"\n");
}

/// The second part: the signed headers, their names and the body's digest. `None` if a signed header is missing or repeated.
/// `host` replaces the value of Host.
pub(super) fn push_headers(
    to: &mut impl Sink,
    headers: &HeaderMap,
    names: &str,
    host: Option<&str>,
    body: &BodyDigest,
) -> Option<()> {
    for name in names.split(';') {
        let value = match host {
            Some(host) if is_host(name) => host.as_bytes(),
            _ => single_value(headers, name)?,
        };
        for piece in [name.as_bytes(), b":", trim_value(value), b"\n"] {
            to.push(piece);
        }
    }
    for piece in ["\n", names, "\n", &hex(body)] {
        to.push(piece.as_bytes());
    }
    Some(())
}

/// Trims white space at both ends: Unicode white space if the value is UTF-8, as the SDKs do.
fn trim_value(value: &[u8]) -> &[u8] {
    std::str::from_utf8(value).map_or(value.trim_ascii(), |text| text.trim().as_bytes())
}

/// Decodes each segment once and encodes it again; ends with a slash.
fn push_path(to: &mut impl Sink, path: &str) {
    let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
    let mut ends_with_slash = false;
    for segment in decoded.split(|byte| *byte == b'/').skip(1) {
        to.push(b"/");
        push_encoded(to, segment);
        ends_with_slash = segment.is_empty();
    }
    if !ends_with_slash {
        to.push(b"/");
    }
}

fn push_encoded(to: &mut impl Sink, bytes: &[u8]) {
    percent_encode(bytes, &ENCODED).for_each(|piece| to.push(piece.as_bytes()));
}

/// Decodes names and values, sorts them by name and value, and encodes them again.
fn push_query(to: &mut impl Sink, query: &str) {
    let query = if query.contains('+') { Cow::from(query.replace('+', " ")) } else { query.into() };
    let pairs = || query.split('&').filter(|pair| !pair.is_empty());
    let mut sorted = Vec::with_capacity(pairs().count());
    sorted.extend(pairs());
    sorted.sort_unstable_by(|one, other| {
        let ((name, value), (other_name, other_value)) = (decoded(one), decoded(other));
        name.cmp(other_name).then_with(|| value.cmp(other_value))
    });
    let mut buffer = Vec::new();
    for (at, pair) in sorted.into_iter().enumerate() {
        let (name, value) = decoded(pair);
        to.push(if at > 0 { b"&" } else { b"" });
        for (part, mark) in [(name, &b"="[..]), (value, b"")] {
            buffer.clear();
            buffer.extend(part);
            push_encoded(to, &buffer);
            to.push(mark);
        }
    }
}

/// The name and value of a pair, decoded.
fn decoded(pair: &str) -> (PercentDecode<'_>, PercentDecode<'_>) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (percent_decode(name.as_bytes()), percent_decode(value.as_bytes()))
}
