//! Listeners on Unix sockets and on IPv6.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use subjobs::config::{Config, ListenAddress};
use subjobs::server::{Server, ServerError};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::support::connection::{Connection, head, valid_count};
use crate::support::fixtures::{Files, OPS, PROJECT, config, count_path};
use crate::support::program::{Program, Signal, fatal_error_text, run, subjobs, text};
use crate::support::tls::Certificates;
use crate::support::wait::until;

fn unix(path: &Path, mode: u32) -> ListenAddress {
    ListenAddress::Unix { path: path.to_owned(), mode }
}

/// A running server, and what stops it.
type Running = (oneshot::Sender<()>, JoinHandle<Result<usize, ServerError>>);

async fn start(config: Config) -> Running {
    let server = Server::bind(config).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(server.run(async { drop(stopped.await) })))
}

async fn open(path: &Path) -> Connection<UnixStream> {
    Connection::of(UnixStream::connect(path).await.unwrap())
}

#[tokio::test]
async fn both_listeners_may_be_unix_sockets() {
    let files = Files::new();
    let (public, internal) = (files.path("public.sock"), files.path("internal.sock"));
    // The limit of an address does not hold for them.
    let limits = Config { max_connections_per_address: Some(1), ..config() };
    let config = Config { listen: unix(&public, 0o660), internal_listen: unix(&internal, 0o600), ..limits };
    let (stop, task) = start(config).await;
    let mut connections = Vec::new();
    for _ in 0..5 {
        let mut connection = open(&public).await;
        for _ in 0..3 {
            connection.send(valid_count("", &[])).await;
            connection.response().await.count();
        }
        connections.push(connection);
    }
    let mut probe = open(&internal).await;
    probe.send(head("GET /metrics HTTP/1.1", &["Host: h"])).await;
    let metrics = probe.response().await;
    assert!(metrics.text().contains("subjobs_http_connections{listener=\"public\"} 5\n"), "{}", metrics.text());
    for (path, mode) in [(&public, 0o660), (&internal, 0o600)] {
        let metadata = fs::symlink_metadata(path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
    }
    stop.send(()).unwrap();
    for connection in &mut connections {
        assert_eq!(connection.rest().await, "");
    }
    assert_eq!(task.await.unwrap().unwrap(), 0);
    assert!(!public.exists() && !internal.exists(), "the files are removed at the end");
}

#[tokio::test]
async fn a_unix_socket_may_have_tls() {
    let (files, certificates) = (Files::new(), Certificates::new());
    let path = files.path("public.sock");
    let tls = Some(certificates.issue("server"));
    let _running = start(Config { listen: unix(&path, 0o660), tls, ..config() }).await;
    let connector = TlsConnector::from(certificates.client().config());
    let socket = UnixStream::connect(&path).await.unwrap();
    let mut connection = Connection::of(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap());
    connection.send(valid_count("", &[])).await;
    connection.response().await.count();
    let mut plain = open(&path).await;
    plain.send(valid_count("", &[])).await;
    assert_eq!(plain.response().await.status, 400);
}

#[tokio::test]
async fn only_a_socket_without_a_server_is_replaced() {
    let files = Files::new();
    let path = files.path("public.sock");
    let listening = || Config { listen: unix(&path, 0o660), ..config() };
    // A server that was killed leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (stop, task) = start(listening()).await;
    let mut connection = open(&path).await;
    connection.send(valid_count("", &[])).await;
    connection.response().await.count();
    // Another server keeps its socket.
    let error = Server::bind(listening()).await.err().unwrap().to_string();
    assert!(error.contains(&format!("cannot listen on unix:{}: Address already in use", path.display())), "{error}");
    open(&path).await.send(valid_count("", &[])).await;
    // A file that has replaced the socket is not removed.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    assert!(Server::bind(listening()).await.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

#[test]
fn the_program_listens_on_unix_sockets() {
    let files = Files::new();
    let [public, internal] = ["public.sock", "internal.sock"].map(|name| format!("unix:{}", files.arg(name)));
    let access = files.access();
    let mut command = subjobs(&["serve", "--access", &access, "--listen", &public, "--internal-listen", &internal]);
    let child = command.spawn().unwrap();
    let check = || run(&mut subjobs(&["healthcheck", "--internal-listen", &internal]), "").status.code();
    until("it is ready", || (check() == Some(0)).then_some(()));
    let curl = ["--silent", "--fail", "--unix-socket", &files.arg("public.sock"), "--header"];
    let token = format!("X-Auth-Token: {OPS}");
    let url = format!("http://localhost{}", count_path(PROJECT));
    let output = run(Command::new("curl").args(curl).args([&token, &url]), "");
    assert_eq!(text(&output.stdout), "{\"count\":0}");
    let killed = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", child.id())).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains(&format!("\"address\":\"{public}\"")), "{log}");
    assert_eq!(check(), Some(1));
    assert!(!files.path("public.sock").exists() && !files.path("internal.sock").exists());
}

