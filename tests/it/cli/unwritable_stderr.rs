//! The program starts, serves, reloads, drains and ends with every kind of standard error that cannot be written.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::blocking::{BlockingConnection, get};
use crate::support::connection::request;
use crate::support::fixtures::{DASHBOARD, Files, OPS, PROJECT, access, count_path, load_line};
use crate::support::program::{Signal, serve, subjobs};
use crate::support::streams::{UNWRITABLE, Unwritable, addresses, exit_code, give};
use crate::support::wait::until;

/// A server whose standard error cannot be written. It is killed when dropped.
struct Mute {
    child: Child,
    public: SocketAddr,
    internal: SocketAddr,
    _reader: Option<std::io::PipeReader>,
}

impl Mute {
    fn start(args: &[&str], filter: &str, broken: Unwritable) -> Self {
        let (mut command, reader) = give(serve(args).env("RUST_LOG", filter), 2, broken);
        let child = command.spawn().unwrap();
        let [public, internal] = addresses(&child);
        let server = Self { child, public, internal, _reader: reader };
        until("it is ready", || (get(internal, "/readyz", "").status == 200).then_some(()));
        server
    }

    fn count(&self, token: &str) -> u16 {
        get(self.public, &count_path(PROJECT), token).status
    }

    fn metric(&self, series: &str) -> u64 {
        let response = get(self.internal, "/metrics", "");
        let metrics = response.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).unwrap();
        line.parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let name = format!("{signal:?}").to_uppercase();
        assert!(
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap().success()
        );
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_works_with_an_unwritable_log() {
    for broken in UNWRITABLE {
        for filter in ["debug", "trace"] {
            let files = Files::new();
            let mut server = Mute::start(&["--access", &files.access(), "--drain", "60s"], filter, broken);
            for _ in 0..5 {
                assert_eq!((server.count(OPS), server.count("unknown-token")), (200, 401), "{broken:?}, {filter}");
            }
            let is_lost = match broken {
                // The runtime replaces a closed stream with /dev/null.
                Unwritable::Closed => false,
                Unwritable::Full | Unwritable::NoReader | Unwritable::ReadOnly => true,
                // The lines stay in the queue.
                Unwritable::Stuck | Unwritable::StuckNonBlocking => false,
            };
            let are_counted = || server.metric("subjobs_log_lines_dropped_total") > 0;
            until("lost lines are counted", || (are_counted() == is_lost).then_some(()));
            // A failed and a successful reload.
            files.put("access.toml", "x");
            server.signal(Signal::Hup);
            assert_eq!(server.count(DASHBOARD), 200, "{broken:?}, {filter}");
            let hash = subjobs::access::Token::new(DASHBOARD.as_bytes()).unwrap().digest().to_string();
            files.put("access.toml", &access().replace(&hash, &"0".repeat(64)));
            server.signal(Signal::Hup);
            until("the reload is in force", || (server.count(DASHBOARD) == 401).then_some(()));

            let mut running = BlockingConnection::open(server.public);
            running.send(request("GET", &count_path(PROJECT), OPS, &["Content-Length: 2"]));
            let in_flight = || get(server.internal, "/metrics", "").text().contains("\nsubjobs_http_in_flight 1\n");
            until("the count is worked on", || in_flight().then_some(()));
            server.signal(Signal::Term);
            until("it drains", || (get(server.internal, "/readyz", "").status == 503).then_some(()));
            running.send(b"{}");
            assert_eq!(running.last_response().status, 200, "{broken:?}, {filter}");
            assert_eq!(exit_code(&mut server.child), 0, "{broken:?}, {filter}");
        }
    }
}

#[test]
fn a_second_signal_ends_a_program_with_an_unwritable_log() {
    let files = Files::new();
    for broken in UNWRITABLE {
        let mut server = Mute::start(&["--access", &files.access(), "--drain-delay", "1h"], "debug", broken);
        server.signal(Signal::Term);
        until("it drains", || (get(server.internal, "/readyz", "").status == 503).then_some(()));
        let start = Instant::now();
        server.signal(Signal::Int);
        assert_eq!(exit_code(&mut server.child), 1, "{broken:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{broken:?}: {:?}", start.elapsed());
    }
}

#[test]
fn exit_codes_do_not_depend_on_the_log() {
    let files = Files::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (access, bad) = (files.access(), files.put("bad.toml", "x"));
    let load = files.put("load.ndjson", &load_line(PROJECT, "1", "CREATE_SERVER", "RUNNING"));
    // Each command opens its own pipe.
    let [damaged, damaged_too] = ["damaged", "damaged-too"].map(|name| {
        let dir = files.arg(name);
        let mut first =
            Mute::start(&["--access", &access, "--load", &load, "--data-dir", &dir], "info", Unwritable::Full);
        first.signal(Signal::Term);
        assert_eq!(exit_code(&mut first.child), 0);
        std::fs::remove_file(files.path(name).join("acknowledged")).unwrap();
        dir
    });

    let anywhere = ["serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"];
    let serve = |more: &[&str]| [anywhere.as_slice(), more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let plain = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let cases = [
        (plain(&[]), 2),
        (plain(&["start"]), 2),
        (plain(&["--help"]), 0),
        (plain(&["--version"]), 0),
        (plain(&["token"]), 0),
        (plain(&["token", "--hash"]), 2),
        (plain(&["check"]), 2),
        (plain(&["check", "--access", &access]), 0),
        (plain(&["healthcheck", "--internal-listen", "127.0.0.1:1"]), 1),
        (plain(&["export"]), 2),
        (plain(&["export", "--data-dir", "/nowhere"]), 2),
        (plain(&["export", "--data-dir", &damaged]), 3),
        (serve(&[]), 2),
        (serve(&["--colour"]), 2),
        (serve(&["--access", &bad]), 2),
        (serve(&["--access", &access, "--load", "/nowhere"]), 2),
        (serve(&["--access", &access, "--listen", "127.0.0.1:1:1"]), 2),
        (plain(&["serve", "--access", &access, "--listen", &taken, "--internal-listen", "127.0.0.1:0"]), 1),
        (serve(&["--access", &access, "--data-dir", &damaged_too]), 3),
    ];
    for broken in UNWRITABLE {
        // Concurrently, because each waits for a second if its log has no reader. The invalid filter is logged, too.
        let running = cases.each_ref().map(|(args, code)| {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            let (mut command, reader) = give(subjobs(&args).env("RUST_LOG", "debug,a=b=c"), 2, broken);
            (command.spawn().unwrap(), reader, args, code)
        });
        for (mut child, _reader, args, code) in running {
            assert_eq!(exit_code(&mut child), *code, "{broken:?}: {args:?}");
        }
    }
}

#[test]
fn a_log_file_at_the_file_size_limit_does_not_end_the_program() {
    let files = Files::new();
    let log = std::fs::File::create(files.path("log")).unwrap();
    let mut command = Command::new("sh");
    let program = serve(&["--access", &files.access()]);
    // A limit of one block of 512 bytes, which a few lines exceed.
    command.arg("-c").arg("ulimit -f 1; exec \"$0\" \"$@\"").arg(program.get_program()).args(program.get_args());
    let child = command.env("RUST_LOG", "debug").stderr(log).spawn().unwrap();
    let [public, internal] = addresses(&child);
    let mut server = Mute { child, public, internal, _reader: None };
    for _ in 0..20 {
        assert_eq!(server.count(OPS), 200);
    }
    assert!(std::fs::metadata(files.path("log")).unwrap().len() <= 1024);
    server.signal(Signal::Term);
    assert_eq!(exit_code(&mut server.child), 0);
}
