//! The options as clap reads them from the command line and the environment, before [`super::Config`] checks them together.

mod tls;
mod traces;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};

use super::address::{ListenAddress, listen_address};
use super::completions::CompletionsFlags;
use super::defaults;
use super::duration::{Seconds, duration, nonzero_duration, retention_duration};
use crate::access::PublicHost;
use crate::domain::JobTypes;
pub use tls::{InternalTlsFlags, TlsFlags};
pub use traces::TracesFlags;

/// Counts the subtasks of a project's asynchronous jobs.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether the command is `serve`. The signal handlers of a server are installed before the command line is parsed.
    pub fn asks_to_serve() -> bool {
        std::env::args_os().nth(1).is_some_and(|command| command == "serve")
    }
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Box<ServeFlags>),
    /// Print a new random token and its line for the access file
    Token(TokenFlags),
    /// Check the access file, load files, certificates and the database of --store and print what is wrong with them; exit 0 or 2
    Check(CheckFlags),
    /// Write all subtasks of a data directory or a database to standard output, in the form that --load reads; stop the server of
    /// a data directory first
    Export(ExportFlags),
    /// Copy a data directory, also while a server uses it; the copy is complete or absent
    Backup(BackupFlags),
    /// Make or upgrade the schema of the database of --store
    Migrate(MigrateFlags),
    /// Ask a running server whether it is ready; exit 0 or 1
    Healthcheck(HealthcheckFlags),
    /// Print completions for a shell
    Completions(CompletionsFlags),
    /// Print the manual page
    Man,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the help texts are the documentation")]
pub struct ServeFlags {
    /// Address of the public API, to which the gateway forwards; a port alone means that port of 127.0.0.1, unix:PATH a Unix
    /// socket [default: 127.0.0.1:8080]
    #[arg(long, env = "SUBJOBS_LISTEN", value_name = "ADDR", value_parser = listen_address)]
    pub listen: Option<ListenAddress>,

    #[command(flatten)]
    pub tls: TlsFlags,

    #[command(flatten)]
    pub internal: HealthcheckFlags,

    /// The access file: callers, their credentials and permissions, in TOML; SIGHUP reloads it
    #[arg(long, env = "SUBJOBS_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,

    /// A host, or host:port, that callers sign, for a gateway that replaces Host; repeatable, at most 8 (in the environment:
    /// separated by commas)
    #[arg(long, env = "SUBJOBS_PUBLIC_HOST", value_name = "NAME", value_delimiter = ',')]
    pub public_host: Vec<PublicHost>,

    /// File of subtasks to load before the server is ready: one JSON object a line, each with its project_id; repeatable (in
    /// the environment: separated by commas)
    #[arg(long, env = "SUBJOBS_LOAD", value_name = "FILE", value_delimiter = ',')]
    pub load: Vec<PathBuf>,

    /// Store subtasks in this directory; without it they are in memory only. With it, --load adds only subtasks that are not
    /// stored yet
    #[arg(long, env = "SUBJOBS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    #[command(flatten)]
    pub store: StoreFlags,

    /// Write connections to the database of --store; reports that wait share one commit of each
    #[arg(long, env = "SUBJOBS_STORE_LANES", value_name = "N", default_value_t = defaults::STORE_LANES, value_parser = value_parser!(u32).range(1..=64))]
    pub store_lanes: u32,

    /// Delete subtasks that ended (SUCCESS, FAILED, ABNORMAL) longer ago than this, as 12h or 30d [default: never]
    #[arg(long, env = "SUBJOBS_RETAIN_FINISHED", value_name = "DURATION", value_parser = retention_duration)]
    pub retain_finished: Option<Duration>,

    /// Requests of the public API that are processed at once; one more gets 503 at once. In addition, a quarter as many may
    /// wait for their bodies
    #[arg(long, env = "SUBJOBS_MAX_IN_FLIGHT", value_name = "N", default_value_t = defaults::MAX_IN_FLIGHT, value_parser = value_parser!(u32).range(1..))]
    pub max_in_flight: u32,

    /// Connections of each listener, fewer if the limit of open files is too low. One more waits in the accept queue; on the
    /// internal listener it gets health and metrics only
    #[arg(long, env = "SUBJOBS_MAX_CONNECTIONS", value_name = "N", default_value_t = defaults::MAX_CONNECTIONS, value_parser = value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Connections of one peer address (for IPv6, one /64) to each listener; one more is closed at once. For listeners without
    /// a gateway in front [default: no limit]
    #[arg(long, env = "SUBJOBS_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub max_connections_per_address: Option<u32>,

    /// Requests that wait for changes at once: wait and events; one more gets 503. A waiting one counts as none of
    /// --max-in-flight, and holds a connection
    #[arg(long, env = "SUBJOBS_MAX_WAITERS", value_name = "N", default_value_t = defaults::MAX_WAITERS, value_parser = value_parser!(u32).range(1..))]
    pub max_waiters: u32,

