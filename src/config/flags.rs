//! The command line and the environment, as they are written; nothing beside [`super::environment`] reads the latter.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};

use super::address::listen_address;
use crate::access::PublicHost;
use crate::domain::JobTypes;

/// Counts the subtasks of a project's asynchronous jobs.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether the command line asks for a server: known before it has been read, for what must be done before that.
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
    /// Read the access file and load files and say what is wrong; exit 0 or 2
    Check(CheckFlags),
    /// Write all subtasks of a data directory that no server uses to standard output, as --load takes them
    Export(ExportFlags),
    /// Ask a running server whether it is ready; exit 0 or 1
    Healthcheck(HealthcheckFlags),
}

/// Flags of `serve`.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "the help texts say it")]
pub struct ServeFlags {
    /// Where the public API listens: what the gateway forwards to; a port alone is one of 127.0.0.1
    #[arg(long, env = "SUBJOBS_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen_address)]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub internal: HealthcheckFlags,

    /// Who may call and what they may do, a TOML file; read again on SIGHUP
    #[arg(long, env = "SUBJOBS_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,

    /// A host, or host:port, that callers sign where a gateway replaces Host; repeatable, at most 8 (in the environment:
    /// separated by commas)
    #[arg(long, env = "SUBJOBS_PUBLIC_HOST", value_name = "NAME", value_delimiter = ',')]
    pub public_host: Vec<PublicHost>,

    /// Subtasks to take in before the server is ready, one JSON object a line, each with its project_id; repeatable (in the
    /// environment: separated by commas)
    #[arg(long, env = "SUBJOBS_LOAD", value_name = "FILE", value_delimiter = ',')]
    pub load: Vec<PathBuf>,

    /// Keep subtasks on disk, in this directory; without it they live in memory only. With it, --load adds only subtasks that
    /// are not stored yet
    #[arg(long, env = "SUBJOBS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Drop subtasks that ended (SUCCESS, FAILED, ABNORMAL) longer ago than this, as 12h or 30d [default: never]
    #[arg(long, env = "SUBJOBS_RETAIN_FINISHED", value_name = "DURATION", value_parser = retention_duration)]
    pub retain_finished: Option<Duration>,

    /// Requests of the public API worked on at once; one more gets 503 at once
    #[arg(long, env = "SUBJOBS_MAX_IN_FLIGHT", value_name = "N", default_value = "1024", value_parser = value_parser!(u32).range(1..))]
    pub max_in_flight: u32,

    /// Connections of each listener, fewer if the limit of open files is too low. One more waits unaccepted; on the internal
    /// listener it may ask for health and metrics only
    #[arg(long, env = "SUBJOBS_MAX_CONNECTIONS", value_name = "N", default_value = "4096", value_parser = value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Connections of one peer address (of IPv6, one /64) to each listener; one more is closed at once. For listeners that no
    /// gateway stands in front of [default: no bound]
    #[arg(long, env = "SUBJOBS_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub max_connections_per_address: Option<u32>,

    /// How long a public request may take; then 503
    #[arg(long, env = "SUBJOBS_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = nonzero_duration)]
    pub request_timeout: Duration,

    /// How long a report may take, its body included; then 503
    #[arg(long, env = "SUBJOBS_REPORT_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = nonzero_duration)]
    pub report_timeout: Duration,

    /// From a request's first byte to the end of its head; then the connection closes
    #[arg(long, env = "SUBJOBS_HEAD_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = nonzero_duration)]
    pub head_timeout: Duration,

    /// How long a kept-alive connection may have no request; keep it above your gateway's own. A new one has 10s for its first
    /// byte, or this if it is shorter
    #[arg(long, env = "SUBJOBS_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = nonzero_duration)]
    pub idle_timeout: Duration,

    /// How long SIGTERM or SIGINT lets running requests finish
    #[arg(long, env = "SUBJOBS_DRAIN", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub drain: Duration,

    /// How long the public listener goes on taking connections after the signal, for balancers that are slow to notice
    #[arg(long, env = "SUBJOBS_DRAIN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub drain_delay: Duration,

