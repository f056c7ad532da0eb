//! Conditional requests: `If-None-Match` (RFC 9110, section 13.1.2).

use http::HeaderMap;
use http::header::IF_NONE_MATCH;

/// Whether `If-None-Match` lists the entity tag, which is in quotes, or is `*`. A weak tag matches as a strong one does. What
/// follows a syntax error is ignored.
pub fn is_in_if_none_match(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|list| lists(list.as_bytes(), tag.as_bytes()))
}

fn lists(mut list: &[u8], tag: &[u8]) -> bool {
    loop {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        if let [b'*'] | [b'*', b' ' | b'\t' | b',', ..] = list {
            return true;
        }
        let opaque = list.strip_prefix(b"W/").unwrap_or(list);
        let Some(length) = opaque.strip_prefix(b"\"").and_then(|text| memchr::memchr(b'"', text)) else { return false };
        let (one, rest) = opaque.split_at(length + 2);
        if one == tag {
            return true;
        }
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_lists() {
        let tag = b"\"42\"";
        for list in [
            "\"42\"",
            "W/\"42\"",
            "*",
            " * ",
            "\"1\", \"42\"",
            "\"1\",W/\"42\",\"3\"",
            ", ,\"a,b\" ,\"42\"",
            "\"\",\"42\"",
            "\"x\",*",
            "*,\"x\"",
        ] {
            assert!(lists(list.as_bytes(), tag), "{list}");
        }
        for list in
            ["", "42", "\"42", "42\"", "\"421\"", "\"4\"2\"", "w/\"42\"", "**", "\"*\"", "x, \"42\"", "W/ \"42\""]
        {
            assert!(!lists(list.as_bytes(), tag), "{list}");
        }
    }
}
