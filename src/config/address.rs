//! The address of a listener: how it is written, and how a client reaches it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The permissions of a Unix socket: its owner and its group may connect.
const DEFAULT_MODE: u32 = 0o660;

/// The most bytes of a Unix socket's path on Linux.
const MAX_UNIX_PATH: usize = 107;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 is any free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The permissions of the file.
        mode: u32,
    },
}

impl ListenAddress {
    /// The address of a TCP socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// What a client on this machine connects to: a URL, or `unix:/path`.
    pub fn url(&self, is_tls: bool) -> String {
        match self {
            Self::Tcp(address) => format!("http{}://{}", if is_tls { "s" } else { "" }, connect_address(*address)),
            Self::Unix { .. } => self.to_string(),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        listen_address(text)
    }
}

/// `127.0.0.1:8080` or `unix:/path`.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Parses `unix:PATH` or `unix:PATH,mode=OCTAL`, or an address for TCP.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let Some(rest) = text.strip_prefix("unix:") else { return tcp_address(text).map(ListenAddress::Tcp) };
    let (path, mode) = match rest.rsplit_once(",mode=") {
        None => (rest, DEFAULT_MODE),
        Some((path, mode)) => match u32::from_str_radix(mode, 8) {
            Ok(parsed @ 0..=0o777) if !mode.starts_with('+') => (path, parsed),
            _ => return Err("must have a mode in octal digits, as unix:/run/subjobs.sock,mode=0660".into()),
        },
    };
    if path.is_empty() || path.contains('\0') || path.len() > MAX_UNIX_PATH {
        return Err(format!("must have a path of 1 to {MAX_UNIX_PATH} bytes, as unix:/run/subjobs.sock"));
    }
    Ok(ListenAddress::Unix { path: path.into(), mode })
}

/// Parses an IP address and a port. A port alone, or with `localhost`, means that port of 127.0.0.1.
fn tcp_address(text: &str) -> Result<SocketAddr, String> {
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
            assert_eq!(listen_address(text), Ok(ListenAddress::Tcp(address.parse().unwrap())), "{text}");
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

    #[test]
    fn a_unix_socket_has_a_path_and_perhaps_a_mode() {
        for (text, path, mode) in [
            ("unix:/run/a.sock", "/run/a.sock", 0o660),
            ("unix:a", "a", 0o660),
            ("unix:/a,mode=0600", "/a", 0o600),
            ("unix:/a,b,mode=666", "/a,b", 0o666),
        ] {
            assert_eq!(listen_address(text), Ok(ListenAddress::Unix { path: path.into(), mode }), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["unix:", "unix:,mode=660", &long] {
            assert!(listen_address(text).unwrap_err().contains("a path of 1 to 107 bytes"), "{text}");
        }
        for text in ["unix:/a,mode=", "unix:/a,mode=rw", "unix:/a,mode=+6", "unix:/a,mode=1777", "unix:/a,mode=8"] {
            assert!(listen_address(text).unwrap_err().contains("octal"), "{text}");
        }
    }
}
