//! The program: arguments, then configuration, then the log, then the server; and the exit codes.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::process::ExitCode;
use std::thread;

use subjobs::access::reload_on_signal;
use subjobs::cli::{self, ExportError};
use subjobs::config::{
    CheckFlags, Cli, Command, Config, ExportFlags, LogFlags, LogFormat, ServeFlags, UnknownVariable, UsageError,
    read_command_line, unknown_variables,
};
use subjobs::demo;
use subjobs::load::LoadError;
use subjobs::output::{Stdout, log};
use subjobs::server::{Server, ServerError};
use subjobs::store::OpenError;
use subjobs::telemetry;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bad configuration or input.
const BAD_INPUT: u8 = 2;

/// A data directory that does not hold what was acknowledged.
const DAMAGED: u8 = 3;

/// Anything else.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    // Before anything else: until then a signal ends the process, and one that asks for a reload must not.
    let early = Cli::asks_to_serve().then(Early::listen);
    let code = match read_command_line() {
        Ok(cli) => run_command(cli.command, early),
        Err(refused) => answer(&refused),
    };
    telemetry::flush();
    code
}

fn run_command(command: Command, early: Option<io::Result<Early>>) -> ExitCode {
    let done = match command {
        Command::Serve(flags) => return serve(*flags, early.unwrap_or_else(Early::listen)),
        Command::Token(flags) if flags.hash => Stdout::open().and_then(|out| cli::hash_token(stdin(), out)),
        Command::Token(_) => Stdout::open().and_then(cli::new_token),
        Command::Check(flags) => return check(&flags),
        Command::Export(flags) => return export(&flags),
        Command::Healthcheck(flags) => cli::healthcheck(flags.internal_listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(LogFormat::Text, &error, BAD_INPUT),
        Err(error) => complain(LogFormat::Text, &error, FAILED),
    }
}

fn complain(format: LogFormat, error: &dyn Display, code: u8) -> ExitCode {
    telemetry::write_fatal_error(format, error);
    ExitCode::from(code)
}

/// Answers a command line that asks for help, or that cannot be used.
fn answer(refused: &UsageError) -> ExitCode {
    let error = &refused.error;
    if !error.use_stderr() {
        let written = if stdout().is_terminal() {
            error.print()
        } else {
            Stdout.write_all(error.render().to_string().as_bytes())
        };
        return match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => complain(LogFormat::Text, &error, FAILED),
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        };
    }
    let format = if refused.has_log { telemetry::format_or_default(refused.log_format) } else { LogFormat::Text };
    match format {
        LogFormat::Json => telemetry::write_fatal_error(format, &refused.in_one_line()),
        LogFormat::Text if stderr().is_terminal() => drop(error.print()),
        LogFormat::Text => log::write_last_words(&error.render().to_string()),
    }
    ExitCode::from(BAD_INPUT)
}

/// The exit code is the answer, so it stands even if nobody can be told the rest.
fn check(flags: &CheckFlags) -> ExitCode {
    let mut said = Vec::new();
    let is_good = cli::check(flags, &mut said).unwrap_or(false);
    let _ = Stdout.write_all(&said);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) }
}

/// Starts the log of a command; the format that it has.
fn start_log(flags: &LogFlags) -> LogFormat {
    let format = telemetry::format_or_default(flags.format);
    telemetry::start(format, &flags.filter);
    for UnknownVariable { name, nearest } in unknown_variables() {
        tracing::warn!(name, nearest, "an environment variable that looks like an option sets none");
    }
    format
}

/// The runtime, and the signals that have come since it began. Many of one kind are one.
struct Early {
    runtime: Runtime,
    signals: Signals,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Otherwise a file that has reached its largest size, the log's for one, ends the program.
    _file_too_large: Signal,
}

impl Early {
    fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        let signals = Signals { terminate, interrupt, hang_up: signal(SignalKind::hangup())?, _file_too_large };
        drop(inside);
        Ok(Self { runtime, signals })
    }
}

