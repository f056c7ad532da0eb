//! The program: command line, log, configuration, server, signals and exit codes.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _, stderr, stdin, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use subjobs::cli::{self, ExportError, MigrationError};
use subjobs::config::{
    BackupFlags, CheckFlags, Cli, Command, Config, ExportFlags, ListenAddress, LogFlags, LogFormat, MigrateFlags,
    ServeFlags, UnknownVariable, UsageError, read_command_line, unknown_variables,
};
use subjobs::demo;
use subjobs::input;
use subjobs::load::LoadError;
use subjobs::output::{Stdout, log};
use subjobs::reload::reload_on_signal;
use subjobs::server::{PassedSockets, Server, ServerError};
use subjobs::service_manager::{self, ReloadCounter};
use subjobs::store::{DatabaseError, OpenError};
use subjobs::telemetry;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// Exit code: bad configuration or input.
const EXIT_BAD_INPUT: u8 = 2;

/// Exit code: a data directory that is damaged.
const EXIT_CORRUPT_DATA: u8 = 3;

/// Exit code: any other failure.
const EXIT_FAILURE: u8 = 1;

/// How long the end of the program waits for the message that it stops.
const SERVICE_MANAGER_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // First of all: without handlers SIGHUP, which asks for a reload, ends the process.
    let started = Cli::asks_to_serve().then(Started::new);
    let code = match read_command_line() {
        Ok(cli) => run_command(cli.command, started),
        Err(refused) => print_usage(&refused),
    };
    telemetry::flush();
    code
}

fn run_command(command: Command, started: Option<Started>) -> ExitCode {
    let done = match command {
        Command::Serve(flags) => return serve(*flags, started.unwrap_or_else(Started::new)),
        Command::Token(flags) if flags.hash => Stdout::open().and_then(|out| cli::hash_token(stdin(), out)),
        Command::Token(_) => Stdout::open().and_then(cli::new_token),
        Command::Check(flags) => return check(&flags),
        Command::Export(flags) => return export(&flags),
        Command::Backup(flags) => return backup(&flags),
        Command::Migrate(flags) => return migrate(&flags),
        Command::Completions(flags) => Stdout::open().and_then(|out| cli::completions(flags.shell, out)),
        Command::Man => Stdout::open().and_then(cli::manual),
        // Container runtimes know 0 and 1 of a health check, and reserve 2.
        Command::Healthcheck(flags) => cli::healthcheck(flags).map_err(io::Error::other),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => fail(LogFormat::Text, &error, EXIT_BAD_INPUT),
        Err(error) => fail(LogFormat::Text, &error, EXIT_FAILURE),
    }
}

fn fail(format: LogFormat, error: &dyn Display, code: u8) -> ExitCode {
    telemetry::write_fatal_error(format, error);
    ExitCode::from(code)
}

/// Prints the help, or the error of an unusable command line.
fn print_usage(refused: &UsageError) -> ExitCode {
    let error = &refused.error;
    if !error.use_stderr() {
        let written = if stdout().is_terminal() {
            error.print()
        } else {
            Stdout.write_all(error.render().to_string().as_bytes())
        };
        return match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(LogFormat::Text, &error, EXIT_FAILURE),
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        };
    }
    let format = if refused.has_log { telemetry::format_or_default(refused.log_format) } else { LogFormat::Text };
    match format {
        LogFormat::Json => telemetry::write_fatal_error(format, &refused.one_line_message()),
        LogFormat::Text if stderr().is_terminal() => drop(error.print()),
        LogFormat::Text => log::write_fatal_error(&error.render().to_string()),
    }
    ExitCode::from(if refused.is_healthcheck { EXIT_FAILURE } else { EXIT_BAD_INPUT })
}

/// Checks files. The exit code tells the result even if standard output cannot be written.
fn check(flags: &CheckFlags) -> ExitCode {
    let mut said = Vec::new();
    let is_good = cli::check(flags, &mut said).unwrap_or(false);
    let _ = Stdout.write_all(&said);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_BAD_INPUT) }
}

fn backup(flags: &BackupFlags) -> ExitCode {
    match cli::backup(flags, Stdout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(LogFormat::Text, &error, export_exit_code(&error)),
    }
}

