//! The configuration: flags and environment variables, and the checked [`Config`] made from them.

mod address;
mod completions;
mod defaults;
mod duration;
mod environment;
mod flags;
mod traces;

use std::path::PathBuf;
use std::time::Duration;

use crate::access::{AccessHandle, AccessSource, MAX_PUBLIC_HOSTS, PublicHost};
use crate::demo::Demo;
use crate::domain::JobTypes;
use crate::ephemeral::Ephemeral;
use crate::store::{StoreUrl, Target};
use crate::tls::TlsFiles;
pub use address::{ListenAddress, connect_address};
pub use completions::{CompletionsFlags, Shell};
pub use environment::{UnknownVariable, UsageError, has_service_manager, read_command_line, unknown_variables};
pub use flags::{
    BackupFlags, CheckFlags, Cli, Command, ExportFlags, HealthcheckFlags, InternalTlsFlags, JobTypeFlags, LogFlags,
    LogFormat, MigrateFlags, ServeFlags, StoreFlags, TlsFlags, TokenFlags, TracesFlags, UrlText,
};
pub use traces::TraceSettings;

/// Why a configuration cannot be used, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The configuration of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the public API.
    pub listen: ListenAddress,
    /// Address for health, metrics and workers' reports.
    pub internal_listen: ListenAddress,
    /// Certificate of the public listener; without it there is no TLS.
    pub tls: Option<TlsFiles>,
    /// Certificate of the internal listener; without it there is no TLS.
    pub internal_tls: Option<TlsFiles>,
    /// Where the access file comes from.
    pub access: AccessSource,
    /// Hosts that callers may have signed, for a gateway that replaces Host.
    pub public_hosts: Vec<PublicHost>,
    /// Files of subtasks to load before the server is ready.
    pub load: Vec<PathBuf>,
    /// The data directory; without it subtasks are in memory only.
    pub data_dir: Option<PathBuf>,
    /// The database that has the subtasks in place of a data directory.
    pub store: Option<Target>,
    /// Write connections to that database.
    pub store_lanes: u32,
    /// How long a subtask is kept after its end; without it for ever.
    pub retain_finished: Option<Duration>,
    /// Requests of the public API that are processed at once.
    pub max_in_flight: u32,
    /// Open connections of each listener.
    pub max_connections: usize,
    /// Open connections of one peer address to each listener; without it there is no limit.
    pub max_connections_per_address: Option<u32>,
    /// Requests that wait for changes at once: `wait` and `events`.
    pub max_waiters: u32,
    /// Whether a project's subtasks can be deleted all at once, as tests want it.
    pub allow_reset: bool,
    /// Time limit of a public request.
    pub request_timeout: Duration,
    /// Time limit of a report, its body included.
    pub report_timeout: Duration,
    /// Time limit from a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub idle_timeout: Duration,
    /// How long running requests may take to finish after the stop signal.
    pub drain: Duration,
    /// How long the public listener accepts connections after the stop signal.
    pub drain_delay: Duration,
    /// The share of requests in the access log, 0 to 1; without it there is no access log.
    pub access_log_sample: Option<f64>,
    /// Where spans are sent, and of which requests; without it there are no traces.
    pub traces: Option<TraceSettings>,
    /// All known job types.
    pub job_types: JobTypes,
    /// Sample subtasks that change their statuses.
    pub demo: Option<Demo>,
    /// What makes the server one for tests.
    pub ephemeral: Option<Ephemeral>,
    /// The file that has the addresses of both listeners while the server is ready.
    pub addresses_file: Option<PathBuf>,
    /// Environment variables that look like options and set none. The program fills it; the server warns about those that the
    /// access file does not name either.
    #[doc(hidden)]
    pub unknown_variables: Vec<UnknownVariable>,
}

impl Config {
    /// The defaults of the command line, but with ports that the system chooses: what a test wants.
    pub fn on_any_port(access: AccessSource) -> Self {
        Self {
            listen: defaults::loopback(0),
            internal_listen: defaults::loopback(0),
            tls: None,
            internal_tls: None,
            access,
            public_hosts: Vec::new(),
            load: Vec::new(),
            data_dir: None,
            store: None,
            store_lanes: defaults::STORE_LANES,
            retain_finished: None,
            max_in_flight: defaults::MAX_IN_FLIGHT,
            max_waiters: defaults::MAX_WAITERS,
            allow_reset: false,
            max_connections: defaults::MAX_CONNECTIONS as usize,
            max_connections_per_address: None,
            request_timeout: defaults::REQUEST_TIMEOUT,
            report_timeout: defaults::REPORT_TIMEOUT,
            head_timeout: defaults::HEAD_TIMEOUT,
            idle_timeout: defaults::IDLE_TIMEOUT,
            drain: defaults::DRAIN,
            drain_delay: defaults::DRAIN_DELAY,
            access_log_sample: None,
            traces: None,
            job_types: JobTypes::default(),
            demo: None,
            ephemeral: None,
            addresses_file: None,
            unknown_variables: Vec::new(),
        }
    }

