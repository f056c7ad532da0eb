//! The shipped gateway, `deploy/nginx.conf`, in front of a server.

use std::thread;

use subjobs::access::{AccessSource, Token};
use subjobs::config::Config;

use crate::support::blocking::{BlockingConnection, exchange};
use crate::support::connection::request;
use crate::support::fixtures::{
    DASHBOARD, Files, OPS, OTHER_PROJECT, PROJECT, access, code, config, count_path, record, report_path,
};
use crate::support::gateways::{Gateway, blocking};
use crate::support::program::Program;
use crate::support::server::Running;
use crate::support::wait::until;

#[tokio::test]
async fn the_gateway_forwards_counts_and_hides_the_internal_listener() {
    let server = Running::start(config()).await;
    let report = record("1", "a/b c", "CREATE_SERVER", "RUNNING");
    assert_eq!(server.report(OPS, report).send().await.unwrap().status(), 200);
    let gateway = Gateway::start(server.public);
    blocking(move || {
        let count = count_path(PROJECT);
        for (query, expected) in [
            ("", r#"{"count":1}"#),
            ("?status=RUNNING&job_type=CREATE_SERVER%2CDELETE_SERVER", r#"{"count":1}"#),
            ("?job_id=a%2Fb+c", r#"{"count":1}"#),
            ("?job_id=a%252Fb+c", r#"{"count":0}"#),
            ("?status=FAILED", r#"{"count":0}"#),
        ] {
            let answer = gateway.get(&format!("{count}{query}"), DASHBOARD);
            assert_eq!((answer.status, answer.text()), (200, expected), "{query}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        let answer = gateway.ask("HEAD", &count, OPS, &[]);
        assert_eq!((answer.status, answer.text()), (200, ""));

        let report = report_path(PROJECT);
        for path in
            ["/metrics", "/healthz", "/readyz", "/openapi.json", &report, "//metrics", "/v1/../metrics", "/%6detrics"]
        {
            gateway.get(path, OPS).assert_error(404, code::NOT_FOUND);
        }
        let body = ["Content-Type: application/x-ndjson", "Content-Length: 0"];
        gateway.ask("POST", &report, OPS, &body).assert_error(404, code::NOT_FOUND);
        // The path of the gateway's errors is not public.
        gateway.get("/-gateway-error", OPS).assert_error(404, code::NOT_FOUND);
    })
    .await;
}

#[tokio::test]
async fn the_gateway_does_not_change_errors() {
    let mut server = Running::start(config()).await;
    let gateway = Gateway::start(server.public);
    let public = server.public;
    let gateway = tokio::task::spawn_blocking(move || {
        let count = count_path(PROJECT);
        for (method, path, token, status, code) in [
            ("GET", format!("{count}?status=NOPE"), OPS, 400, code::INPUT),
            ("GET", format!("{count}?job_id=%zz"), OPS, 400, code::INPUT),
            ("GET", format!("{count}?job_id=%00"), OPS, 400, code::INPUT),
            ("GET", count.clone(), "", 401, code::CREDENTIAL),
            ("GET", count.clone(), "unknown-token", 401, code::CREDENTIAL),
            ("GET", count_path(OTHER_PROJECT), DASHBOARD, 403, code::PERMISSION),
            ("GET", count_path("unknown"), OPS, 404, code::NOT_FOUND),
            ("GET", format!("{count}/"), OPS, 404, code::NOT_FOUND),
            ("POST", count.clone(), OPS, 405, code::METHOD),
            ("DELETE", count.clone(), OPS, 405, code::METHOD),
            ("TRACE", count.clone(), OPS, 405, code::METHOD),
        ] {
            let id = ["X-Request-Id: the-callers-own", "Content-Length: 0"];
            let answer = gateway.ask(method, &path, token, &id);
            answer.assert_error(status, code);
            assert_eq!(answer.header("x-request-id"), Some("the-callers-own"), "{method} {path}");
            assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
            // The response equals that of the server, except for headers of the connection.
            let direct = exchange(public, request(method, &path, token, &[&id[..], &["Connection: close"]].concat()));
            assert_eq!(answer.text(), direct.text(), "{method} {path}");
        }
        // Without a request id of the caller the gateway adds one, which is also in its log.
        let answer = gateway.get(&count, "");
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        until("it is in the log", || gateway.log("access.log").contains(&id).then_some(()));
        let unfit = gateway.ask("GET", &count, "", &[&format!("X-Request-Id: {}", "x".repeat(129))]);
        assert_eq!(unfit.header("x-request-id").unwrap().len(), 32);
        let twice = gateway.ask("GET", &count, OPS, &["X-Auth-Token: other"]);
        twice.assert_error(401, code::CREDENTIAL);
        let log = gateway.log("access.log") + &gateway.log("error.log");
        assert!(!log.contains(OPS) && !log.contains("unknown-token"), "{log}");
        gateway
    })
    .await
    .unwrap();

    // A stopped server and a draining one give the same response.
    server.stop();
    assert_eq!(server.ended().await, 0);
    blocking(move || {
        for path in [count_path(PROJECT), "/".to_owned(), "/-gateway-error".to_owned()] {
            gateway.ask("GET", &path, OPS, &["X-Request-Id: mine"]).assert_error(503, code::UNAVAILABLE);
        }
        gateway.ask("POST", "/", OPS, &["Content-Length: 0"]).assert_error(503, code::UNAVAILABLE);
        gateway.ask("TRACE", "/", OPS, &[]).assert_error(503, code::UNAVAILABLE);
    })
    .await;
}

#[tokio::test]
async fn the_gateway_forwards_long_tokens() {
    let tokens = [8, 32].map(|kib| "t".repeat(kib * 1024));
    let mut text = access();
    for (at, token) in tokens.iter().enumerate() {
        let hash = Token::new(token.as_bytes()).unwrap().digest();
        let principal = format!("[[principal]]\nname = \"{at}\"\nkind = \"account\"\nprojects = [\"*\"]\n");
        text = format!("{text}\n{principal}tokens = [{{ sha256 = \"{hash}\" }}]\n");
    }
    let server = Running::start(Config { access: AccessSource::Text(text), ..config() }).await;
    let gateway = Gateway::start(server.public);
    blocking(move || {
        for token in &tokens {
            assert_eq!(gateway.get(&count_path(PROJECT), token).text(), r#"{"count":0}"#, "{}", token.len());
        }
        gateway.get(&count_path(PROJECT), &format!("{}x", tokens[1])).assert_error(401, code::CREDENTIAL);
        // Above the limit of a head the gateway sends an error in the form of the API.
        gateway.get(&count_path(PROJECT), &"t".repeat(70 * 1024)).assert_error(431, code::HEADERS_TOO_LARGE);
        let target = format!("{}?job_id={}", count_path(PROJECT), "j".repeat(70 * 1024));
        gateway.get(&target, OPS).assert_error(414, code::TARGET_TOO_LONG);
    })
    .await;
}

#[tokio::test]
async fn the_gateway_does_not_change_paths() {
    let server = Running::start(config()).await;
    let gateway = Gateway::start(server.public);
    blocking(move || {
        let path = |project: &str| format!("/v1/{project}/app-server-sub-jobs/actions/count");
        // If the gateway decoded these, they would be other projects or paths.
        for project in ["a%2Fb", "%2e%2e", "a%5Cb", "a%20b", "%C3%28"] {
            let answer = gateway.get(&path(project), OPS);
            answer.assert_error(400, code::INPUT);
            assert!(answer.text().contains("project_id must"), "{project}: {}", answer.text());
        }
        for sent in [
            path(""),
            format!("/{}", path(PROJECT)),
            path(PROJECT).replace("/actions", "//actions"),
            path(PROJECT).replace("count", "c%6Funt"),
            format!("/x/..{}", path(PROJECT)),
            format!("/.{}", path(PROJECT)),
        ] {
            gateway.get(&sent, OPS).assert_error(404, code::NOT_FOUND);
        }
        let encoded: String = PROJECT.bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(gateway.get(&path(&encoded), OPS).text(), r#"{"count":0}"#);
    })
    .await;
}

#[tokio::test]
async fn errors_of_the_gateway_have_the_form_of_the_api() {
    let server = Running::start(config()).await;
    let gateway = Gateway::start(server.public);
    blocking(move || {
        let path = |project: &str| format!("/v1/{project}/app-server-sub-jobs/actions/count");
        for (request, status, code) in [
            (request("GET", &path("%zz"), OPS, &["Connection: close"]), 400, code::INPUT),
            (request("GET", &path("%00"), OPS, &["Connection: close"]), 400, code::INPUT),
            (request("GET", &path(PROJECT), OPS, &["Host: again", "Connection: close"]), 400, code::INPUT),
            (format!("GET {} HTTP/1.1\r\nConnection: close\r\n\r\n", path(PROJECT)), 400, code::INPUT),
            (format!("GET {} HTTP/3.0\r\nHost: a\r\nConnection: close\r\n\r\n", path(PROJECT)), 400, code::INPUT),
            ("nonsense\r\n\r\n".to_owned(), 400, code::INPUT),
            (request("POST", &path(PROJECT), OPS, &["Content-Length: 65537"]), 413, code::TOO_LARGE),
            (request("GET", &path(PROJECT), OPS, &["Transfer-Encoding: odd"]), 400, code::INPUT),
        ] {
            // Does not read to the end of the connection: nginx waits for the rest of a body that it has refused.
            let mut socket = BlockingConnection::open(gateway.address);
            socket.send(request);
            socket.response().assert_error(status, code);
        }
        // HTTP/1.0 allows a request without Host.
        let old = format!("GET {} HTTP/1.0\r\nX-Auth-Token: {OPS}\r\n\r\n", path(PROJECT));
        assert_eq!(gateway.raw(&old).text(), r#"{"count":0}"#);
        let body = format!(
            "{}{}",
            request("GET", &path(PROJECT), OPS, &["Content-Length: 65536", "Connection: close"]),
            "x".repeat(65536)
        );
        assert_eq!(gateway.raw(&body).text(), r#"{"count":0}"#);
    })
    .await;
}

#[tokio::test]
async fn the_gateway_keeps_connections_to_the_server() {
    let server = Running::start(config()).await;
    let gateway = Gateway::start(server.public);
    let asked = tokio::task::spawn_blocking(move || {
        for _ in 0..50 {
            assert_eq!(gateway.get(&count_path(PROJECT), OPS).status, 200);
        }
        gateway
    });
    let _gateway = asked.await.unwrap();
    // At most one connection for each worker of nginx, which has one worker for each core.
    let cores = thread::available_parallelism().unwrap().get() as f64;
    let open = server.metric("subjobs_http_connections{listener=\"public\"}").await.unwrap();
    assert!((1.0..=cores).contains(&open), "{open} connections, {cores} cores");
}

#[test]
fn the_gateway_forwards_503_if_no_server_is_ready() {
    let files = Files::new();
    let fifo = files.fifo("load");
    let servers: Vec<_> = (0..2).map(|_| Program::begin(&["--access", &files.access(), "--load", &fifo])).collect();
    let direct = servers[0].ask(OPS, "");
    direct.assert_error(503, code::UNAVAILABLE);
    for of in 1..=2 {
        let gateway = Gateway::before(&servers[..of].iter().map(|server| server.public).collect::<Vec<_>>());
        let answer = gateway.get(&count_path(PROJECT), OPS);
        answer.assert_error(503, code::UNAVAILABLE);
        assert_eq!(answer.text(), direct.text());
        assert_eq!(answer.header("retry-after"), direct.header("retry-after"));
    }
}