    /// Let principals with permission workspace:jobs:resetSubJobs delete all subtasks of a project over the internal listener;
    /// for tests
    #[arg(long, env = "SUBJOBS_ALLOW_RESET", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub allow_reset: bool,

    /// Time limit of a public request; then 503
    #[arg(long, env = "SUBJOBS_REQUEST_TIMEOUT", value_name = "DURATION", default_value_t = Seconds(defaults::REQUEST_TIMEOUT), value_parser = nonzero_duration)]
    pub request_timeout: Seconds,

    /// Time limit of a report, its body included; then 503
    #[arg(long, env = "SUBJOBS_REPORT_TIMEOUT", value_name = "DURATION", default_value_t = Seconds(defaults::REPORT_TIMEOUT), value_parser = nonzero_duration)]
    pub report_timeout: Seconds,

    /// From a request's first byte to the end of its head; then the connection closes
    #[arg(long, env = "SUBJOBS_HEAD_TIMEOUT", value_name = "DURATION", default_value_t = Seconds(defaults::HEAD_TIMEOUT), value_parser = nonzero_duration)]
    pub head_timeout: Seconds,

    /// How long a kept-alive connection may be idle; make it longer than the gateway's idle timeout. A new connection has 10s
    /// for its first byte, or this if it is shorter
    #[arg(long, env = "SUBJOBS_IDLE_TIMEOUT", value_name = "DURATION", default_value_t = Seconds(defaults::IDLE_TIMEOUT), value_parser = nonzero_duration)]
    pub idle_timeout: Seconds,

    /// How long running requests may take to finish after SIGTERM or SIGINT
    #[arg(long, env = "SUBJOBS_DRAIN", value_name = "DURATION", default_value_t = Seconds(defaults::DRAIN), value_parser = duration)]
    pub drain: Seconds,

    /// How long the public listener accepts connections after the signal, for load balancers that notice late
    #[arg(long, env = "SUBJOBS_DRAIN_DELAY", value_name = "DURATION", default_value_t = Seconds(defaults::DRAIN_DELAY), value_parser = duration)]
    pub drain_delay: Seconds,

    #[command(flatten)]
    pub log: LogFlags,

    #[command(flatten)]
    pub access_log: AccessLogFlags,

    #[command(flatten)]
    pub traces: TracesFlags,

    #[command(flatten)]
    pub types: JobTypeFlags,

    /// Serve sample subtasks from memory: prints the address of the page, a token (SUBJOBS_DEMO_TOKEN, or a new one) and a curl command
    #[arg(long, env = "SUBJOBS_DEMO", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub demo: bool,

    /// The token of the demo
    #[arg(long, env = "SUBJOBS_DEMO_TOKEN", value_name = "TOKEN", hide = true, hide_env_values = true)]
    pub demo_token: Option<String>,

    /// For tests: serve from memory, on free ports of 127.0.0.1 unless addresses are given, with new tokens unless --access is
    /// given. Prints them as one line of JSON when it is ready. Over the internal listener a test can reset everything, inject
    /// faults and set the clock. Ends when its standard input does, if that is a pipe
    #[arg(long, env = "SUBJOBS_EPHEMERAL", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub ephemeral: bool,

    /// The token of the account of an ephemeral server
    #[arg(long, env = "SUBJOBS_EPHEMERAL_TOKEN", value_name = "TOKEN", hide = true, hide_env_values = true)]
    pub ephemeral_token: Option<String>,

    /// File that has the addresses of both listeners, as one line of JSON, while the server is ready
    #[arg(long, env = "SUBJOBS_ADDRESSES_FILE", value_name = "FILE")]
    pub addresses_file: Option<PathBuf>,
}

/// Flags of `token`.
#[derive(Debug, Args)]
pub struct TokenFlags {
    /// Read a token from standard input and print only its line for the access file
    #[arg(long)]
    pub hash: bool,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckFlags {
    /// The access file to check
    #[arg(long, env = "SUBJOBS_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,

    /// A file of subtasks to check; repeatable (in the environment: separated by commas)
    #[arg(long, env = "SUBJOBS_LOAD", value_name = "FILE", value_delimiter = ',')]
    pub load: Vec<PathBuf>,

    /// The database to check: its schema, the role's rights, and every counter against the subtasks.
    #[command(flatten)]
    pub store: StoreFlags,

    /// Compute the counters of the database from its subtasks again where they differ, before they are checked; reports wait meanwhile
    #[arg(long, requires = "store")]
    pub repair: bool,

    /// The certificate of the public listener, to check as `serve` reads it.
    #[command(flatten)]
    pub tls: TlsFlags,

    /// The certificate of the internal listener.
    #[command(flatten)]
    pub internal_tls: InternalTlsFlags,

    /// Further job types that the load files may name.
    #[command(flatten)]
    pub types: JobTypeFlags,
}

/// Format and filter of the log.
#[derive(Debug, Args)]
pub struct LogFlags {
    /// Format of the log [default: text on a terminal, else json]
    #[arg(long = "log-format", env = "SUBJOBS_LOG_FORMAT", value_name = "LOG_FORMAT")]
    pub format: Option<LogFormat>,

