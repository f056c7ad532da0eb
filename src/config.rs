//! What the operator says: raw flags and environment, and the checked [`Config`] made from them.

mod address;
mod environment;
mod flags;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::access::{AccessSource, MAX_PUBLIC_HOSTS, PublicHost};
use crate::demo::Demo;
use crate::domain::JobTypes;
pub use environment::{UnknownVariable, UsageError, read_command_line, unknown_variables};
pub use flags::{
    CheckFlags, Cli, Command, ExportFlags, HealthcheckFlags, JobTypeFlags, LogFlags, LogFormat, ServeFlags, TokenFlags,
};

/// A configuration that cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the public API listens.
    pub listen: SocketAddr,
    /// Where health, metrics and workers' reports are.
    pub internal_listen: SocketAddr,
    /// Who may call.
    pub access: AccessSource,
    /// What callers may have signed as Host, where a gateway replaces it.
    pub public_hosts: Vec<PublicHost>,
    /// Files of subtasks, taken in before the server is ready.
    pub load: Vec<PathBuf>,
    /// Where subtasks are kept; without it they are in memory only.
    pub data_dir: Option<PathBuf>,
    /// How long subtasks are kept that have ended; without it for ever.
    pub retain_finished: Option<Duration>,
    /// Requests of the public API worked on at once.
    pub max_in_flight: u32,
    /// Connections of each listener.
    pub max_connections: usize,
    /// Connections of one peer address to each listener; without it there is no bound.
    pub max_connections_per_address: Option<u32>,
    /// For a public request.
    pub request_timeout: Duration,
    /// For a report, its body included.
    pub report_timeout: Duration,
    /// From a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// For a connection without a request.
    pub idle_timeout: Duration,
    /// How long running requests may take to finish at the end.
    pub drain: Duration,
    /// How long the public listener goes on taking connections at the end.
    pub drain_delay: Duration,
    /// The job types that there are.
    pub job_types: JobTypes,
    /// Sample subtasks and an access of their own, in place of `access`.
    pub demo: Option<Demo>,
}

impl Config {
    /// The defaults of the command line, on ports that the system chooses: what a test wants.
    pub fn on_any_port(access: AccessSource) -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            internal_listen: loopback,
            access,
            public_hosts: Vec::new(),
            load: Vec::new(),
            data_dir: None,
            retain_finished: None,
            max_in_flight: 1024,
            max_connections: 4096,
            max_connections_per_address: None,
            request_timeout: Duration::from_secs(10),
            report_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            job_types: JobTypes::default(),
            demo: None,
        }
    }
}

impl TryFrom<ServeFlags> for Config {
    type Error = ConfigError;

    fn try_from(flags: ServeFlags) -> Result<Self, ConfigError> {
        let job_types = job_types(&flags.types.added)?;
        if flags.public_host.len() > MAX_PUBLIC_HOSTS {
            return Err(ConfigError(format!("--public-host: at most {MAX_PUBLIC_HOSTS} may be given")));
        }
        let demo = match (flags.demo, flags.demo_token) {
            (false, _) => None,
            (true, Some(token)) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(ConfigError("SUBJOBS_DEMO_TOKEN must be visible ASCII characters, at least one".into()));
            }
            (true, Some(token)) => Some(Demo::with_token(token)),
            (true, None) => Some(Demo::new().map_err(|error| ConfigError(format!("no random token: {error}")))?),
        };
        let access = match (flags.access, &demo) {
            (Some(path), None) => AccessSource::File(path),
            (None, Some(demo)) => AccessSource::Text(demo.access()),
            (None, None) => {
                return Err(ConfigError("nobody could call: give --access FILE, or --demo for a first look".into()));
            }
            (Some(_), Some(_)) => {
                let reason =
                    "--demo (SUBJOBS_DEMO) has an access of its own: give it or --access (SUBJOBS_ACCESS), not both";
                return Err(ConfigError(reason.into()));
            }
        };
        if demo.is_some() && flags.data_dir.is_some() {
            let reason = "--demo (SUBJOBS_DEMO) keeps nothing: give it or --data-dir (SUBJOBS_DATA_DIR), not both";
            return Err(ConfigError(reason.into()));
        }
        Ok(Self {
            listen: flags.listen,
            internal_listen: flags.internal.internal_listen,
            access,
            public_hosts: flags.public_host,
            load: flags.load,
            data_dir: flags.data_dir,
            retain_finished: flags.retain_finished,
            max_in_flight: flags.max_in_flight,
            max_connections: flags.max_connections as usize,
            max_connections_per_address: flags.max_connections_per_address,
            request_timeout: flags.request_timeout,
            report_timeout: flags.report_timeout,
            head_timeout: flags.head_timeout,
            idle_timeout: flags.idle_timeout,
            drain: flags.drain,
            drain_delay: flags.drain_delay,
            job_types,
            demo,
        })
    }
}

/// The built-in job types and those of the flags.
pub fn job_types(added: &[String]) -> Result<JobTypes, ConfigError> {
    JobTypes::new(added).map_err(|error| ConfigError(format!("--job-type (SUBJOBS_JOB_TYPE): {error}")))
}

#[cfg(test)]
mod tests;