fn serve(flags: ServeFlags, early: io::Result<Early>) -> ExitCode {
    let format = start_log(&flags.log);
    let config = match Config::try_from(flags) {
        Ok(config) => config,
        Err(error) => return complain(format, &error, BAD_INPUT),
    };
    // Connections are what most descriptors are for, and the usual soft limit is far below what may be open.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let Early { runtime, signals } = match early {
        Ok(early) => early,
        Err(error) => return complain(format, &error, FAILED),
    };
    let ended = runtime.block_on(run(config, signals));
    // A thread that still reads a load file must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(format, &error, after_server(&error)),
    }
}

fn export(flags: &ExportFlags) -> ExitCode {
    let format = start_log(&flags.log);
    // Whether anybody gets it is asked last: what is wrong with the data directory is the better answer.
    let exported = cli::export(flags, Stdout).and_then(|()| Ok(Stdout::open()?.sync()?));
    match exported {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has had enough, as `head` has.
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(format, &error, after_export(&error)),
    }
}

fn after_server(error: &ServerError) -> u8 {
    match error {
        ServerError::Load(LoadError::Store(_)) => FAILED,
        ServerError::Load(LoadError::Data(error)) => after_opening(error),
        ServerError::Access(_) | ServerError::Load(_) => BAD_INPUT,
        ServerError::Data(error) => after_opening(error),
        ServerError::Bind { .. } | ServerError::System(_) | ServerError::Crashed(_) => FAILED,
    }
}

fn after_export(error: &ExportError) -> u8 {
    match error {
        ExportError::Config(_) => BAD_INPUT,
        ExportError::Data(error) => after_opening(error),
        ExportError::Output(_) => FAILED,
    }
}

fn after_opening(error: &OpenError) -> u8 {
    match error {
        OpenError::Unusable { .. } => BAD_INPUT,
        OpenError::Damaged { .. } => DAMAGED,
        OpenError::InUse { .. } | OpenError::Io { .. } | OpenError::Thread(_) => FAILED,
        OpenError::Store(_) | OpenError::Cancelled => FAILED,
    }
}

async fn run(config: Config, signals: Signals) -> Result<(), ServerError> {
    let Signals { mut terminate, mut interrupt, mut hang_up, _file_too_large } = signals;
    let demo = config.demo.clone();
    let server = tokio::select! {
        server = Server::bind(config) => server?,
        () = stopped_by(&mut terminate, &mut interrupt) => {
            tracing::info!("stopped before it was started");
            return Ok(());
        }
    };
    if let Some(demo) = demo {
        // Nobody may be there to read it, which is no reason to end or to wait.
        let greeting = greeting(&server, demo.token());
        thread::spawn(move || Stdout.write_all(greeting.as_bytes()));
    }
    tokio::spawn(reload_on_signal(async move || hang_up.recv().await, server.access()));
    let stop = async move {
        stopped_by(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            stopped_by(&mut terminate, &mut interrupt).await;
            tracing::warn!("a second signal: ending now");
            telemetry::flush_before_forced_exit();
            std::process::exit(FAILED.into());
        });
    };
    server.run(stop).await.map(|_| ())
}

async fn stopped_by(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What a newcomer needs to see a count.
fn greeting(server: &Server, token: &str) -> String {
    let (public, internal) = (cli::reachable(server.public_addr()), cli::reachable(server.internal_addr()));
    let (project, projects) = (demo::PROJECTS[0], demo::PROJECTS.join(" "));
    // As a shell reads a quote within quotes.
    let quoted = token.replace('\'', r"'\''");
    format!(
        "subjobs demo: two projects whose subtasks move on by themselves\n\
         \n\
         \x20 token     {token}\n\
         \x20 projects  {projects}\n\
         \x20 metrics   http://{internal}/metrics\n\
         \n\
         How many are running? Ask a few times:\n\
         \n\
         \x20 curl -H 'X-Auth-Token: {quoted}' \
         'http://{public}/v1/{project}/app-server-sub-jobs/actions/count?status=RUNNING'\n\
         \n"
    )
}
