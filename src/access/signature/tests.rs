//! Requests captured from the SDKs, and changes of each of their parts.

use super::*;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    request_line: String,
    headers: Vec<(String, String)>,
    body: String,
    sk: String,
    canonical_request: String,
    signature: String,
}

/// Requests captured from the SDKs on the network, and edge cases that the signers of the SDKs signed.
fn vectors() -> Vec<Vector> {
    let read = |text: &str| -> Vec<Vector> { serde_json::from_str(text).unwrap() };
    let mut vectors = read(include_str!("../../../tests/fixtures/signatures.json"));
    vectors.extend(read(include_str!("../../../tests/fixtures/signatures-more.json")));
    vectors
}

fn body_digest(body: &[u8]) -> BodyDigest {
    digest::digest(&digest::SHA256, body).as_ref().try_into().unwrap()
}

impl Vector {
    fn parts(&self) -> Parts {
        let mut line = self.request_line.split(' ');
        let mut request = Request::builder().method(line.next().unwrap()).uri(line.next().unwrap());
        for (name, value) in &self.headers {
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn date(&self) -> Timestamp {
        parse_date(self.header("x-sdk-date")).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).unwrap().1
    }

    fn secret(&self) -> Secret {
        Secret::new(&self.sk).unwrap()
    }

    fn verify(&self, parts: &Parts, body: &[u8]) -> Result<(), SignatureError> {
        let signature = Signature::read(&parts.headers, || self.date())?.expect("a signature");
        signature.verify(parts, &body_digest(body), &self.secret(), &[])
    }
}

#[test]
fn every_captured_request_is_accepted() {
    for vector in vectors() {
        let parts = vector.parts();
        let signature = Signature::read(&parts.headers, || vector.date()).unwrap().unwrap();
        let (mut canonical, body) = (Vec::new(), body_digest(vector.body.as_bytes()));
        canonical::push_target(&mut canonical, &parts);
        canonical::push_headers(&mut canonical, &parts.headers, signature.signed_headers, None, &body).unwrap();
        assert_eq!(String::from_utf8(canonical.clone()).unwrap(), vector.canonical_request);
        let digest = digest::digest(&digest::SHA256, &canonical);
        let key = hmac::Key::new(hmac::HMAC_SHA256, vector.secret().bytes());
        assert_eq!(sign(digest, signature.date, &key), vector.signature);
        assert_eq!(vector.verify(&parts, vector.body.as_bytes()), Ok(()));
    }
    assert_eq!(vectors().len(), 11 + 43);
}

#[test]
fn a_change_of_any_part_is_refused() {
    for vector in vectors() {
        let refused = |change: &dyn Fn(&mut Parts), body: &[u8]| {
            let mut parts = vector.parts();
            change(&mut parts);
            let result = vector.verify(&parts, body);
            assert!(result.is_err(), "{}", vector.request_line);
        };
        let body = vector.body.as_bytes();
        refused(&|parts| parts.method = Method::PUT, body);
        let uri = |parts: &Parts, from: &str, to: &str| -> Uri {
            parts.uri.to_string().replacen(from, to, 1).parse().unwrap()
        };
        let longer = |parts: &Parts| format!("{}x?{}", parts.uri.path(), parts.uri.query().unwrap_or_default());
        refused(&|parts| parts.uri = longer(parts).parse().unwrap(), body);
        refused(
            &|parts| {
                parts.uri =
                    format!("{}{}x=1", parts.uri, if parts.uri.query().is_some() { '&' } else { '?' }).parse().unwrap()
            },
            body,
        );
        if vector.request_line.contains("status=") {
            refused(&|parts| parts.uri = uri(parts, "status=", "status=X"), body);
        }
        refused(&|_| {}, format!("{} ", vector.body).as_bytes());
        let authorization = vector.header("authorization");
        let signed = authorization.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        for name in signed.split(';') {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            refused(&|parts| drop(parts.headers.insert(&name, "changed".parse().unwrap())), body);
            refused(&|parts| drop(parts.headers.remove(&name)), body);
            refused(&|parts| assert!(parts.headers.append(&name, parts.headers[&name].clone())), body);
        }
        // A proxy may add an unsigned header.
        let mut parts = vector.parts();
        parts.headers.insert("x-unsigned", "1".parse().unwrap());
        assert_eq!(vector.verify(&parts, body), Ok(()));
        let other = Secret::new(&format!("{}x", vector.sk)).unwrap();
        let parts = vector.parts();
        let signature = Signature::read(&parts.headers, || vector.date()).unwrap().unwrap();
        assert_eq!(signature.verify(&parts, &body_digest(body), &other, &[]), Err(SignatureError::Invalid));
    }
}

#[test]
fn equivalent_queries_have_one_signature() {
    let vector = &vectors()[1];
    let mut parts = vector.parts();
    for query in [
        "status=SUCCESS&job_type=CREATE_SERVER%2CDELETE_SERVER&job_id=2382dd96-x%20y%2Fz%2B%C3%A9%25%26%3D",
        "job_id=2382dd96-x+y%2fz%2b%c3%a9%25%26%3d&job_type=CREATE_SERVER,DELETE_SERVER&status=SUCCESS",
        "&%6Aob_id=2382dd96%2Dx%20y/z%2B%C3%A9%25%26=&job_type=CREATE_SERVER%2CDELETE_SERVER&&status=SUCCESS",
    ] {
        parts.uri = format!("{}?{query}", parts.uri.path()).parse().unwrap();
        assert_eq!(vector.verify(&parts, b""), Ok(()), "{query}");
    }
}

fn read(headers: &[(&'static str, &str)], now: &str) -> Result<bool, SignatureError> {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    Signature::read(&headers.collect(), || now.parse().unwrap()).map(|signature| signature.is_some())
}

#[test]
fn the_date_must_be_near_and_signed() {
    const NOW: &str = "2026-11-24T12:00:00Z";
    let with = |date: &str, signed: &str| {
        let authorization = format!("SDK-HMAC-SHA256 Access=a, SignedHeaders={signed}, Signature=b");
        read(&[("authorization", &authorization), ("x-sdk-date", date), ("host", "h")], NOW)
    };
    for near in ["20261124T120000Z", "20261124T114500Z", "20261124T121500Z"] {
        assert_eq!(with(near, "host;x-sdk-date"), Ok(true), "{near}");
    }
    for far in ["20261124T114459Z", "20261124T121501Z", "20200101T000000Z", "99991230T000000Z"] {
        assert_eq!(with(far, "host;x-sdk-date"), Err(SignatureError::Skew), "{far}");
    }
    for none in
        ["", "20261124T120000", "2026-11-24T12:00:00Z", "20261124 120000Z", "20261324T120000Z", "2026112éT12000Z"]
    {
        assert_eq!(with(none, "x-sdk-date"), Err(SignatureError::Date), "{none}");
    }
    assert_eq!(with("20261124T120000Z", "host"), Err(SignatureError::Date));
    let signed = ("authorization", "SDK-HMAC-SHA256 Access=a, SignedHeaders=x-sdk-date, Signature=b");
    assert_eq!(read(&[signed], NOW), Err(SignatureError::Date));
    let date = ("x-sdk-date", "20261124T120000Z");
    let headers: HeaderMap = [signed, date, date]
        .into_iter()
        .map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap()))
        .fold(HeaderMap::new(), |mut all, (name, value): (_, HeaderValue)| {
            all.append(name, value);
            all
        });
    let twice = Signature::read(&headers, || NOW.parse().unwrap());
    assert_eq!(twice.map(|_| ()), Err(SignatureError::Date));
}

#[test]
fn the_form_is_exact_and_other_schemes_are_ignored() {
    const NOW: &str = "2026-11-24T12:00:00Z";
    let date = ("x-sdk-date", "20261124T120000Z");
    for none in [
        "Bearer SDK-HMAC-SHA256",
        "SDK-HMAC-SM3 Access=a, SignedHeaders=x-sdk-date, Signature=b",
        "sdk-hmac-sha256 x",
        "",
    ] {
        assert_eq!(read(&[("authorization", none), date], NOW), Ok(false), "{none}");
    }
    assert_eq!(read(&[], NOW), Ok(false));
    for bad in [
        "SDK-HMAC-SHA256",
        "SDK-HMAC-SHA256 ",
        "SDK-HMAC-SHA256 Access=a, SignedHeaders=x-sdk-date",
        "SDK-HMAC-SHA256 Access=, SignedHeaders=x-sdk-date, Signature=b",
        "SDK-HMAC-SHA256 Access=a, Access=a, SignedHeaders=x-sdk-date, Signature=b",
        "SDK-HMAC-SHA256 Access=a, SignedHeaders=x-sdk-date, Signature=b, More=c",
        "SDK-HMAC-SHA256 Access=a; SignedHeaders=x-sdk-date; Signature=b",
    ] {
        assert_eq!(read(&[("authorization", bad), date], NOW), Err(SignatureError::Form), "{bad}");
    }
}

#[test]
fn several_authorizations_are_refused() {
    let vector = &vectors()[0];
    for other in ["Bearer x", vector.header("authorization")] {
        let mut parts = vector.parts();
        parts.headers.append("authorization", other.parse().unwrap());
        assert_eq!(vector.verify(&parts, b""), Err(SignatureError::Repeated), "{other}");
    }
    let bearers = ["Bearer x", "Basic y"].map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)));
    let mut headers = HeaderMap::new();
    headers.extend(bearers);
    assert!(Signature::read(&headers, Timestamp::now).unwrap().is_none());
}