#[test]
fn a_directory_that_does_not_exist_is_an_error() {
    let files = Files::new();
    let address = format!("unix:{}/none/a.sock", files.arg("."));
    let output = run(&mut subjobs(&["serve", "--access", &files.access(), "--listen", &address]), "");
    let said = fatal_error_text(&text(&output.stderr));
    assert!(output.status.code() == Some(1) && said.contains("cannot listen on unix:"), "{said}");
    assert!(said.ends_with("No such file or directory (os error 2)"), "{said}");
}

async fn counts_at(address: &str, port: u16) -> bool {
    let address: SocketAddr = format!("{address}:{port}").parse().unwrap();
    let Ok(mut connection) = Connection::try_open(address).await else { return false };
    connection.send(valid_count("", &[])).await;
    connection.response().await.count();
    true
}

#[tokio::test]
async fn the_ipv6_wildcard_accepts_ipv4_too() {
    for (listen, v4, v6) in [("[::]:0", true, true), ("[::1]:0", false, true), ("0.0.0.0:0", true, false)] {
        let server = Server::bind(Config { listen: listen.parse().unwrap(), ..config() }).await.unwrap();
        let port = server.public_addr().port();
        let task = tokio::spawn(server.run(std::future::pending()));
        assert_eq!((counts_at("127.0.0.1", port).await, counts_at("[::1]", port).await), (v4, v6), "{listen}");
        task.abort();
    }
}

/// An IPv4 peer of `[::]` has the limit of its IPv4 address.
#[tokio::test]
async fn the_limit_of_an_address_holds_for_mapped_addresses() {
    let limits = Config { max_connections_per_address: Some(1), listen: "[::]:0".parse().unwrap(), ..config() };
    let server = Server::bind(limits).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.public_addr().port()));
    let _task = tokio::spawn(server.run(std::future::pending()));
    let mut first = Connection::open_from("127.0.0.21", address).await;
    first.send(valid_count("", &[])).await;
    first.response().await.count();
    assert_eq!(Connection::open_from("127.0.0.21", address).await.rest_or_reset().await, "");
    let mut other = Connection::open_from("127.0.0.22", address).await;
    other.send(valid_count("", &[])).await;
    other.response().await.count();
}

#[test]
fn the_program_listens_on_ipv6() {
    let files = Files::new();
    let args = ["serve", "--access", &files.access(), "--listen", "[::1]:0", "--internal-listen", "[::]:0"];
    let program = Program::begin_with(&mut subjobs(&args));
    program.await_log("ready");
    assert!(program.public.is_ipv6() && program.public.ip().is_loopback());
    assert_eq!(program.ask(OPS, "").status, 200);
    let check = run(&mut subjobs(&["healthcheck", "--internal-listen", &program.internal.to_string()]), "");
    assert_eq!(check.status.code(), Some(0));
    program.signal(Signal::Term);
    assert_eq!(program.ended().0, 0);
}