    /// Which events are logged, in the syntax of tracing's filters
    #[arg(long = "log-filter", env = "RUST_LOG", value_name = "FILTER", default_value = "info", hide = true)]
    pub filter: String,
}

/// The access log.
#[derive(Debug, Args)]
pub struct AccessLogFlags {
    /// Write one line of JSON for each request to standard output: time, request id, listener, method, route, status, duration,
    /// principal, project
    #[arg(long, env = "SUBJOBS_ACCESS_LOG", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub access_log: bool,

    /// The share of requests in the access log, 0 to 1; responses of 500 and above are always in it
    #[arg(long = "access-log-sample", env = "SUBJOBS_ACCESS_LOG_SAMPLE", value_name = "RATIO", default_value_t = 1.0, value_parser = ratio)]
    pub sample: f64,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportFlags {
    /// The data directory
    #[arg(long, env = "SUBJOBS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The database.
    #[command(flatten)]
    pub store: StoreFlags,

    /// The log, on standard error.
    #[command(flatten)]
    pub log: LogFlags,

    /// Further job types that the subtasks may have.
    #[command(flatten)]
    pub types: JobTypeFlags,
}

/// Flags of `backup`.
#[derive(Debug, Args)]
pub struct BackupFlags {
    /// The data directory
    #[arg(long, env = "SUBJOBS_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// The directory to make, which must not exist; a server can be started with it
    #[arg(long, env = "SUBJOBS_TO", value_name = "DIR")]
    pub to: PathBuf,
}

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateFlags {
    /// The database.
    #[command(flatten)]
    pub store: StoreFlags,
}

/// The database that several servers share, and how to connect to it.
#[derive(Debug, Args)]
pub struct StoreFlags {
    /// PostgreSQL database that has the subtasks, and that several servers may share:
    /// postgres://USER@HOST:PORT/DATABASE, with several hosts separated by commas. subjobs migrate makes its schema
    #[arg(long, env = "SUBJOBS_STORE", value_name = "URL", hide_env_values = true)]
    pub store: Option<UrlText>,

    /// File with the password for --store
    #[arg(long, env = "SUBJOBS_STORE_PASSWORD_FILE", value_name = "FILE", requires = "store")]
    pub store_password_file: Option<PathBuf>,

    /// File of the certificates, in PEM, that verify the server of --store [default: those of public authorities]
    #[arg(long, env = "SUBJOBS_STORE_CA", value_name = "FILE", requires = "store")]
    pub store_ca: Option<PathBuf>,
}

/// A URL as it was given. It is parsed later, because the command line's errors quote what it cannot parse, and a URL
/// may have a password. For the same reason its `Debug` text is empty.
#[derive(Clone)]
pub struct UrlText(pub(super) String);

impl FromStr for UrlText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for UrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlText").finish_non_exhaustive()
    }
}

/// Flags of `healthcheck`. `serve` has them too.
#[derive(Debug, Args)]
pub struct HealthcheckFlags {
    /// Address for health, metrics and workers' reports; keep it off the public gateway [default: 127.0.0.1:9090]
    #[arg(long, env = "SUBJOBS_INTERNAL_LISTEN", value_name = "ADDR", value_parser = listen_address)]
    pub internal_listen: Option<ListenAddress>,

    /// TLS of the internal listener.
    #[command(flatten)]
    pub tls: InternalTlsFlags,
}

impl HealthcheckFlags {
    /// The address of the server to ask.
    pub fn address(&self) -> ListenAddress {
        self.internal_listen.clone().unwrap_or(defaults::INTERNAL_LISTEN)
    }
}

/// Job types in addition to the built-in ones.
#[derive(Debug, Args)]
pub struct JobTypeFlags {
    /// A job type that the publisher added after this version; repeatable (in the environment: separated by commas)
    #[arg(long = "job-type", env = "SUBJOBS_JOB_TYPE", value_name = "NAME", value_delimiter = ',', value_parser = job_type)]
    pub added: Vec<String>,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Accepts a name that a job type may have.
fn job_type(name: &str) -> Result<String, String> {
    JobTypes::new([name]).map(|_| name.to_owned()).map_err(|error| error.to_string())
}

/// Parses a share.
fn ratio(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "must be a number from 0 to 1".into())
}
