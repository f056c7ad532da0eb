//! The host names that callers use and sign, for requests through a gateway that replaces Host.

use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::uri::Authority;

/// The most host names against which a signature is verified.
pub const MAX_PUBLIC_HOSTS: usize = 8;

/// The shortest time between two warnings of a signature that does not match.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A host, or host and port, as in a caller's Host header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHost(Box<str>);

/// The text is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a host or a host and port, as jobs.example.com or jobs.example.com:8443")]
pub struct InvalidHost;

impl PublicHost {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PublicHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let authority: Authority = text.parse().map_err(|_| InvalidHost)?;
        let has_good_port = || authority.port_u16().is_some_and(|port| port > 0);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let has_host = !authority.host().is_empty() && text.bytes().all(is_plain) && text.len() <= 255;
        if has_host && (authority.host() == text || has_good_port()) { Ok(Self(text.into())) } else { Err(InvalidHost) }
    }
}

/// The configured host names and the time of the last warning. Reloads of the access file keep it.
#[derive(Debug, Default)]
pub(super) struct PublicHosts {
    names: Vec<PublicHost>,
    warned_at: Mutex<Option<Instant>>,
}

impl PublicHosts {
    pub(super) fn new(names: Vec<PublicHost>) -> Self {
        Self { names, warned_at: Mutex::default() }
    }

    pub(super) fn names(&self) -> &[PublicHost] {
        &self.names
    }

    /// Warns that a signature with a known key does not match, at most once a minute, because any caller can cause it.
    pub(super) fn warn_of_mismatch(&self, access_key: &str, host: &[u8]) {
        if self.may_warn(Instant::now()) {
            // Host may hold any bytes; only a valid host is logged.
            let host = std::str::from_utf8(host).ok().and_then(|host| host.parse::<PublicHost>().ok());
            let host = host.as_ref().map(PublicHost::as_str);
            tracing::warn!(
                access_key,
                host,
                "signature does not match: the secret is wrong, or a gateway changes the request; if a gateway replaces Host, \
                 set --public-host to the host that callers use (logged at most once a minute)"
            );
        }
    }

    fn may_warn(&self, now: Instant) -> bool {
        // A panic cannot leave a time half written.
        let mut warned_at = self.warned_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let may = warned_at.is_none_or(|before| now.saturating_duration_since(before) >= WARNING_INTERVAL);
        if may {
            *warned_at = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_host_has_a_host_and_an_optional_port() {
        for good in
            ["jobs.example.com", "jobs.example.com:8443", "localhost", "10.0.0.1:80", "[::1]:8443", "[::1]", "A_b"]
        {
            assert_eq!(good.parse::<PublicHost>().as_ref().map(PublicHost::as_str), Ok(good));
        }
        let long = "x".repeat(256);
        for bad in
            ["", "a b", "http://a", "a/b", "user@a", "a:", "a:x", "a:0", "a:65536", ":80", "a,b", "é", "a?b", &long]
        {
            assert_eq!(bad.parse::<PublicHost>(), Err(InvalidHost), "{bad}");
        }
    }

    #[test]
    fn a_mismatch_is_logged_once_a_minute() {
        let (hosts, start) = (PublicHosts::default(), Instant::now());
        let warned = [0, 0, 59, 60, 61, 119, 120].map(|after| hosts.may_warn(start + Duration::from_secs(after)));
        assert_eq!(warned, [true, false, false, true, false, false, true]);
    }
}