fn migrate(flags: &MigrateFlags) -> ExitCode {
    match cli::migrate(flags, Stdout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(LogFormat::Text, &error, migration_exit_code(&error)),
    }
}

fn migration_exit_code(error: &MigrationError) -> u8 {
    match error {
        MigrationError::Config(_) | MigrationError::NoStore => EXIT_BAD_INPUT,
        MigrationError::Store { cause, .. } => database_exit_code(cause),
        MigrationError::System(_) => EXIT_FAILURE,
    }
}

fn database_exit_code(error: &DatabaseError) -> u8 {
    match error {
        DatabaseError::Unusable(_) => EXIT_BAD_INPUT,
        DatabaseError::Failed(_) => EXIT_FAILURE,
    }
}

/// Starts the log and returns its format.
fn start_log(flags: &LogFlags) -> LogFormat {
    let format = telemetry::format_or_default(flags.format);
    telemetry::start(format, &flags.filter);
    format
}

/// What a server needs before the command line is parsed.
struct Started {
    sockets: Result<PassedSockets, ServerError>,
    runtime: io::Result<RuntimeWithSignals>,
}

impl Started {
    /// Takes the sockets first, because their descriptors and variables are this process's before it has other threads.
    fn new() -> Self {
        Self { sockets: PassedSockets::take(), runtime: RuntimeWithSignals::start() }
    }
}

/// The runtime and its signal handlers. A handler merges signals that arrive before it is polled.
struct RuntimeWithSignals {
    runtime: Runtime,
    signals: Signals,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// One for each that [`Server::reloads`] may return.
    hangups: [Signal; 3],
    /// SIGXFSZ would end the program when a file, such as the log's, reaches the size limit of the process.
    _file_too_large: Signal,
}

impl RuntimeWithSignals {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
        let hangup = || signal(SignalKind::hangup());
        let hangups = [hangup()?, hangup()?, hangup()?];
        let signals = Signals { terminate, interrupt, hangups, _file_too_large };
        drop(inside);
        Ok(Self { runtime, signals })
    }
}

fn serve(flags: ServeFlags, started: Started) -> ExitCode {
    let format = start_log(&flags.log);
    let unknown_variables = unknown_variables();
    let config = match Config::try_from(flags) {
        Ok(config) => Config { unknown_variables, ..config },
        Err(error) => {
            unknown_variables.iter().for_each(UnknownVariable::warn);
            return fail(format, &error, EXIT_BAD_INPUT);
        }
    };
    // The usual soft limit is far below the number of connections.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let RuntimeWithSignals { runtime, signals } = match started.runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(format, &error, EXIT_FAILURE),
    };
    let ended = runtime.block_on(run(config, started.sockets, signals));
    // Does not wait for a thread that still reads a load file.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format, &error, server_exit_code(&error)),
    }
}

fn export(flags: &ExportFlags) -> ExitCode {
    let format = start_log(&flags.log);
    unknown_variables().iter().for_each(UnknownVariable::warn);
    // Standard output is checked last, so that an error of the data directory is reported first.
    let exported = cli::export(flags, Stdout).and_then(|()| Ok(Stdout::open()?.sync()?));
    match exported {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe, as `head` does.
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(format, &error, export_exit_code(&error)),
    }
}

fn server_exit_code(error: &ServerError) -> u8 {
    match error {
        ServerError::Load(LoadError::Store(_)) => EXIT_FAILURE,
        ServerError::Load(LoadError::Data(error)) => open_exit_code(error),
        ServerError::Access(_) | ServerError::Tls(_) | ServerError::Load(_) => EXIT_BAD_INPUT,
        ServerError::PassedSockets(_) | ServerError::AddressesFile { .. } => EXIT_BAD_INPUT,
        ServerError::Data(error) => open_exit_code(error),
        ServerError::Bind { .. } | ServerError::System(_) | ServerError::Crashed(_) => EXIT_FAILURE,
    }
}

fn export_exit_code(error: &ExportError) -> u8 {
    match error {
        ExportError::Config(_) => EXIT_BAD_INPUT,
        ExportError::Data(error) => open_exit_code(error),
        ExportError::Store(error) => database_exit_code(error),
        ExportError::Output(_) => EXIT_FAILURE,
    }
}

