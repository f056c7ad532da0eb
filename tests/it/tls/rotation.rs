//! A certificate is replaced while the server runs.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use futures_util::future::join_all;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use subjobs::tls::TlsFiles;

use crate::support::connection::{Connection, valid_count};
use crate::support::fixtures::{Files, OPS, PROJECT, count_path};
use crate::support::http2::Http2;
use crate::support::program::{Program, Signal};
use crate::support::tls::{Certificates, connect, internal_options, options};
use crate::support::wait::until;

const RELOADED: &str = "public TLS certificate reloaded";
const KEPT: &str = "public TLS certificate not reloaded: still using the previous file";

/// Starts the program with these options. A reload reads the access file again, so it is returned too.
fn start(tls: &[String]) -> (Program, Files) {
    let files = Files::new();
    let access = files.access();
    let args: Vec<_> = ["--access", &access].into_iter().chain(tls.iter().map(String::as_str)).collect();
    (Program::start(&args), files)
}

/// Sends SIGHUP and waits for the end of the reload. Returns whether it succeeded.
fn reload(program: &Program, seen: &mut usize) -> bool {
    program.signal(Signal::Hup);
    let said = program.log.await_in("the end of the reload", |lines| {
        let ends = lines.iter().filter(|line| line.contains(RELOADED) || line.contains(KEPT));
        ends.map(|line| line.contains(RELOADED)).nth(*seen)
    });
    *seen += 1;
    said
}

/// The certificate that a new connection gets.
fn served(program: &Program, client: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(connect(client, program.public)).unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

fn in_file(files: &TlsFiles) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&files.certificate).unwrap()
}

#[test]
fn sighup_replaces_the_certificate_of_new_connections() {
    let certificates = Certificates::new();
    let files = certificates.issue("server");
    let (program, _access) = start(&options(&files));
    let client = certificates.client().config();
    let first = in_file(&files);
    assert_eq!(served(&program, &client), first);
    assert_eq!(program.metric("subjobs_tls_reload_success{listener=\"public\"}"), Some(1));
    assert_eq!(program.metric("subjobs_tls_reload_success{listener=\"internal\"}"), None);
    let expiry = program.metric("subjobs_tls_certificate_expiry_timestamp_seconds{listener=\"public\"}").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // These certificates are valid for two days.
    assert!((now + 47 * 3600..=now + 49 * 3600).contains(&expiry), "{now} {expiry}");

    certificates.issue("server");
    assert_eq!(served(&program, &client), first, "a file is read when it is asked for");
    let mut seen = 0;
    assert!(reload(&program, &mut seen));
    assert_ne!(in_file(&files), first);
    assert_eq!(served(&program, &client), in_file(&files));
    program.await_log("access file reloaded");
}

