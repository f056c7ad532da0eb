//! A PostgreSQL server of the test's own: in a temporary directory, on a loopback address of its own and a Unix socket. It ends
//! with its [`Cluster`], and at the latest with the process.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a library of tests: not every user needs all, and a failure is a panic"
)]

#[path = "postgres/disk.rs"]
mod disk;
#[path = "postgres/install.rs"]
mod install;
#[path = "postgres/replicate.rs"]
mod replicate;
#[path = "postgres/tls.rs"]
mod tls;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

pub(crate) use install::Version;
pub(crate) use tls::Authority;

/// The superuser of a cluster, and its password.
pub(crate) const SUPERUSER: &str = "postgres";
pub(crate) const PASSWORD: &str = "not a secret: a test's";

/// The longest that a start, a stop or a statement of these helpers may take, on a machine however busy.
const DEADLINE: Duration = Duration::from_secs(120);

/// What makes a cluster small and still as safe as a server of an operator: fsync stays on.
const SETTINGS: &str = "shared_buffers = 32MB\nmax_wal_size = 128MB\nmax_connections = 60\ntimezone = UTC\nlc_messages = C\n\
    logging_collector = off\nwal_level = replica\nhot_standby = on\n";

/// The client of a loopback address may be any of 127.0.0.0/8.
const HBA: &str = "host all all 127.0.0.0/8 scram-sha-256\nhost replication all 127.0.0.0/8 scram-sha-256";

/// The guard of a running server. It starts the server as its child and kills it when its standard input ends, which this process
/// holds open; with a line "wait" it waits for the server's end instead, and exits. The system may hang up on it when this process ends,
/// which must not end it before the server.
const GUARD: &str = r#"
exec 2>>"$3"
trap '' HUP
"$1" -D "$2" </dev/null >&2 &
pid=$!
echo $pid
if read -r line; then wait $pid; exit 0; fi
kill -STOP $pid
kill -9 $(cat /proc/$pid/task/$pid/children) $pid
wait $pid
rm -rf "$4"
"#;

/// A PostgreSQL server. Its methods block.
pub(crate) struct Cluster {
    pub(crate) version: Version,
    dir: TempDir,
    data: PathBuf,
    address: SocketAddr,
    server: Option<Running>,
    /// Dropped after the server has ended.
    disk: Option<disk::Disk>,
}

struct Running {
    guard: Child,
    input: ChildStdin,
    pid: Pid,
}

