//! What it costs to know who asks: a signature of a count as the SDKs send it, a token of the access file, and one of an
//! identity service that has been asked before.
//!
//! `cargo bench --bench authenticate`. A signature may cost 15 µs, a remembered token 1 µs more
//! than one of the file.

#![allow(missing_docs, reason = "criterion's macros make an item without")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should fail where it stands")]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::request::{Parts, Request};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subjobs::access::{Access, AccessHandle, AccessSource, Signature, Token};
use subjobs::domain::Timestamp;
use subjobs::metrics::IdentityMetrics;

/// A request captured from an SDK.
#[derive(Deserialize)]
struct Captured {
    request_line: String,
    headers: Vec<(String, String)>,
    body: String,
    ak: String,
    sk: String,
}

impl Captured {
    fn parts(&self) -> Parts {
        let mut line = self.request_line.split(' ');
        let request = Request::builder().method(line.next().unwrap()).uri(line.next().unwrap());
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value.as_str()));
        request.body(()).unwrap().into_parts().0
    }

    /// When it was signed, as the capture is older than a signature may be.
    fn signed_at(&self) -> Timestamp {
        let (_, date) = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-sdk-date")).unwrap();
        let date: jiff::civil::DateTime = date.trim_end_matches('Z').parse().unwrap();
        format!("{date}Z").parse().unwrap()
    }
}

fn access(request: &Captured, token: &str) -> Access {
    let digest = Token::new(token.as_bytes()).unwrap().digest();
    let Captured { ak, sk, .. } = request;
    // As many more as a busy installation may have: looking up must not depend on how many there are.
    let others: String = (0..1_000)
        .map(|n| {
            let other = Token::new(format!("token {n}").as_bytes()).unwrap().digest();
            format!(
                "[[principal]]\nname = \"{n}\"\nkind = \"account\"\nprojects = [\"*\"]\n\
                 tokens = [{{ sha256 = \"{other}\" }}]\naccess_keys = [{{ id = \"AK{n}\", secret = \"{n}\" }}]\n"
            )
        })
        .collect();
    let text = format!(
        "{others}[[principal]]\nname = \"own\"\nkind = \"account\"\nprojects = [\"*\"]\n\
         tokens = [{{ sha256 = \"{digest}\" }}]\naccess_keys = [{{ id = \"{ak}\", secret = \"{sk}\" }}]\n"
    );
    Access::parse(&text).unwrap()
}

fn authenticate(criterion: &mut Criterion) {
    let captured: Vec<Captured> = serde_json::from_str(include_str!("../tests/fixtures/signatures.json")).unwrap();
    let token = "a token of forty-three characters, as given";
    let mut group = criterion.benchmark_group("authenticate");
    for (name, request) in [
        ("signature/python", find(&captured, "python", "/count HTTP")),
        ("signature/python with filters", find(&captured, "python", "status=")),
        ("signature/node with filters and body", find(&captured, "node", "status=")),
    ] {
        let (access, parts, now) = (access(request, token), request.parts(), request.signed_at());
        let verify = || {
            let parts = black_box(&parts);
            let signature = Signature::read(&parts.headers, || now).unwrap().unwrap();
            assert!(access.key_owner(&signature).is_some());
            access
                .verify_signature(&signature, parts, &Sha256::digest(black_box(request.body.as_bytes())).into())
                .unwrap()
                .clone()
        };
        assert_eq!(verify().name(), "own");
        group.bench_function(name, |bencher| bencher.iter(verify));
    }
    let access = access(&captured[0], token);
    let look_up = || {
        let token = Token::new(black_box(token.as_bytes())).unwrap();
        // The file knows it, so nobody has to be waited for.
        access.authenticate(token).now_or_never().unwrap().unwrap()
    };
    assert_eq!(look_up().name(), "own");
    group.bench_function("token", |bencher| bencher.iter(look_up));

    let url = identity_service();
    let text = format!("[identity]\nurl = \"{url}\"\ncache = \"1h\"\n[identity.roles]\nreader = \"account\"\n");
    let metrics = IdentityMetrics::new(&prometheus::Registry::new()).unwrap();
    let access = AccessHandle::open(AccessSource::Text(text), Vec::new(), metrics).unwrap().load().clone();
    let token = Token::new(token.as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(access.authenticate(token)).unwrap().name(), "u");
    // What is remembered is there at once.
    let remembered = || access.authenticate(black_box(token)).now_or_never().unwrap().unwrap();
    group.bench_function("token remembered of the identity service", |bencher| bencher.iter(remembered));
    group.finish();
}

/// An identity service that knows one token, for one call; its URL.
fn identity_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v3", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let body = r#"{"token":{"expires_at":"2126-01-01T00:00:00.000000Z","user":{"id":"u"},"project":{"id":"p"},"roles":[{"name":"reader"}]}}"#;
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    url
}

/// The first request of an SDK whose request line has that part.
fn find<'a>(captured: &'a [Captured], sdk: &str, part: &str) -> &'a Captured {
    let is_of = |request: &&Captured| {
        let agent = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
        agent.is_some_and(|(_, agent)| agent.contains(sdk)) && request.request_line.contains(part)
    };
    captured.iter().find(is_of).unwrap()
}

criterion_group!(benches, authenticate);
criterion_main!(benches);
