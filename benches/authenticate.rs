//! What it costs to know who asks: a signature of a count as the SDKs send it, and a token of the access file.
//!
//! `cargo bench --bench authenticate`. A signature may cost 15 µs.

#![allow(missing_docs, reason = "criterion's macros make an item without")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should fail where it stands")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::request::{Parts, Request};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subjobs::access::{Access, Signature, Token};
use subjobs::domain::Timestamp;

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
            assert!(access.knows_key(&signature));
            access
                .signer(&signature, parts, &Sha256::digest(black_box(request.body.as_bytes())).into())
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
    group.finish();
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
