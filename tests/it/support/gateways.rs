//! Gateways in front of servers, each a process of its own: the shipped `deploy/nginx.conf`, and those of `deploy/gateways`. Only
//! addresses and paths are replaced.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::blocking::exchange;
use crate::support::connection::request;
use crate::support::response::Response;
use crate::support::wait::{TEST_DEADLINE, until};

const SHIPPED: &str = include_str!("../../../deploy/nginx.conf");

/// A running gateway. It is stopped when dropped.
pub(crate) struct Gateway {
    process: Child,
    pub(crate) address: SocketAddr,
    dir: TempDir,
}

impl Gateway {
    /// The shipped gateway in front of the server at this address, which need not run.
    pub(crate) fn start(server: SocketAddr) -> Self {
        Self::before(&[server])
    }

    /// The shipped gateway in front of several servers.
    pub(crate) fn before(servers: &[SocketAddr]) -> Self {
        let line = SHIPPED.lines().map(str::trim).find(|line| line.starts_with("server subjobs:8080"));
        let line = line.expect("deploy/nginx.conf has one server");
        let servers: String =
            servers.iter().map(|server| line.replace("subjobs:8080", &server.to_string()) + "\n").collect();
        Self::spawn("nginx.conf", |address, dir| {
            let conf = replaced(
                SHIPPED,
                &[
                    ("listen 8080;", &format!("listen {address};")),
                    (line, &servers),
                    ("/tmp/nginx", &format!("{dir}/nginx")),
                    ("/dev/stdout", &format!("{dir}/access.log")),
                ],
            );
            let mut nginx = Command::new("nginx");
            nginx.args(["-e", "stderr", "-c", &format!("{dir}/nginx.conf"), "-g", "daemon off;"]);
            (conf, nginx)
        })
    }

    /// A gateway: `make` returns its configuration and its command.
    pub(crate) fn spawn(file: &str, make: impl FnOnce(SocketAddr, &str) -> (String, Command)) -> Self {
        let dir = TempDir::new().unwrap();
        // If root starts a gateway, its workers have another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let address = free_address();
        let (conf, mut command) = make(address, dir.path().to_str().unwrap());
        fs::write(dir.path().join(file), conf).unwrap();
        let process = command
            .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin")
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("error.log")).unwrap())
            .spawn();
        let process =
            process.unwrap_or_else(|error| panic!("tests/run installs what this needs: {command:?}: {error}"));
        let mut gateway = Self { process, address, dir };
        until("the gateway listens", || {
            let ended = gateway.process.try_wait().unwrap();
            assert!(ended.is_none(), "{}", gateway.log("error.log"));
            TcpStream::connect(address).ok()
        });
        gateway
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Sends any bytes. The response ends with the connection.
    pub(crate) fn raw(&self, request: &str) -> Response {
        exchange(self.address, request)
    }

    pub(crate) fn get(&self, path: &str, token: &str) -> Response {
        self.ask("GET", path, token, &[])
    }

    pub(crate) fn ask(&self, method: &str, path: &str, token: &str, more: &[&str]) -> Response {
        self.raw(&request(method, path, token, &[more, &["Connection: close"]].concat()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // SIGTERM stops each gateway and its children.
        let end = format!("kill -TERM {}", self.process.id());
        let _ = Command::new("sh").arg("-c").arg(end).stderr(Stdio::null()).status();
        // No assertion, because a drop may run during a panic.
        let end = Instant::now() + TEST_DEADLINE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Replaces parts of a configuration. Each part must be in it.
pub(crate) fn replaced(conf: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(conf.to_owned(), |conf, (shipped, here)| {
        assert!(conf.contains(shipped), "{shipped} is no longer in\n{conf}");
        conf.replace(shipped, here)
    })
}

/// A free address, for a program that cannot inherit a socket, or where nothing listens. The port must stay free until the program starts, and
/// between restarts. So each test has its own loopback address, whose ports no other program uses.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [.., a, b] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 + NEXT.fetch_add(1, Ordering::Relaxed) % 128, a, b);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Runs a test of a gateway on a thread that may block.
pub(crate) async fn blocking(test: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(test).await.unwrap();
}
