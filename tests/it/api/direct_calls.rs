//! A request is answered alike by the router and without it. An ephemeral server has layers around its operations, so its router
//! calls them all; any other server calls some without the router.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config as Cases, TestRunner};
use subjobs::config::Config;
use subjobs::ephemeral::Ephemeral;
use tokio::runtime::Runtime;

use crate::support::connection::{Connection, head};
use crate::support::fixtures::{DASHBOARD, EXPIRED, OPS, OTHER_PROJECT, PROJECT, WORKER, config, count_path};
use crate::support::response::Response;
use crate::support::server::Running;

const METHODS: [&str; 8] = ["GET", "GET", "GET", "GET", "HEAD", "POST", "PATCH", "BREW"];

const PATHS: [&str; 10] = [
    "/v1/{}/app-server-sub-jobs/actions/count",
    "/v1/{}/app-server-sub-jobs/actions/count/",
    "/v1//{}/app-server-sub-jobs/actions/count",
    "/v1/{}/image-server-sub-jobs/actions/count",
    "/v1/{}/app-server-sub-jobs/actions/batch-delete",
    "/subjobs/v1/{}/summary",
    "/subjobs/v1/{}/wait",
    "/v1/{}/app-server-sub-jobs",
    "/v3/projects",
    "/{}",
];

const PAIRS: [&str; 14] = [
    "status=RUNNING",
    "status=",
    "%73tatus=FAILED",
    "status=x",
    "job_type=CREATE_SERVER%2CDELETE_SERVER",
    "job_type=",
    "job_type=CREATE_SERVER,",
    "job_id=j+1",
    "job_id=%zz",
    "job_id=%00",
    "family=image",
    "until=ge:0",
    "limit=1",
    "",
];

const HEADERS: [&str; 12] = [
    "If-None-Match: \"0\"",
    "If-None-Match: \"1\"",
    "If-None-Match: *",
    "Accept-Encoding: gzip",
    "X-Request-Id: mine",
    "X-Request-Id: not an id",
    "Host: h",
    "Host: [",
    "Transfer-Encoding: gzip",
    "Authorization: Bearer x",
    "X-Auth-Token: unknown-token",
    "Content-Type: application/json",
];

const BODIES: [&str; 4] = ["", "", "{\"items\":[\"a\"]}", "abc"];

/// A request, most of them with few faults.
fn request() -> impl Strategy<Value = String> {
    let project = select(&[PROJECT, PROJECT, OTHER_PROJECT, "gone", "a%2Fb", "%ff", "a%"][..]);
    let token = select(&[OPS, OPS, DASHBOARD, WORKER, EXPIRED, ""][..]);
    let query = prop_oneof![subsequence(&PAIRS[..], 0..3), subsequence(&PAIRS[..], 0..6)];
    let headers = subsequence(&HEADERS[..], 0..3);
    let version = select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"][..]);
    let (method, path, body) = (select(&METHODS[..]), select(&PATHS[..]), select(&BODIES[..]));
    (method, path, project, query, token, headers, version, body).prop_map(
        |(method, path, project, query, token, headers, version, body)| {
            let (path, query) = (path.replace("{}", project), query.join("&"));
            let target = if query.is_empty() { path } else { format!("{path}?{query}") };
            let (token, length) = (format!("X-Auth-Token: {token}"), format!("Content-Length: {}", body.len()));
            let mut all = vec!["Host: h", "Connection: close"];
            all.extend((token.len() > "X-Auth-Token: ".len()).then_some(&*token));
            // A message with both is refused before any operation is called.
            let is_framed = headers.contains(&"Transfer-Encoding: gzip");
            all.extend((!body.is_empty() && !is_framed).then_some(&*length));
            all.extend(headers);
            let body = if is_framed { "" } else { body };
            head(&format!("{method} {target} {version}"), &all) + body
        },
    )
}

/// A text in which long numbers are equal: revisions begin with the time of the server's start.
fn without_revision(text: &str) -> String {
    let mut kept = String::new();
    for part in text.split_inclusive(|character: char| !character.is_ascii_digit()) {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        kept.push_str(if digits > 9 { &part[digits..] } else { part });
    }
    kept
}

/// The response, without what differs from one request or server to the next.
async fn send(address: SocketAddr, request: &str) -> (u16, BTreeMap<String, String>, String) {
    let mut connection = Connection::open(address).await;
    connection.send(request).await;
    let Response { status, headers, body } = connection.last_response().await;
    let varies = |name: &str, value: &str| name == "date" || (name == "x-request-id" && value != "mine");
    let headers = headers.into_iter().filter(|(name, value)| !varies(name, value));
    let headers = headers.map(|(name, value)| (name, without_revision(&value))).collect();
    (status, headers, without_revision(std::str::from_utf8(&body).unwrap()))
}

#[test]
fn a_request_is_answered_alike_by_the_router_and_without_it() {
    let runtime = Runtime::new().unwrap();
    let [direct, routed] = [None, Some(Ephemeral::with_access_file())]
        .map(|ephemeral| runtime.block_on(Running::start(Config { ephemeral, ..config() })));
    let body = r#"{"id":"a","job_id":"j 1","job_type":"CREATE_SERVER","status":"FAILED"}"#;
    for server in [&direct, &routed] {
        assert_eq!(runtime.block_on(server.report(OPS, body.to_owned()).send()).unwrap().status(), 200);
    }
    let answers = |request: &str| [&direct, &routed].map(|server| runtime.block_on(send(server.public, request)));
    let count = count_path(PROJECT);
    for (method, target, token, header, status) in [
        ("GET", &count, OPS, "X-Request-Id: mine", 200),
        ("GET", &count, OPS, "If-None-Match: \"1\"", 304),
        ("GET", &format!("{count}?status=x"), OPS, "Accept: a/b", 400),
        ("GET", &count, EXPIRED, "Accept: a/b", 401),
        ("GET", &count_path(OTHER_PROJECT), DASHBOARD, "Accept: a/b", 403),
        ("GET", &format!("{count}/"), OPS, "Accept: a/b", 404),
        ("BREW", &count, OPS, "Accept: a/b", 405),
    ] {
        let token = format!("X-Auth-Token: {token}");
        let headers = ["Host: h", "Connection: close", &token, header];
        let [one, other] = answers(&head(&format!("{method} {target} HTTP/1.1"), &headers));
        assert_eq!((one.0, &one), (status, &other), "{method} {target}");
    }
    let cases = Cases { cases: 1000, failure_persistence: None, ..Cases::default() };
    let compared = TestRunner::new(cases).run(&request(), |request| {
        let [one, other] = answers(&request);
        prop_assert_eq!(one, other, "{}", request);
        Ok(())
    });
    compared.unwrap();
}