#[test]
fn a_signature_is_lower_case_and_no_secret_is_printed() {
    let vector = &vectors()[0];
    let mut parts = vector.parts();
    let upper = vector.header("authorization").replace(&vector.signature, &vector.signature.to_uppercase());
    parts.headers.insert("authorization", upper.parse().unwrap());
    assert_eq!(vector.verify(&parts, b""), Err(SignatureError::Invalid));
    assert_eq!(format!("{:?}", vector.secret()), "Secret(…)");
}

/// A header that is listed many times once made the canonical request much longer than the request.
#[test]
fn a_signed_header_is_listed_once_and_given_once() {
    const NOW: &str = "2026-11-24T12:00:00Z";
    let long = "x".repeat(30_000);
    let read = |names: &str| {
        let authorization = format!("SDK-HMAC-SHA256 Access=a, SignedHeaders={names}, Signature=b");
        let headers = [
            ("authorization", &*authorization),
            ("x-sdk-date", "20261124T120000Z"),
            ("host", "h"),
            ("a", &long),
            ("accept", "*/*"),
        ];
        read(&headers, NOW)
    };
    for good in ["x-sdk-date", "a;accept;authorization;host;x-sdk-date", "x-sdk-date;A"] {
        assert_eq!(read(good), Ok(true), "{good}");
    }
    let many = format!("x-sdk-date{}", ";a".repeat(14_000));
    let other_names: String = (0..5).map(|n| format!("x-{n};")).collect();
    for bad in [
        &*many,
        "a;a;x-sdk-date",
        "a;x-sdk-date;a",
        "A;a;x-sdk-date",
        "host;x-sdk-date;x-sdk-date",
        "x-sdk-date;",
        ";x-sdk-date",
        "a;;x-sdk-date",
        "b;x-sdk-date",
        "é;x-sdk-date",
        ":authority;x-sdk-date",
        "a b;x-sdk-date",
        &format!("{other_names}x-sdk-date"),
        &format!("{};x-sdk-date", "n".repeat(40_000)),
        &format!("{};x-sdk-date", "n".repeat(70_000)),
    ] {
        assert_eq!(read(bad), Err(SignatureError::Header), "{}", &bad[..bad.len().min(80)]);
    }
}

