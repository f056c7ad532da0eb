//! Where traces are sent, and of which requests.

use http::Uri;

use super::ConfigError;
use super::flags::{TracesFlags, UrlText};

/// Traces that a server sends to a collector.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// The URL to which an OTLP exporter sends spans over HTTP.
    pub endpoint: Uri,
    /// The share, 0 to 1, of requests whose caller names no trace.
    pub sample: f64,
}

impl TracesFlags {
    /// The settings, if a collector is given. The text of an error has no part of the URL, which may have a password.
    pub(super) fn settings(&self) -> Result<Option<TraceSettings>, ConfigError> {
        let Some(UrlText(url)) = &self.traces_endpoint else { return Ok(None) };
        let endpoint = endpoint(url)
            .map_err(|reason| ConfigError(format!("--traces-endpoint (SUBJOBS_TRACES_ENDPOINT): {reason}")))?;
        Ok(Some(TraceSettings { endpoint, sample: self.traces_sample }))
    }
}

/// The URL of a collector. Parts that would not be sent, or could be a secret, are refused.
fn endpoint(url: &str) -> Result<Uri, &'static str> {
    if url.contains(['?', '#']) {
        return Err("must have no query and no fragment");
    }
    let url: Uri = url.parse().map_err(|_| "must be a URL")?;
    match (url.scheme_str(), url.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            Err("must have no user and no password: OTEL_EXPORTER_OTLP_HEADERS sets headers")
        }
        (Some("http" | "https"), Some(authority))
            if authority.as_str() != authority.host() && authority.port_u16().is_none_or(|port| port == 0) =>
        {
            Err("must have a port from 1 to 65535, or none")
        }
        (Some("http" | "https"), Some(_)) if url.path() == "/" => Err("must have a path, most often /v1/traces"),
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err("must be http:// or https:// and a host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_collector_has_a_scheme_a_host_and_a_path() {
        for url in ["http://127.0.0.1:4318/v1/traces", "https://collector.example/v1/traces", "http://[::1]:4318/x"] {
            assert_eq!(endpoint(url).unwrap().to_string(), url);
        }
        for (url, reason) in [
            ("http://127.0.0.1:4318", "path"),
            ("http://127.0.0.1:4318/", "path"),
            ("http://127.0.0.1:4318/v1/traces?key=secret", "query"),
            ("http://127.0.0.1:4318/v1/traces#x", "fragment"),
            ("http://user:secret@127.0.0.1:4318/v1/traces", "password"),
            ("http://127.0.0.1:0/v1/traces", "port"),
            ("http://127.0.0.1:99999/v1/traces", "port"),
            ("http://127.0.0.1:/v1/traces", "port"),
            ("127.0.0.1:4318/v1/traces", "URL"),
            ("grpc://127.0.0.1:4317/v1/traces", "http://"),
            ("/v1/traces", "http://"),
            ("http:///v1/traces", "URL"),
            ("", "URL"),
        ] {
            let error = endpoint(url).unwrap_err();
            assert!(error.contains(reason) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
