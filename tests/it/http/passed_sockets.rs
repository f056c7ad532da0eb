//! Socket activation: a parent, as systemd, passes the sockets on which the program listens, and keeps them.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::net::{AddressFamily, SocketType, bind, socket};

use crate::support::blocking::{BlockingConnection, get};
use crate::support::connection::request;
use crate::support::fixtures::{Files, OPS, PROJECT, count_path};
use crate::support::gateways::free_address;
use crate::support::program::{Program, Signal, await_end, fatal_error_text, run, subjobs, text};
use crate::support::wait::{SetOnDrop, TEST_DEADLINE, until};

/// `serve` with two sockets as descriptors 3 and 4, and variables that describe them. A shell passes them on, so that `LISTEN_PID` is
/// the number of the program, as a parent would set it.
fn passing(sockets: [OwnedFd; 2], variables: &str, args: &[&str]) -> Command {
    let serve = subjobs(&[&["serve"], args].concat());
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("export {variables}; exec \"$@\" 3<&0 4<&1 0</dev/null 1>&2")).arg("sh");
    command.arg(serve.get_program()).args(serve.get_args());
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let [first, second] = sockets.map(Stdio::from);
    command.stdin(first).stdout(second).stderr(Stdio::piped());
    command
}

const BOTH: &str = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=public:internal";

/// Two listening sockets, which servers get one after the other.
struct Parent {
    files: Files,
    public: TcpListener,
    internal: TcpListener,
    address: SocketAddr,
}

impl Parent {
    fn new() -> Self {
        let [public, internal] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        Self { files: Files::new(), address: public.local_addr().unwrap(), public, internal }
    }

    fn start(&self) -> Program {
        let sockets = [&self.public, &self.internal].map(|socket| socket.try_clone().unwrap().into());
        let program = Program::begin_with(&mut passing(sockets, BOTH, &["--access", &self.files.access()]));
        assert_eq!((program.public, program.internal), (self.address, self.internal.local_addr().unwrap()));
        program
    }

    /// Connections that have sent a request.
    fn call(&self) -> Vec<BlockingConnection> {
        let request = request("GET", &count_path(PROJECT), OPS, &["Connection: close"]);
        let open = |_| {
            let mut connection = BlockingConnection::open(self.address);
            connection.send(&request);
            connection
        };
        (0..50).map(open).collect()
    }
}

fn assert_answered(connections: Vec<BlockingConnection>) {
    for mut connection in connections {
        assert_eq!(connection.last_response().count(), 0);
    }
}

#[test]
fn connections_that_were_made_before_the_start_are_answered() {
    let parent = Parent::new();
    let early = parent.call();
    let program = parent.start();
    assert_answered(early);
    assert_eq!(program.internal_status("/readyz"), 200);
    let line = program.await_log("using the socket that the parent process has passed");
    assert_eq!(line["listener"], "public");
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
    // The parent has the socket still: connections wait for the next server.
    let between = parent.call();
    let _next = parent.start();
    assert_answered(between);
}

/// Connects and asks until `is_over`. A connection that was idle when the drain closed it has no response.
fn call_until(address: SocketAddr, answered: &AtomicU64, is_over: &AtomicBool) {
    let request = request("GET", &count_path(PROJECT), OPS, &["Connection: close"]);
    while !is_over.load(Ordering::Relaxed) {
        let mut connection = TcpStream::connect(address).expect("no attempt is refused");
        connection.set_read_timeout(Some(TEST_DEADLINE)).unwrap();
        let mut response = Vec::new();
        match connection.write_all(request.as_bytes()).and_then(|()| connection.read_to_end(&mut response)) {
            Ok(0) => {}
            Ok(_) => {
                assert!(response.starts_with(b"HTTP/1.1 200 "), "{}", text(&response));
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) && response.is_empty(),
                "{error}"
            ),
        }
    }
}

#[test]
fn a_restart_refuses_no_connection() {
    let parent = Parent::new();
    let mut program = parent.start();
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| call_until(parent.address, &answered, &is_over))).collect();
        for _ in 0..5 {
            let before = answered.load(Ordering::Relaxed);
            until("callers go on", || {
                let has_failed = callers.iter().any(|caller| caller.is_finished());
                (has_failed || answered.load(Ordering::Relaxed) >= before + 100).then_some(())
            });
            program.signal(Signal::Term);
            assert_eq!(program.ended().0, 0);
            let waiting = parent.call();
            program = parent.start();
            assert_answered(waiting);
        }
        drop(end);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}