    /// Warns about the environment variables that neither an option nor the access file names. Without `access`, whose file
    /// could not be used, it warns about all of [`Config::unknown_variables`].
    pub(crate) fn warn_about_unknown_variables(&self, access: Option<&AccessHandle>) {
        let access = access.map(AccessHandle::load);
        let is_secret = |name: &str| access.as_ref().is_some_and(|access| access.reads_variable(name));
        self.unknown_variables.iter().filter(|unknown| !is_secret(&unknown.name)).for_each(UnknownVariable::warn);
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
            (true, Some(token)) => Some(Demo::with_token(checked_token("SUBJOBS_DEMO_TOKEN", token)?)),
            (true, None) => Some(Demo::new().map_err(no_random_bytes)?),
        };
        let ephemeral = match (flags.ephemeral, flags.ephemeral_token, &flags.access) {
            (false, ..) => None,
            (true, _, Some(_)) => Some(Ephemeral::with_access_file()),
            (true, token, None) => {
                let token = token.map(|token| checked_token("SUBJOBS_EPHEMERAL_TOKEN", token)).transpose()?;
                Some(Ephemeral::with_tokens(token).map_err(no_random_bytes)?)
            }
        };
        let access = match (flags.access, &demo, ephemeral.as_ref().and_then(Ephemeral::tokens)) {
            (Some(path), None, _) => AccessSource::File(path),
            (None, Some(demo), _) => AccessSource::Text(demo.access()),
            (None, None, Some(tokens)) => AccessSource::Text(tokens.access()),
            (None, None, None) => {
                return Err(ConfigError(
                    "there is no access file: give --access FILE, or --demo to try the server, or --ephemeral for tests"
                        .into(),
                ));
            }
            (Some(_), Some(_), _) => {
                let reason = "--demo (SUBJOBS_DEMO) and --access (SUBJOBS_ACCESS) exclude each other: give one of them";
                return Err(ConfigError(reason.into()));
            }
        };
        let store = store_target(&flags.store)?;
        let places = [
            (demo.is_some(), "--demo (SUBJOBS_DEMO)"),
            (ephemeral.is_some(), "--ephemeral (SUBJOBS_EPHEMERAL)"),
            (flags.data_dir.is_some(), "--data-dir (SUBJOBS_DATA_DIR)"),
            (store.is_some(), "--store (SUBJOBS_STORE)"),
        ];
        let given: Vec<_> = places.into_iter().filter_map(|(is_given, option)| is_given.then_some(option)).collect();
        if let [first, second, ..] = given[..] {
            return Err(ConfigError(format!("{first} and {second} exclude each other: give one of them")));
        }
        // A test has ports of its own.
        let any_port = ephemeral.as_ref().map(|_| defaults::loopback(0));
        Ok(Self {
            listen: flags.listen.or(any_port.clone()).unwrap_or(defaults::LISTEN),
            internal_listen: flags.internal.internal_listen.or(any_port).unwrap_or(defaults::INTERNAL_LISTEN),
            tls: flags.tls.files()?,
            internal_tls: flags.internal.tls.files()?,
            access,
            public_hosts: flags.public_host,
            load: flags.load,
            data_dir: flags.data_dir,
            store,
            store_lanes: flags.store_lanes,
            retain_finished: flags.retain_finished,
            max_in_flight: flags.max_in_flight,
            max_waiters: flags.max_waiters,
            allow_reset: flags.allow_reset || ephemeral.is_some(),
            max_connections: flags.max_connections as usize,
            max_connections_per_address: flags.max_connections_per_address,
            request_timeout: flags.request_timeout.0,
            report_timeout: flags.report_timeout.0,
            head_timeout: flags.head_timeout.0,
            idle_timeout: flags.idle_timeout.0,
            drain: flags.drain.0,
            drain_delay: flags.drain_delay.0,
            access_log_sample: flags.access_log.access_log.then_some(flags.access_log.sample),
            traces: flags.traces.settings()?,
            job_types,
            demo,
            ephemeral,
            addresses_file: flags.addresses_file,
            unknown_variables: Vec::new(),
        })
    }
}

/// The token of a variable, which callers can send in a header.
fn checked_token(variable: &str, token: String) -> Result<String, ConfigError> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError(format!("{variable} must be visible ASCII characters, at least one")));
    }
    Ok(token)
}

fn no_random_bytes(error: std::io::Error) -> ConfigError {
    ConfigError(format!("the system has no random bytes for a token: {error}"))
}

/// The database of `--store`, if there is one. The text of an error has no password.
///
/// # Errors
///
/// If the URL is malformed, or a file that it needs cannot be used.
pub fn store_target(flags: &StoreFlags) -> Result<Option<Target>, ConfigError> {
    let Some(UrlText(url)) = &flags.store else { return Ok(None) };
    let url: StoreUrl = url.parse().map_err(|error| ConfigError(format!("--store (SUBJOBS_STORE): {error}")))?;
    let target = Target::new(url, flags.store_password_file.as_deref(), flags.store_ca.as_deref());
    target.map(Some).map_err(|error| ConfigError(error.to_string()))
}

/// What an export reads.
#[derive(Debug)]
pub enum ExportSource {
    /// A data directory that no server uses.
    DataDir(PathBuf),
    /// A database.
    Store(Box<Target>),
}

/// The data directory or the database that `export` reads.
///
/// # Errors
///
/// If there is none or both, or the options of the database cannot be used.
pub fn export_source(flags: &ExportFlags) -> Result<ExportSource, ConfigError> {
    match (&flags.data_dir, store_target(&flags.store)?) {
        (Some(path), None) => Ok(ExportSource::DataDir(path.clone())),
        (None, Some(target)) => Ok(ExportSource::Store(Box::new(target))),
        (None, None) => Err(ConfigError("there is nothing to export: give --data-dir DIR or --store URL".into())),
        (Some(_), Some(_)) => {
            let reason =
                "--data-dir (SUBJOBS_DATA_DIR) and --store (SUBJOBS_STORE) exclude each other: give one of them";
            Err(ConfigError(reason.into()))
        }
    }
}

/// The built-in job types and those of `--job-type`.
///
/// # Errors
///
/// If a name is malformed, or there are too many.
pub fn job_types(added: &[String]) -> Result<JobTypes, ConfigError> {
    JobTypes::new(added).map_err(|error| ConfigError(format!("--job-type (SUBJOBS_JOB_TYPE): {error}")))
}

#[cfg(test)]
mod tests;
