//! The messages to a service manager, and the unit of `deploy/systemd` for systemd.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::CommandFactory as _;
use subjobs::config::Cli;

use crate::support::fixtures::{Files, access};
use crate::support::program::{Program, Signal, run, serve, text, writer};
use crate::support::wait::{TEST_DEADLINE, until};

const UNIT: &str = include_str!("../../../deploy/systemd/subjobs.service");

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(files: &Files) -> Self {
        let path = files.arg("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(TEST_DEADLINE)).unwrap();
        Self { socket, path }
    }

    /// Starts a server that sends its messages here.
    fn begin(&self, args: &[&str]) -> Program {
        Program::begin_with(serve(args).env("NOTIFY_SOCKET", &self.path))
    }

    /// Waits for the next message.
    fn next(&self) -> String {
        let mut bytes = [0; 1024];
        let length = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Whether no message waits.
    fn is_quiet(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let received = self.socket.recv(&mut [0; 1024]);
        self.socket.set_nonblocking(false).unwrap();
        received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

fn assert_reload(manager: &Manager) {
    let reloading = manager.next();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|time| time.strip_suffix('\n'));
    assert!(time.is_some_and(|time| time.parse::<u64>().unwrap() > 0), "{reloading}");
    assert_eq!(manager.next(), "READY=1\n");
}

#[test]
fn the_service_manager_learns_that_the_server_is_ready_reloads_and_stops() {
    let files = Files::new();
    let (load, manager) = (files.fifo("load.ndjson"), Manager::new(&files));
    let program = manager.begin(&["--access", &files.access(), "--load", &load, "--drain-delay", "1h"]);
    // A reload during the start is part of the start.
    program.signal(Signal::Hup);
    program.await_log("access file reloaded");
    assert_eq!(program.internal_status("/readyz"), 503);
    assert!(manager.is_quiet());
    drop(writer(load));
    assert_eq!(manager.next(), "READY=1\n");
    assert_eq!(program.internal_status("/readyz"), 200);
    assert!(manager.is_quiet());

    program.signal(Signal::Hup);
    assert_reload(&manager);
    // After a failed reload the server works as before.
    files.put("access.toml", "x");
    program.signal(Signal::Hup);
    assert_reload(&manager);
    assert_eq!(program.metric("subjobs_access_reload_success"), Some(0));
    files.put("access.toml", &access());
    program.signal(Signal::Hup);
    assert_reload(&manager);
    assert!(manager.is_quiet());

    program.signal(Signal::Term);
    assert_eq!(manager.next(), "STOPPING=1\n");
    assert_eq!(program.internal_status("/readyz"), 503);
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 1);
    assert!(manager.is_quiet());
}

#[test]
fn a_stop_is_announced_during_a_short_drain_and_during_a_start() {
    let files = Files::new();
    let manager = Manager::new(&files);
    let program = manager.begin(&["--access", &files.access()]);
    assert_eq!(manager.next(), "READY=1\n");
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    assert_eq!(manager.next(), "STOPPING=1\n");

    let load = files.fifo("load.ndjson");
    let program = manager.begin(&["--access", &files.access(), "--load", &load]);
    program.signal(Signal::Term);
    assert_eq!(manager.next(), "STOPPING=1\n");
    assert_eq!(program.ended().0, 0);
    assert!(manager.is_quiet());
}

#[test]
fn the_watchdog_gets_two_messages_in_each_interval() {
    let files = Files::new();
    let manager = Manager::new(&files);
    let interval = Duration::from_millis(400);
    let mut command = serve(&["--access", &files.access()]);
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", interval.as_micros().to_string());
    let _program = Program::begin_with(&mut command);
    assert_eq!(manager.next(), "READY=1\n");
    assert_eq!(manager.next(), "WATCHDOG=1\n");
    let begin = std::time::Instant::now();
    assert_eq!(manager.next(), "WATCHDOG=1\n");
    assert_eq!(manager.next(), "WATCHDOG=1\n");
    // A lower bound only: a busy machine may be late.
    assert!(begin.elapsed() > interval / 2, "{:?}", begin.elapsed());
}

#[test]
fn a_server_without_a_service_manager_sends_nothing_and_one_with_a_lost_socket_serves() {
    let files = Files::new();
    for (socket, warnings) in [(String::new(), false), (files.arg("gone"), true)] {
        let program = Program::begin_with(serve(&["--access", &files.access()]).env("NOTIFY_SOCKET", &socket));
        until("it is ready", || (program.internal_status("/readyz") == 200).then_some(()));
        if warnings {
            program.await_log("cannot notify the service manager");
        }
        program.signal(Signal::Term);
        let (code, log) = program.ended();
        assert_eq!(code, 0);
        assert_eq!(log.iter().any(|line| line.contains("service manager")), warnings, "{socket}: {log:?}");
    }
}

/// The values of a key of the unit.
fn values(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn systemd_accepts_the_units_and_finds_the_service_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("subjobs.service");
    let command = format!("ExecStart={}", env!("CARGO_BIN_EXE_subjobs"));
    assert_eq!(UNIT.matches("ExecStart=/usr/local/bin/subjobs").count(), 1);
    std::fs::write(&path, UNIT.replace("ExecStart=/usr/local/bin/subjobs", &command)).unwrap();
    let path = path.to_str().unwrap();
    let systemd = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    // Their service is looked for beside them.
    let sockets = ["subjobs-public.socket", "subjobs-internal.socket"].map(|name| {
        let copy = dir.path().join(name);
        std::fs::copy(systemd.join(name), &copy).unwrap();
        copy.to_str().unwrap().to_owned()
    });
    // The exposure is 0 to 100; a unit without hardening has 96.
    for args in [
        &["verify", "--man=no", path, &sockets[0], &sockets[1]][..],
        &["security", "--offline=true", "--threshold=20", "--no-pager", path],
    ] {
        let output = run(Command::new("systemd-analyze").args(args), "");
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        // An unknown key is a warning only.
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
    let users = systemd.join("subjobs.sysusers");
    let output = run(Command::new("systemd-sysusers").arg("--dry-run").arg(users), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_unit_sets_options_that_exist_and_waits_for_the_drain() {
    let cli = Cli::command();
    let arguments = cli.find_subcommand("serve").unwrap().get_arguments();
    let known: Vec<_> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
    let set = values("Environment");
    assert_eq!(set.len(), 2);
    for variable in set {
        assert!(known.contains(&variable.split('=').next().unwrap()), "{variable}");
    }
    let drain = 10 + 5;
    assert!(values("TimeoutStopSec")[0].parse::<u64>().unwrap() > drain);
    assert_eq!(values("RestartPreventExitStatus"), ["2 3"]);
    assert_eq!(
        (values("Type"), values("User"), values("StateDirectory")),
        (vec!["notify"], vec!["subjobs"], vec!["subjobs"])
    );
}