#[test]
fn files_that_cannot_be_used_leave_the_previous_certificate() {
    let certificates = Certificates::new();
    let files = certificates.issue("server");
    let (program, _access) = start(&options(&files));
    let (client, first) = (certificates.client().config(), in_file(&files));
    let good = [&files.certificate, &files.key].map(|path| fs::read(path).unwrap());
    let other = certificates.issue("other");
    let mut seen = 0;
    type Damage<'a> = Box<dyn Fn() + 'a>;
    let damages: [(&str, Damage<'_>); 5] = [
        ("key of the first certificate", Box::new(|| assert!(fs::copy(&other.key, &files.key).is_ok()))),
        ("No such file", Box::new(|| fs::remove_file(&files.key).unwrap())),
        ("no certificate in PEM", Box::new(|| fs::write(&files.certificate, "").unwrap())),
        ("no private key in PEM", Box::new(|| fs::write(&files.key, "text").unwrap())),
        ("No such file", Box::new(|| fs::remove_file(&files.certificate).unwrap())),
    ];
    for (reason, damage) in damages {
        damage();
        assert!(!reload(&program, &mut seen), "{reason}");
        let errors = program.log.so_far().into_iter().filter(|line| line.contains(KEPT)).collect::<Vec<_>>();
        assert!(errors.last().unwrap().contains(reason), "{errors:?}");
        assert_eq!(program.metric("subjobs_tls_reload_success{listener=\"public\"}"), Some(0));
        assert_eq!(served(&program, &client), first, "{reason}");
        for (path, bytes) in [&files.certificate, &files.key].into_iter().zip(&good) {
            fs::write(path, bytes).unwrap();
        }
        assert!(reload(&program, &mut seen), "after: {reason}");
        assert_eq!(program.metric("subjobs_tls_reload_success{listener=\"public\"}"), Some(1));
    }
    // One line for each reload, and the other listener has no certificate.
    let lines = program.log.so_far();
    assert_eq!(lines.iter().filter(|line| line.contains(KEPT)).count(), 5);
    assert!(!lines.iter().any(|line| line.contains("internal TLS certificate")));
}

#[test]
fn each_listener_reloads_its_own_certificate() {
    let certificates = Certificates::new();
    let (public, internal) = (certificates.issue("public"), certificates.issue("internal"));
    let (program, _access) = start(&[options(&public), internal_options(&internal)].concat());
    fs::write(&internal.key, "text").unwrap();
    certificates.issue("public");
    program.signal(Signal::Hup);
    program.await_log(RELOADED);
    program.await_log("internal TLS certificate not reloaded: still using the previous file");
    assert_eq!(served(&program, &certificates.client().config()), in_file(&public));
}

/// A client that sends requests until it is stopped, some on each connection.
async fn ask(address: SocketAddr, client: Arc<ClientConfig>, progress: Arc<Progress>, requests_per_connection: usize) {
    while !progress.is_stopped.load(Relaxed) {
        let mut connection = Connection::of(connect(&client, address).await.unwrap());
        for _ in 0..requests_per_connection {
            connection.send(valid_count("", &[])).await;
            assert_eq!(connection.response().await.status, 200);
            progress.answered.fetch_add(1, Relaxed);
            if progress.is_stopped.load(Relaxed) {
                break;
            }
        }
    }
}

/// The same over HTTP/2, with several requests at once.
async fn ask_by_http2(address: SocketAddr, client: Arc<ClientConfig>, progress: Arc<Progress>, turns: usize) {
    const AT_ONCE: usize = 5;
    while !progress.is_stopped.load(Relaxed) {
        let connection = Http2::of(connect(&client, address).await.unwrap(), address).await;
        for _ in 0..turns {
            let counts = (0..AT_ONCE).map(|_| connection.ask(connection.get(&count_path(PROJECT), OPS)));
            for answer in join_all(counts).await {
                assert_eq!(answer.unwrap().count(), 0);
            }
            progress.answered.fetch_add(AT_ONCE as u64, Relaxed);
            if progress.is_stopped.load(Relaxed) {
                break;
            }
        }
    }
}

#[derive(Default)]
struct Progress {
    is_stopped: AtomicBool,
    answered: AtomicU64,
}

/// Replaces the certificate again and again while clients, some of which only use new connections, some keep theirs over several
/// rotations, and one over all, send requests. A failed request fails the test.
fn rotate_under_load<Asking: Future<Output = ()> + Send + 'static>(
    protocol: &str,
    ask: impl Fn(SocketAddr, Arc<ClientConfig>, Arc<Progress>, usize) -> Asking,
) {
    const ROTATIONS: usize = 20;
    let certificates = Certificates::new();
    let files = certificates.issue("server");
    let (program, _access) = start(&options(&files));
    let client = certificates.client().offering(protocol).config();
    let progress = Arc::<Progress>::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clients: Vec<_> = [1, 1, 1, 20, 20, 1000, 1000, usize::MAX]
        .map(|requests| runtime.spawn(ask(program.public, client.clone(), progress.clone(), requests)))
        .into();
    let mut seen = 0;
    for _ in 0..ROTATIONS {
        let before = (progress.answered.load(Relaxed), in_file(&files));
        certificates.issue("server");
        assert!(reload(&program, &mut seen));
        assert_eq!(served(&program, &client), in_file(&files));
        assert_ne!(before.1, in_file(&files));
        until("more requests are answered", || {
            let has_failed = clients.iter().any(|client| client.is_finished());
            (has_failed || progress.answered.load(Relaxed) >= before.0 + 20).then_some(())
        });
    }
    progress.is_stopped.store(true, Relaxed);
    for client in clients {
        runtime.block_on(client).unwrap();
    }
    assert!(!program.log.so_far().iter().any(|line| line.contains("ERROR")));
}

#[test]
fn a_certificate_is_rotated_under_load_without_a_failed_request() {
    rotate_under_load("http/1.1", ask);
}

#[test]
fn a_certificate_is_rotated_under_load_of_http_2_without_a_failed_request() {
    rotate_under_load("h2", ask_by_http2);
}