/// One allocation for each pair needed fifty times the length of the query.
#[test]
fn a_query_of_many_pairs_is_sorted_as_one_of_few() {
    let sorted = |query: &str| {
        let mut text = Vec::new();
        canonical::push_target(&mut text, &Request::get(format!("/?{query}")).body(()).unwrap().into_parts().0);
        String::from_utf8(text).unwrap()
    };
    assert_eq!(sorted("b&a=2&a=1&%61=%31&a+b=%2B&a=&%00&&"), "GET\n/\n%00=&a=&a=1&a=1&a=2&a%20b=%2B&b=\n");
    let (ordered, reversed): (Vec<_>, Vec<_>) =
        (0..7_000).map(|n| (format!("a{n:05}"), format!("a{:05}", 6_999 - n))).unzip();
    assert_eq!(sorted(&ordered.join("&")), sorted(&reversed.join("&")));
}

#[test]
fn a_public_host_replaces_the_host_received() {
    let hosts = |names: &[&str]| -> Vec<PublicHost> { names.iter().map(|name| name.parse().unwrap()).collect() };
    for vector in vectors() {
        let body = body_digest(vector.body.as_bytes());
        let mut parts = vector.parts();
        let verify = |parts: &Parts, hosts: &[PublicHost]| {
            let signature = Signature::read(&parts.headers, || vector.date()).unwrap().unwrap();
            signature.verify(parts, &body, &vector.secret(), hosts)
        };
        let own = vector.header("host");
        assert_eq!(verify(&parts, &hosts(&["other.example"])), Ok(()));
        parts.headers.insert("host", "127.0.0.1:8080".parse().unwrap());
        if Signature::read(&parts.headers, || vector.date()).unwrap().unwrap().covers_host() {
            assert_eq!(verify(&parts, &[]), Err(SignatureError::Invalid));
            assert_eq!(verify(&parts, &hosts(&["other.example"])), Err(SignatureError::Invalid));
            assert_eq!(verify(&parts, &hosts(&["other.example", own])), Ok(()));
        }
        parts.method = Method::PUT;
        assert_eq!(verify(&parts, &hosts(&["other.example", own])), Err(SignatureError::Invalid));
    }
}
