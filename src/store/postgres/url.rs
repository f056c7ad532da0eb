//! The URL of a PostgreSQL database, parsed into what a connection needs, and printed without its password.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::config::{Host, SslMode};

/// The parameters that the query of a URL may have.
const PARAMETERS: [&str; 10] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslmode",
    "target_session_attrs",
];

/// The values of `synchronous_commit` with which an acknowledged report is on the disk of the primary.
const DURABLE: [&str; 3] = ["on", "remote_apply", "remote_write"];

/// Why a text is not the URL of a database. The text of the error has no part of a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreUrlError(String);

/// The URL of a PostgreSQL database: `postgres://USER[:PASSWORD]@HOST[:PORT][,HOST[:PORT]...]/DATABASE[?PARAMETER=VALUE&...]`.
///
/// Its texts, `Debug` too, have neither the password nor the parameters.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// Without hosts.
    config: tokio_postgres::Config,
    endpoints: Vec<Endpoint>,
}

/// One of the servers that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Whether the connection is encrypted and the server's certificate verified.
    pub(super) is_encrypted: bool,
}

impl StoreUrl {
    /// Whether the URL has a password.
    pub(super) fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// The servers, in the order of the URL; at least one.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The configuration of a connection to one of the servers.
    pub(super) fn config(&self, endpoint: &Endpoint) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        match &endpoint.host {
            Host::Tcp(host) => config.host(host),
            Host::Unix(path) => config.host_path(path),
        };
        let ssl_mode = if endpoint.is_encrypted { SslMode::Require } else { SslMode::Disable };
        config.port(endpoint.port).ssl_mode(ssl_mode);
        config
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| error("must begin with postgres://, as postgres://user@host/database"))?;
        // As the parser of the client does: what is before the first `@` is the user and the password.
        let credentials_end = rest.find('@').map_or(0, |at| at + 1);
        if rest[credentials_end..].contains('@') {
            return Err(error("has more than one @: write one in a password as %40"));
        }
        let path_end = rest[credentials_end..].find('?').map_or(rest.len(), |at| credentials_end + at);
        let mut encryption = Encryption::ByHost;
        let mut parameters = Vec::new();
        for pair in rest[path_end..].trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !PARAMETERS.contains(&name) && name != "user" {
                return Err(error(format!("the parameter {name:?} is unknown; known are {}", PARAMETERS.join(", "))));
            }
            let decoded = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" => encryption = Encryption::parse(&decoded)?,
                "target_session_attrs" if decoded != "read-write" => {
                    return Err(error("target_session_attrs must be read-write: a replica reads and writes"));
                }
                "target_session_attrs" => {}
                "options" => {
                    check_synchronous_commit(&decoded)?;
                    parameters.push(pair);
                }
                _ => parameters.push(pair),
            }
        }
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let plain = format!("postgres://{}{query}", &rest[..path_end]);
        let parsed: tokio_postgres::Config = plain.parse().map_err(|cause: tokio_postgres::Error| {
            // The cause names the option, and no value.
            error(std::error::Error::source(&cause).map_or_else(|| cause.to_string(), ToString::to_string))
        })?;
        Self::new(&parsed, encryption)
    }
}

impl StoreUrl {
    fn new(parsed: &tokio_postgres::Config, encryption: Encryption) -> Result<Self, StoreUrlError> {
        let user = parsed.get_user().filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| error("must name a user, as postgres://user@host/database"))?;
        let ports = parsed.get_ports();
        let hosts = parsed.get_hosts();
        if hosts.is_empty() {
            return Err(error("must name a host, as postgres://user@host/database"));
        }
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(error("must have one port, or as many as hosts"));
        }
        let mut endpoints = Vec::new();
        for (at, host) in hosts.iter().enumerate() {
            if let Host::Tcp(name) = host
                && !is_host(name)
            {
                return Err(error("a host is invalid; in a password write % as %25, @ as %40, : as %3A and / as %2F"));
            }
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            endpoints.push(Endpoint { host: host.clone(), port, is_encrypted: encryption.of(host)? });
        }
        let mut config = tokio_postgres::Config::new();
        config.user(user).dbname(parsed.get_dbname().unwrap_or(user));
        config.application_name(parsed.get_application_name().unwrap_or("subjobs"));
        config.channel_binding(parsed.get_channel_binding());
        if let Some(password) = parsed.get_password() {
            config.password(password);
        }
        if let Some(options) = parsed.get_options() {
            config.options(options);
        }
        if let Some(timeout) = parsed.get_connect_timeout() {
            config.connect_timeout(*timeout);
        }
        Ok(Self { config, endpoints })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let hosts: Vec<_> = self.endpoints.iter().map(Endpoint::to_string).collect();
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        let (user, database) = (name(self.config.get_user()), name(self.config.get_dbname()));
        write!(f, "postgres://{}@{}/{}", encode(&user), hosts.join(","), encode(&database))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "[{host}]")?,
            Host::Tcp(host) => f.write_str(host)?,
            Host::Unix(path) => write!(f, "{}", utf8_percent_encode(&path.to_string_lossy(), NON_ALPHANUMERIC))?,
        }
        write!(f, ":{}", self.port)
    }
}

/// What `sslmode` asks for.
#[derive(Clone, Copy)]
enum Encryption {
    /// Of all hosts but those of this machine.
    ByHost,
    Never,
    /// With a verified certificate. A Unix socket has none.
    Always,
    /// Of this machine only, and then not at all: a server that is not asked for its certificate could be any.
    Prefer,
}

impl Encryption {
    fn parse(mode: &str) -> Result<Self, StoreUrlError> {
        match mode {
            "disable" => Ok(Self::Never),
            "require" | "verify-full" => Ok(Self::Always),
            "prefer" => Ok(Self::Prefer),
            _ => Err(error("sslmode must be disable, require or verify-full; both of these verify the certificate")),
        }
    }

    /// Whether a connection to this host is encrypted.
    fn of(self, host: &Host) -> Result<bool, StoreUrlError> {
        let is_local = match host {
            Host::Unix(_) => return Ok(false),
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        };
        match self {
            Self::ByHost => Ok(!is_local),
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::Prefer if is_local => Ok(false),
            Self::Prefer => Err(error("sslmode=prefer does not protect a connection to another machine: use require")),
        }
    }
}

/// Whether a name can be that of a host; nothing of a misplaced password is taken for one.
fn is_host(name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    !name.is_empty() && name.chars().all(is_part) && (!name.contains(':') || name.parse::<IpAddr>().is_ok())
}

/// Refuses options that let the server acknowledge what is not yet on its disk.
fn check_synchronous_commit(options: &str) -> Result<(), StoreUrlError> {
    for (_, rest) in options.match_indices("synchronous_commit").map(|(at, name)| (at, &options[at + name.len()..])) {
        let value = rest.trim_start_matches(['=', ' ', '\'', '"']);
        let value = value.split([' ', '\'', '"', '\\']).next().unwrap_or_default();
        if !DURABLE.contains(&value) {
            return Err(error(format!("synchronous_commit must be one of {}", DURABLE.join(", "))));
        }
    }
    Ok(())
}

fn error(reason: impl Into<String>) -> StoreUrlError {
    StoreUrlError(reason.into())
}

#[cfg(test)]
mod tests;
