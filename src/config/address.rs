//! The address of a listener: how it is written, and how a client reaches it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Parses an IP address and a port. A port alone, or with `localhost`, means that port of 127.0.0.1.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(format!("must have a port, as {}", SocketAddr::new(ip, 8080)));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        match port.parse() {
            Ok(port) if text.bytes().all(|byte| byte != b'+') => return Ok((Ipv4Addr::LOCALHOST, port).into()),
            _ if port.eq_ignore_ascii_case("localhost") => return Err("must have a port, as localhost:8080".into()),
            _ => {}
        }
    }
    if host.parse::<IpAddr>().is_ok() || (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())) {
        if port.parse::<u16>().is_err() {
            return Err("must have a port from 0 to 65535, as 127.0.0.1:8080".into());
        }
        return Err("must have an IP address before its port, as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".into());
    }
    Err("must be an IP address and a port, as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".into())
}

/// The address at which a client on this machine reaches a listener: loopback in place of a wildcard address.
pub fn connect_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_bare_ports_are_accepted() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]:80", "[::]:80"),
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("LocalHost:8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
        ] {
            assert_eq!(listen_address(text), Ok(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_invalid_address_gets_an_example() {
        for (text, said) in [
            ("0.0.0.0", "must have a port, as 0.0.0.0:8080"),
            ("::1", "must have a port, as [::1]:8080"),
            ("[::1]", "must have a port, as [::1]:8080"),
            ("localhost", "must have a port, as localhost:8080"),
            ("localhost:", "as 127.0.0.1:8080"),
            ("example.com:8080", "must have an IP address before its port, as 127.0.0.1:8080"),
            ("*:8080", "as 127.0.0.1:8080, 0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "as 127.0.0.1:8080"),
            ("example.com", "as 127.0.0.1:8080"),
            ("65536", "must have a port from 0 to 65535, as 127.0.0.1:8080"),
            (":65536", "must have a port from 0 to 65535"),
            ("127.0.0.1:99999", "must have a port from 0 to 65535"),
            ("127.0.0.1:", "must have a port from 0 to 65535"),
            ("+8080", "as 127.0.0.1:8080"),
            ("-1", "as 127.0.0.1:8080"),
            ("", "as 127.0.0.1:8080"),
            ("a b", "as 127.0.0.1:8080"),
            ("127.0.0.1:8080 ", "as 127.0.0.1:8080"),
        ] {
            let error = listen_address(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