fn open_exit_code(error: &OpenError) -> u8 {
    match error {
        OpenError::Unusable { .. } | OpenError::Database(_) => EXIT_BAD_INPUT,
        OpenError::Damaged { .. } => EXIT_CORRUPT_DATA,
        OpenError::InUse { .. } | OpenError::Io { .. } | OpenError::Thread(_) => EXIT_FAILURE,
        OpenError::Store(_) | OpenError::Cancelled => EXIT_FAILURE,
    }
}

async fn run(config: Config, sockets: Result<PassedSockets, ServerError>, signals: Signals) -> Result<(), ServerError> {
    let sockets = sockets?;
    let Signals { mut terminate, mut interrupt, hangups, _file_too_large } = signals;
    let (demo, tls) = (config.demo.clone(), (config.tls.is_some(), config.internal_tls.is_some()));
    let is_ephemeral = config.ephemeral.is_some();
    let server = tokio::select! {
        server = Server::bind_with_sockets(config, sockets) => server?,
        () = await_stop_signal(&mut terminate, &mut interrupt) => {
            tracing::info!("stopped by a signal before the server had started");
            return Ok(());
        }
    };
    if let Some(demo) = demo {
        // On its own thread, because standard output may block; errors are ignored.
        let greeting = demo_greeting(&server, tls, demo.token());
        thread::spawn(move || Stdout.write_all(greeting.as_bytes()));
    }
    let (reload_counter, reloads) = ReloadCounter::new();
    let reporting = tokio::spawn(service_manager::report(server.readiness(), reloads));
    for (mut hangup, target) in hangups.into_iter().zip(server.reloads()) {
        let mut reload = reload_counter.clone();
        let next_signal = async move || {
            reload.end();
            let signal = hangup.recv().await;
            reload.begin();
            signal
        };
        tokio::spawn(reload_on_signal(next_signal, target));
    }
    let stop = async move {
        tokio::select! {
            () = await_stop_signal(&mut terminate, &mut interrupt) => {}
            () = input::wait_for_end(), if is_ephemeral => tracing::info!("standard input has ended: stopping"),
        }
        tokio::spawn(async move {
            await_stop_signal(&mut terminate, &mut interrupt).await;
            tracing::warn!("second stop signal: exiting at once");
            telemetry::flush_before_forced_exit();
            std::process::exit(EXIT_FAILURE.into());
        });
    };
    server.run(stop).await?;
    // Gives the last message time to leave. The service manager loses nothing without it.
    let _ = timeout(SERVICE_MANAGER_TIMEOUT, reporting).await;
    Ok(())
}

async fn await_stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The text that `--demo` prints: the address of the page, the token, the projects and a curl
/// command. `tls` is whether the public and the internal
/// listener use TLS.
fn demo_greeting(server: &Server, tls: (bool, bool), token: &str) -> String {
    let url = |address: &ListenAddress, is_tls| {
        let host = address.tcp().map_or("localhost".into(), |address| cli::connect_address(address).to_string());
        format!("http{}://{host}", if is_tls { "s" } else { "" })
    };
    let (public, internal) = (url(server.public_address(), tls.0), url(server.internal_address(), tls.1));
    let socket = match server.public_address() {
        ListenAddress::Unix { path, .. } => format!("--unix-socket '{}' ", path.display()),
        ListenAddress::Tcp(_) => String::new(),
    };
    let (project, projects) = (demo::PROJECTS[0], demo::PROJECTS.join(" "));
    // A quote inside single quotes of a shell.
    let quoted = token.replace('\'', r"'\''");
    format!(
        "subjobs demo: two projects whose subtasks change by themselves\n\
         \n\
         \x20 page      {internal}/\n\
         \x20 token     {token}\n\
         \x20 projects  {projects}\n\
         \x20 metrics   {internal}/metrics\n\
         \n\
         How many are running? Ask a few times:\n\
         \n\
         \x20 curl {socket}-H 'X-Auth-Token: {quoted}' \
         '{public}/v1/{project}/app-server-sub-jobs/actions/count?status=RUNNING'\n\
         \n"
    )
}