#[test]
fn the_file_of_a_passed_unix_socket_stays() {
    let files = Files::new();
    let paths = ["public.sock", "internal.sock"].map(|name| files.path(name));
    let sockets = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
    for _ in 0..2 {
        let mut early = UnixStream::connect(&paths[0]).unwrap();
        early.set_read_timeout(Some(TEST_DEADLINE)).unwrap();
        early.write_all(request("GET", &count_path(PROJECT), OPS, &["Connection: close"]).as_bytes()).unwrap();
        let passed = sockets.each_ref().map(|socket| socket.try_clone().unwrap().into());
        let child = passing(passed, BOTH, &["--access", &files.access()]).spawn().unwrap();
        let mut response = String::new();
        early.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with(r#"{"count":0}"#), "{response}");
        let internal = format!("unix:{}", paths[1].display());
        let check = run(&mut subjobs(&["healthcheck", "--internal-listen", &internal]), "");
        assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
        let killed = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status().unwrap();
        assert!(killed.success());
        let output = await_end(child);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
        assert!(log.contains(&format!("\"address\":\"{internal}\"")), "{log}");
    }
    assert!(paths.iter().all(|path| fs::symlink_metadata(path).is_ok()));
}

#[test]
fn one_listener_may_have_an_address() {
    let parent = Parent::new();
    let sockets = [&parent.public, &parent.internal].map(|socket| socket.try_clone().unwrap().into());
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public";
    let args = ["--access", &parent.files.access(), "--internal-listen", "127.0.0.1:0"];
    let program = Program::begin_with(&mut passing(sockets, variables, &args));
    assert_eq!(program.public, parent.address);
    assert_ne!(program.internal, parent.internal.local_addr().unwrap());
    assert_eq!(program.ask(OPS, "").status, 200);
    assert_eq!(program.internal_status("/readyz"), 200);
}

#[test]
fn sockets_of_another_process_are_not_taken() {
    let parent = Parent::new();
    let sockets = [&parent.public, &parent.internal].map(|socket| socket.try_clone().unwrap().into());
    let variables = "LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=public:internal";
    let access = parent.files.access();
    let args = ["--access", &access, "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"];
    let program = Program::begin_with(&mut passing(sockets, variables, &args));
    assert_ne!(program.public, parent.address);
    assert_eq!(program.ask(OPS, "").status, 200);
}

#[test]
fn a_socket_that_cannot_be_used_is_exit_2() {
    let files = Files::new();
    let listening = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    // Bound, and not listening.
    let bound = || {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        socket
    };
    let lost = || {
        let path = files.path("lost.sock");
        let listener = UnixListener::bind(&path).unwrap();
        fs::remove_file(path).unwrap();
        OwnedFd::from(listener)
    };
    let requirement = "must be a stream socket that listens, of TCP or of a path";
    let of_public = format!("the socket public: {requirement}");
    for (first, variables, reason) in [
        (bound(), "LISTEN_FDS=2 LISTEN_FDNAMES=public:internal", &*of_public),
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "LISTEN_FDS=1 LISTEN_FDNAMES=public", &of_public),
        (UnixDatagram::unbound().unwrap().into(), "LISTEN_FDS=1 LISTEN_FDNAMES=public", &of_public),
        (UnixStream::pair().unwrap().0.into(), "LISTEN_FDS=1 LISTEN_FDNAMES=public", &of_public),
        (fs::File::open("/dev/null").unwrap().into(), "LISTEN_FDS=1 LISTEN_FDNAMES=public", &of_public),
        (lost(), "LISTEN_FDS=1 LISTEN_FDNAMES=public", "the socket public: No such file or directory (os error 2)"),
        (listening(), "LISTEN_FDS=3 LISTEN_FDNAMES=public:internal:public", "a descriptor is missing: Bad file"),
        (listening(), "LISTEN_FDS=2 LISTEN_FDNAMES=public:public", "two sockets are named public: a listener has one"),
        (listening(), "LISTEN_FDS=2 LISTEN_FDNAMES=public:x", r#"a socket is named "x": FileDescriptorName= must be"#),
        (listening(), "LISTEN_FDS=1", r#"a socket is named "unknown": FileDescriptorName= must be"#),
        (listening(), "LISTEN_FDS=2 LISTEN_FDNAMES=public", "invalid LISTEN_FDNAMES"),
        (listening(), "LISTEN_FDS=-1 LISTEN_FDNAMES=public", "invalid LISTEN_FDS"),
        (listening(), "LISTEN_FDS=4294967295 LISTEN_FDNAMES=public", "fd count overflowed"),
    ] {
        let access = files.access();
        let args = ["--access", &access, "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"];
        let mut command = passing([first, listening()], &format!("LISTEN_PID=$$ {variables}"), &args);
        let output = await_end(command.spawn().unwrap());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variables}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let message = fatal_error_text(&said);
        assert!(message.starts_with(&format!("socket activation (LISTEN_FDS): {reason}")), "{message}");
    }
}

/// The program of systemd that passes sockets as its units do.
#[test]
fn systemd_starts_the_server_with_the_first_connection() {
    let files = Files::new();
    let (public, internal) = (free_address(), free_address());
    let serve = subjobs(&["serve", "--access", &files.access()]);
    let mut command = Command::new("systemd-socket-activate");
    command.arg(format!("--listen={public}")).arg(format!("--listen={internal}")).arg("--fdname=public:internal");
    command.arg(serve.get_program()).args(serve.get_args());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut connection = until("it listens", || BlockingConnection::try_open(public).ok());
    connection.send(request("GET", &count_path(PROJECT), OPS, &["Connection: close"]));
    assert_eq!(connection.last_response().count(), 0);
    assert_eq!(get(internal, "/readyz", "").status, 200);
    let killed = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status().unwrap();
    assert!(killed.success());
    assert_eq!(await_end(child).status.code(), Some(0));
}
