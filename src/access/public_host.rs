//! The names by which callers know this server, for signed requests that come through a gateway which replaces Host.

use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::uri::Authority;

/// The most names that one signature is tried with.
pub const MAX_PUBLIC_HOSTS: usize = 8;

/// How long after a warning of signatures that do not match there is no other.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A host, or host and port, as a caller's Host says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHost(Box<str>);

/// The text is no host.
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

/// The names given, and when the last warning was. It outlives reloads of the access file.
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

    /// Warns that a signature with a key of somebody's does not match, at most once a minute, since strangers can make it so.
    pub(super) fn warn_of_mismatch(&self, access_key: &str, host: &[u8]) {
        if self.may_warn(Instant::now()) {
            // What stands there may be anything; only a host is worth a line.
            let host = std::str::from_utf8(host).ok().and_then(|host| host.parse::<PublicHost>().ok());
            let host = host.as_ref().map(PublicHost::as_str);
            tracing::warn!(
                access_key,
                host,
                "a signature does not match: the secret is wrong, or a gateway changes the request; if one replaces Host, give \
                 the host that callers use as --public-host (other such signatures are not logged for a minute)"
            );
        }
    }

    fn may_warn(&self, now: Instant) -> bool {
        // What a panic elsewhere has left is a moment as good as any.
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
    fn a_public_host_is_a_host_with_a_port_or_without() {
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
    fn a_mismatch_is_warned_of_once_a_minute() {
        let (hosts, start) = (PublicHosts::default(), Instant::now());
        let warned = [0, 0, 59, 60, 61, 119, 120].map(|after| hosts.may_warn(start + Duration::from_secs(after)));
        assert_eq!(warned, [true, false, false, true, false, false, true]);
    }
}
