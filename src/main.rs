//! The program: arguments, then configuration, then the log, then the server; and the exit codes.

use std::io::{self, Write as _, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use subjobs::access::AccessHandle;
use subjobs::cli::{self, ExportError};
use subjobs::config::{Cli, Command, Config, ExportFlags, ServeFlags};
use subjobs::demo;
use subjobs::load::LoadError;
use subjobs::server::{Server, ServerError};
use subjobs::store::OpenError;
use subjobs::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bad configuration or input.
const BAD_INPUT: u8 = 2;

/// A data directory that does not hold what was acknowledged.
const DAMAGED: u8 = 3;

/// Anything else.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(flags) => return serve(*flags),
        Command::Token(flags) if flags.hash => cli::hash_token(stdin(), stdout()),
        Command::Token(_) => cli::new_token(stdout()),
        Command::Check(flags) => match cli::check(&flags, stdout()) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(BAD_INPUT),
            Err(error) => Err(error),
        },
        Command::Export(flags) => return export(&flags),
        Command::Healthcheck(flags) => cli::healthcheck(flags.internal_listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => complain(&error, BAD_INPUT),
        Err(error) => complain(&error, FAILED),
    }
}

fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("subjobs: {error}");
    ExitCode::from(code)
}

fn serve(flags: ServeFlags) -> ExitCode {
    let (format, filter) = (flags.log.format, flags.log.filter.clone());
    let config = match Config::try_from(flags) {
        Ok(config) => config,
        Err(error) => return complain(&error, BAD_INPUT),
    };
    telemetry::start(format, &filter);
    // Connections are what most descriptors are for, and the usual soft limit is far below what may be open.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, FAILED),
    };
    let ended = runtime.block_on(run(config));
    // A thread that still reads a load file must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, after_server(&error)),
    }
}

fn export(flags: &ExportFlags) -> ExitCode {
    telemetry::start(flags.log.format, &flags.log.filter);
    match cli::export(flags, stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has had enough, as `head` has.
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => complain(&error, after_export(&error)),
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

async fn run(config: Config) -> Result<(), ServerError> {
    let system = |error: io::Error| ServerError::System(error.to_string());
    let listen = |kind| signal(kind).map_err(system);
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let hang_up = listen(SignalKind::hangup())?;
    let demo = config.demo.clone();
    let server = Server::bind(config).await?;
    if let Some(demo) = demo {
        // Nobody may be there to read it, which is no reason to end.
        let _ = stdout().write_all(greeting(&server, demo.token()).as_bytes());
    }
    tokio::spawn(reload_on(hang_up, server.access()));
    let stop = async move {
        stopped_by(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            stopped_by(&mut terminate, &mut interrupt).await;
            tracing::warn!("a second signal: ending now");
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

async fn reload_on(mut hang_up: Signal, access: Arc<AccessHandle>) {
    while hang_up.recv().await.is_some() {
        let access = access.clone();
        match tokio::task::spawn_blocking(move || access.reload()).await {
            Ok(Ok(())) => tracing::info!("the access file has been read again and is in force"),
            Ok(Err(error)) => tracing::error!(%error, "the access file cannot be used; the one before stays in force"),
            Err(error) => tracing::error!(%error, "reading the access file failed"),
        }
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
