//! Validation of a Host header: a host and an optional port.
//!
//! Source: RFC 9110, section 7.2, and RFC 3986, sections 3.2.2 and 3.2.3.

use std::net::Ipv6Addr;

/// Whether this is a host: a name, an IPv4 address or an IPv6 address in brackets, with an optional `:` and port. An empty value
/// is valid too: it says that the target has no host.
pub fn is_host(value: &[u8]) -> bool {
    let end = value.iter().position(|byte| !NAME[usize::from(*byte)]).unwrap_or(value.len());
    // Fast path: a name without a port.
    end == value.len() || is_host_with_more(value, end)
}

/// As [`is_host`], for a value in which the byte at `end` is the first that is not in [`NAME`].
fn is_host_with_more(value: &[u8], end: usize) -> bool {
    match value[end] {
        b':' => end > 0 && is_port(&value[end + 1..]),
        b'[' if end == 0 => {
            let Some(close) = value.iter().position(|byte| *byte == b']') else { return false };
            let address = std::str::from_utf8(&value[1..close]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            let is_end = match value[close + 1..].split_first() {
                None => true,
                Some((colon, port)) => *colon == b':' && is_port(port),
            };
            address.is_some() && is_end
        }
        b'%' => {
            let Some(digits) = value.get(end + 1..end + 3) else { return false };
            let rest = &value[end + 3..];
            let more = rest.iter().position(|byte| !NAME[usize::from(*byte)]);
            digits.iter().all(u8::is_ascii_hexdigit)
                && match more {
                    None => true,
                    Some(more) if rest[more] == b':' => is_port(&rest[more + 1..]),
                    Some(more) if rest[more] == b'%' => is_host_with_more(rest, more),
                    Some(_) => false,
                }
        }
        _ => false,
    }
}

/// Whether this is a port: a decimal number up to 65,535, or empty.
fn is_port(text: &[u8]) -> bool {
    let number = text.iter().try_fold(0u32, |number, byte| {
        let more = 10 * number + char::from(*byte).to_digit(10)?;
        (more <= u32::from(u16::MAX)).then_some(more)
    });
    number.is_some()
}

/// The bytes that a name may have unencoded: the unreserved characters and sub-delimiters of RFC 3986.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[at] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*'..=b',' | b';' | b'='
            );
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_hosts_are_valid() {
        for host in [
            "",
            "h",
            "a.example",
            "A_b-c~.",
            "127.0.0.1",
            "127.0.0.1:8080",
            "h:",
            "h:0",
            "h:65535",
            "h:00080",
            "[::1]",
            "[::1]:",
            "[2001:db8::7]:443",
            "[::ffff:192.0.2.1]",
            "%C3%A9",
            "a%20b%2F:80",
            "a!$&'()*+,;=b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for other in [
            "a b",
            " h",
            "user@a",
            "http://x",
            "a/b",
            "a:b:c",
            "::1",
            "[::1",
            "::1]",
            "[::1]80",
            "[::1]:x",
            "[]",
            "[a]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[::1][::1]",
            "a[::1]",
            ":",
            ":80",
            "h:x",
            "h:+1",
            "h:-1",
            "h:8 0",
            "h:65536",
            "h:99999999999999999999",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "<a>",
            "{a}",
            "a|b",
            "a^b",
            "a`b",
            "a%",
            "a%2",
            "a%zz",
            "a%20:x",
            "a%20@",
            "é",
            "a\tb",
            "a\0b",
            "a\x7fb",
        ] {
            assert!(!is_host(other.as_bytes()), "{other}");
        }
        assert!(!is_host(b"\xff"));
    }

    proptest! {
        /// A text is a host exactly if the URI type parses it as an authority, without a user.
        #[test]
        fn agrees_with_the_uri_type(text in "[a-c._~0-9 /]{1,6}(:[0-9a ]{0,6})?") {
            prop_assume!(!text.contains('/'));
            let port = text.split_once(':').is_none_or(|(_, port)| port.is_empty() || port.parse::<u16>().is_ok());
            let authority = text.parse::<http::uri::Authority>().is_ok();
            prop_assert_eq!(is_host(text.as_bytes()), authority && port, "{}", text);
        }
    }
}