impl Cluster {
    /// The cluster that the tests of this process share. It must not be stopped or reconfigured: each test has a database of its own.
    pub(crate) fn shared(version: Version) -> &'static Self {
        static SHARED: [OnceLock<Cluster>; 2] = [const { OnceLock::new() }; 2];
        SHARED[version as usize].get_or_init(|| Self::start(version))
    }

    /// A cluster of the test's own.
    pub(crate) fn start(version: Version) -> Self {
        Self::start_with(version, "")
    }

    /// The same, with more lines in postgresql.conf.
    pub(crate) fn start_with(version: Version, settings: &str) -> Self {
        let mut cluster = Self::prepare(version);
        cluster.initialize(settings);
        cluster
    }

    /// Makes the data directory and starts the server.
    fn initialize(&mut self, settings: &str) {
        let password = self.dir.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let mut initdb = self.program("initdb");
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username", SUPERUSER]);
        run(initdb.arg("--pwfile").arg(&password).arg("-D").arg(&self.data));
        self.append("pg_hba.conf", HBA);
        self.configure(&format!("{SETTINGS}{settings}"));
        self.restart();
    }

    /// An address and an empty directory.
    fn prepare(version: Version) -> Self {
        let dir = TempDir::with_prefix("subjobs-pg-").unwrap();
        if let Some((user, group)) = install::user() {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let data = dir.path().join("data");
        Self { version, dir, data, address: free_address(), server: None, disk: None }
    }

    /// Appends lines to postgresql.conf, for the next start.
    pub(crate) fn configure(&self, settings: &str) {
        let (host, port, dir) = (self.address.ip(), self.address.port(), self.dir.path().display());
        let own = format!("listen_addresses = '{host}'\nport = {port}\nunix_socket_directories = '{dir}'\n");
        self.append("postgresql.conf", &format!("{settings}\n{own}"));
    }

    /// Appends lines to a file of the data directory.
    fn append(&self, file: &str, lines: &str) {
        run(self.command("sh").args(["-c", r#"printf '%s\n' "$1" >>"$2""#, "sh", lines]).arg(self.data.join(file)));
    }

    /// Writes a file of the data directory, which only the server's user may read.
    fn write(&self, file: &str, content: &str) {
        run(self
            .command("sh")
            .args(["-c", r#"umask 077; printf '%s' "$1" >"$2""#, "sh", content])
            .arg(self.data.join(file)));
    }

    /// One of the server's programs, as the user that may run it.
    fn program(&self, name: &str) -> Command {
        self.command(self.version.bin().join(name))
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = install::as_user(program, self.disk.as_ref().map(disk::Disk::enter));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(self.dir.path());
        command
    }

    /// Starts the server, again if it was stopped, on the same address; returns when it accepts connections.
    pub(crate) fn restart(&mut self) {
        self.begin();
        self.await_connections();
    }

    /// Starts the server; returns before it accepts connections.
    pub(crate) fn begin(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let mut guard = self.command("sh");
        guard.args(["-c", GUARD, "sh"]).arg(self.version.bin().join("postgres"));
        guard.arg(&self.data).arg(self.log()).arg(self.dir.path());
        // A signal of the terminal must not reach it before its standard input ends.
        std::os::unix::process::CommandExt::process_group(&mut guard, 0);
        let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let input = guard.stdin.take().unwrap();
        self.server = Some(Running { guard, input, pid });
    }

    /// Waits until the server accepts connections.
    pub(crate) fn await_connections(&mut self) {
        let end = Instant::now() + DEADLINE;
        while let Err(error) = self.try_sql("postgres", "SELECT 1") {
            assert!(self.is_running() && Instant::now() < end, "{error}\n{}", self.read_log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks the server to end its sessions and to shut down, and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::INT);
        self.await_end();
    }

    /// Kills the server with all its processes, as a loss of power does but for what the disk's cache holds.
    pub(crate) fn kill(&mut self) {
        // A stopped server starts no other process, and is still the parent of those it has. It stops some time after the signal.
        self.signal(Signal::STOP);
        await_state(self.pid(), "is stopped", |state| state == Some('T') || has_ended(state));
        let children = self.children();
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        self.signal(Signal::KILL);
        self.await_end();
        // While one has the shared memory, the server does not start again.
        children.into_iter().for_each(|child| await_state(child, "has ended", has_ended));
    }

    /// Stops all processes of the server as SIGSTOP does: connections stay open and are silent.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        for child in self.children() {
            let _ = kill_process(child, Signal::STOP);
        }
    }

    /// The end of [`Cluster::pause`].
    pub(crate) fn resume(&self) {
        for child in self.children() {
            let _ = kill_process(child, Signal::CONT);
        }
        self.signal(Signal::CONT);
    }

    /// Sends SIGHUP to the server and its guard, as the system may when the test process ends.
    pub(crate) fn hang_up(&self) {
        let guard = self.server.as_ref().expect("the server runs").guard.id();
        kill_process_group(Pid::from_raw(guard as i32).unwrap(), Signal::HUP).unwrap();
    }

    /// The process of the server.
    pub(crate) fn pid(&self) -> Pid {
        self.server.as_ref().expect("the server runs").pid
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The other processes of the server: each is a child of the first.
    fn children(&self) -> Vec<Pid> {
        let pid = self.pid().as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Whether the server has not ended by itself.
    pub(crate) fn is_running(&self) -> bool {
        !has_ended(state(self.pid()))
    }

    /// Starts the server after it has ended by itself.
    pub(crate) fn restart_after_end(&mut self) {
        self.await_end();
        self.restart();
    }

    fn await_end(&mut self) {
        let Running { mut guard, mut input, .. } = self.server.take().expect("the server runs");
        writeln!(input, "wait").unwrap();
        let end = Instant::now() + DEADLINE;
        while guard.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the server does not end\n{}", self.read_log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where the server listens, besides its socket in [`Cluster::dir`].
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of the Unix socket.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL of a database, for the superuser, over TCP and without TLS.
    pub(crate) fn url(&self, database: &str) -> String {
        self.url_of(SUPERUSER, PASSWORD, database)
    }

    /// The URL of a database for another role.
    pub(crate) fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let password = password.replace(' ', "%20").replace(':', "%3A");
        format!("postgres://{user}:{password}@{}/{database}?sslmode=disable", self.address)
    }

    /// Makes a database, as a copy of `template` if one is given, and returns its name.
    pub(crate) fn create_database(&self, template: Option<&str>) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let template = template.unwrap_or("template0");
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        name
    }

    /// Runs statements as the superuser; returns the rows of all of them as text.
    pub(crate) fn sql(&self, database: &str, statements: &str) -> Vec<Vec<Option<String>>> {
        self.try_sql(database, statements).unwrap_or_else(|error| panic!("{statements}: {error}\n{}", self.read_log()))
    }

    /// The first value of the first row.
    pub(crate) fn value(&self, database: &str, query: &str) -> String {
        self.sql(database, query)[0][0].clone().unwrap_or_default()
    }

    /// The same as [`Cluster::sql`], or the server's error.
    pub(crate) fn try_sql(&self, database: &str, statements: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        self.try_sql_at(&self.url(database), statements)
    }

    /// The same as another role.
    pub(crate) fn try_sql_at(&self, url: &str, statements: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let (url, statements) = (url.to_owned(), statements.to_owned());
        // A thread of its own, so that a test with a runtime may call this too.
        let query = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let rows = runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                let driver = tokio::spawn(connection);
                let messages = client.simple_query(&statements).await?;
                drop(client);
                let _ = driver.await;
                Ok(messages)
            });
            let rows = rows.map_err(|error: tokio_postgres::Error| match error.as_db_error() {
                Some(error) => format!("{}: {}", error.code().code(), error.message()),
                None => error.to_string(),
            })?;
            let rows = rows.into_iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
                _ => None,
            });
            Ok(rows.collect())
        });
        query.join().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What the server has logged.
    pub(crate) fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(Running { mut guard, input, .. }) = self.server.take() {
            drop(input);
            let _ = guard.wait();
        }
    }
}

/// The state of a process, as `ps` prints it; `None` if there is no such process.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Whether a process in that state runs no more.
fn has_ended(state: Option<char>) -> bool {
    matches!(state, None | Some('Z' | 'X'))
}

fn await_state(pid: Pid, what: &str, is_it: impl Fn(Option<char>) -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_it(state(pid)) {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: process {pid:?} {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a program to its end, which must be a good one.
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An address that stays free while the server is stopped: a loopback address of its own, whose ports the system gives to no other
/// process.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [.., a, b] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 192 + NEXT.fetch_add(1, Ordering::Relaxed) % 63, a, b);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}
