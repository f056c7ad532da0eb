//! Heads of requests: signatures, tokens, queries.

use http::Request;
use http::request::Parts;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use subjobs::access::{Access, Signature, Token};
use subjobs::api::query;
use subjobs::domain::{Family, JobTypes, Timestamp};

use crate::Bound;

/// The bytes of a head.
fn length(parts: &Parts) -> usize {
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    parts.uri.to_string().len() + headers.sum::<usize>() + 20
}

/// A signed request. `X-Sdk-Date` is that of the moment which the signature is read at.
fn signed(target: &str, names: &str, headers: &[(String, String)]) -> Parts {
    let signature = format!("SDK-HMAC-SHA256 Access=AK, SignedHeaders={names}, Signature={}", "0".repeat(64));
    let mut request = Request::get(target).header("Authorization", signature).header("X-Sdk-Date", "20220307T104043Z");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

pub(crate) fn signatures_and_tokens() {
    let access = Access::parse(
        "[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\naccess_keys = [{ id = \"AK\", secret = \"s\" }]",
    );
    let access = access.unwrap();
    let now: Timestamp = "2022-03-07T10:40:43Z".parse().unwrap();
    let mut bound = Bound::new("signature", 8);
    let mut check = |name: &str, parts: &Parts| {
        bound.hold(name, length(parts), || {
            let Ok(Some(signature)) = Signature::read(&parts.headers, || now) else { return };
            let _ = access.verify_signature(&signature, parts, &[0; 32]);
        });
    };
    let header = |n: usize, value: &str| (format!("x-{n}"), value.to_owned());
    let long = "x".repeat(30_000);
    let all: Vec<_> = (0..90).map(|n| header(n, &"y".repeat(2_000))).collect();
    let all_names: String = (0..90).map(|n| format!("x-{n};")).collect();
    for (name, target, names, headers) in [
        ("one header, named 14,000 times", "/", "x-1;".repeat(14_000) + "x-sdk-date", vec![header(1, &long)]),
        ("the date, named 5,000 times", "/", "x-sdk-date;".repeat(5_000) + "x-sdk-date", vec![]),
        ("names of no header", "/", (0..9_000).map(|n| format!("x-{n};")).collect::<String>() + "x-sdk-date", vec![]),
        ("empty names", "/", ";".repeat(60_000) + "x-sdk-date", vec![header(1, "")]),
        ("every header", "/", all_names + "x-sdk-date", all),
        ("a long path", &*format!("/{}", "%00".repeat(20_000)), "x-sdk-date".into(), vec![]),
        ("a path of characters to encode", &*format!("/{}", "$".repeat(60_000)), "x-sdk-date".into(), vec![]),
        ("many segments", &*"/".repeat(60_000), "x-sdk-date".into(), vec![]),
        ("many empty pairs", &*format!("/?{}", "&".repeat(60_000)), "x-sdk-date".into(), vec![]),
        ("many short pairs", &*format!("/?{}", "a&".repeat(30_000)), "x-sdk-date".into(), vec![]),
        ("many encoded pairs", &*format!("/?{}", "%01=+&".repeat(10_000)), "x-sdk-date".into(), vec![]),
        ("one long encoded value", &*format!("/?a={}", "$".repeat(60_000)), "x-sdk-date".into(), vec![]),
    ] {
        check(name, &signed(target, &names, &headers));
    }
    let generated = (
        "/[a-c/%$]{0,40}[?&=%+a$]{0,200}".prop_filter("no URI", |target| target.parse::<http::Uri>().is_ok()),
        "(x-[0-9];|;|host;|x-sdk-date;){0,40}",
        prop::collection::vec(("x-[0-9]", "[ -~]{0,60}"), 0..20),
    );
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..Default::default() });
    let inputs = std::cell::RefCell::new(Vec::new());
    runner
        .run(&generated, |input| {
            inputs.borrow_mut().push(input);
            Ok(())
        })
        .unwrap();
    for (target, names, headers) in inputs.take() {
        check("generated", &signed(&target, &format!("{names}x-sdk-date"), &headers));
    }

    let mut bound = Bound::new("token", 0);
    bound.base = 0;
    let token = vec![b'x'; 200_000];
    bound.hold("a long one", token.len(), || Token::new(&token).unwrap().digest());
}

pub(crate) fn queries() {
    let types = JobTypes::default();
    let mut bound = Bound::new("query", 3);
    let mut check = |name: &str, text: &str| {
        bound.hold(name, text.len(), || query::count(text, Family::App, &types).is_ok());
        bound.hold(name, text.len(), || query::list(text, Family::Image, &types).is_ok());
    };
    for (name, piece) in [
        ("empty pairs", "&"),
        ("unknown names", "a=b&"),
        ("encoded names", "%61=+&"),
        ("job_id of encoded characters", "%C3%A9"),
        ("spaces", "+"),
        ("spaces and more", "+%20"),
        ("job types", "CREATE_SERVER,"),
        ("commas", ","),
        ("bad encodings", "+%zz"),
    ] {
        for parameter in ["", "job_id=", "job_type=", "status=", "job%5fid=", "a="] {
            check(name, &(parameter.to_owned() + &piece.repeat(60_000 / piece.len())));
        }
    }
}