    #[command(flatten)]
    pub log: LogFlags,

    #[command(flatten)]
    pub types: JobTypeFlags,

    /// Built-in access and sample subtasks, in memory: prints a token (SUBJOBS_DEMO_TOKEN, or a new one) and a curl line
    #[arg(long, env = "SUBJOBS_DEMO", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub demo: bool,

    /// The demo's token
    #[arg(long, env = "SUBJOBS_DEMO_TOKEN", value_name = "TOKEN", hide = true, hide_env_values = true)]
    pub demo_token: Option<String>,
}

/// Flags of `token`.
#[derive(Debug, Args)]
pub struct TokenFlags {
    /// Read a token from standard input and print its line for the access file only
    #[arg(long)]
    pub hash: bool,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckFlags {
    /// The access file to read
    #[arg(long, env = "SUBJOBS_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,

    /// A file of subtasks to read; repeatable (in the environment: separated by commas)
    #[arg(long, env = "SUBJOBS_LOAD", value_name = "FILE", value_delimiter = ',')]
    pub load: Vec<PathBuf>,

    /// The job types that the load files may name beside the built-in ones.
    #[command(flatten)]
    pub types: JobTypeFlags,
}

/// How and what is logged.
#[derive(Debug, Args)]
pub struct LogFlags {
    /// How the log is written [default: text on a terminal, else json]
    #[arg(long = "log-format", env = "SUBJOBS_LOG_FORMAT", value_name = "LOG_FORMAT")]
    pub format: Option<LogFormat>,

    /// Which events are logged, in the syntax of tracing's filters
    #[arg(long = "log-filter", env = "RUST_LOG", value_name = "FILTER", default_value = "info", hide = true)]
    pub filter: String,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportFlags {
    /// The data directory
    #[arg(long, env = "SUBJOBS_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Its progress, and what was found.
    #[command(flatten)]
    pub log: LogFlags,

    /// The job types that its subtasks may have beside the built-in ones.
    #[command(flatten)]
    pub types: JobTypeFlags,
}

/// Flags of `healthcheck`, which `serve` has too.
#[derive(Debug, Args)]
pub struct HealthcheckFlags {
    /// Where health, metrics and workers' reports are; never behind the public gateway
    #[arg(long, env = "SUBJOBS_INTERNAL_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = listen_address)]
    pub internal_listen: SocketAddr,
}

/// Job types beside the built-in ones.
#[derive(Debug, Args)]
pub struct JobTypeFlags {
    /// A job type that the publisher has added since; repeatable (in the environment: separated by commas)
    #[arg(long = "job-type", env = "SUBJOBS_JOB_TYPE", value_name = "NAME", value_delimiter = ',', value_parser = job_type)]
    pub added: Vec<String>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A name that may be a job type's.
fn job_type(name: &str) -> Result<String, String> {
    JobTypes::new([name]).map(|_| name.to_owned()).map_err(|error| error.to_string())
}

/// The longest time that may be asked for: a day.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// A time as `10s`, `500ms` or `1m 30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let time: jiff::SignedDuration =
        text.parse().map_err(|_| "must be a number and a unit, as 10s, 500ms or 1m30s".to_owned())?;
    let time = Duration::try_from(time).map_err(|_| "must not be negative".to_owned())?;
    if time > MAX_DURATION { Err("must be at most 24h".into()) } else { Ok(time) }
}

/// A time in days as well, which are of 24 hours: one second to a hundred years.
fn retention_duration(text: &str) -> Result<Duration, String> {
    let time: jiff::Span = text.parse().map_err(|_| "must be a number and a unit, as 12h or 30d".to_owned())?;
    let time = time.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
    let time = time.map_err(|_| "must be in days, hours, minutes or seconds, as 12h or 30d".to_owned())?;
    match Duration::try_from(time) {
        Ok(time) if (Duration::from_secs(1)..=100 * 365 * MAX_DURATION).contains(&time) => Ok(time),
        _ => Err("must be 1s to 36500d".into()),
    }
}

fn nonzero_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must not be zero".into()),
        time => Ok(time),
    }
}
