//! The form of every response: codes, headers, request ids, methods and paths.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use subjobs::config::Config;

use crate::support::connection::{Connection, exchange, head, request};
use crate::support::fixtures::{OPS, PROJECT, code, config, count_path, report_path};
use crate::support::response::Response;
use crate::support::server::Running;

/// A response to HEAD equals the response to GET, without the body.
#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Running::start(config()).await;
    let mut connection = Connection::open(server.public).await;
    let same = async |connection: &mut Connection, request: &str, status: u16| {
        connection.send(request).await;
        let mut got = connection.response().await;
        connection.send(request.replacen("GET", "HEAD", 1)).await;
        let head = connection.response_to_head().await;
        assert_eq!(head.status, status);
        assert_eq!(head.header("content-length"), Some(&*got.body.len().to_string()));
        got.body.clear();
        let without_date = |answer: Response| {
            let kept = answer.headers.into_iter().filter(|(name, _)| name != "date");
            kept.collect::<BTreeMap<_, _>>()
        };
        assert_eq!(without_date(head), without_date(got));
    };
    let own = ["X-Request-Id: mine"];
    for (target, status) in [
        (count_path(PROJECT), 200),
        (count_path(PROJECT) + "?status=x", 400),
        (count_path("nowhere"), 404),
        ("/nowhere".into(), 404),
        (count_path("a%00"), 400),
    ] {
        same(&mut connection, &request("GET", &target, OPS, &own), status).await;
    }
    let anonymous = head(&format!("GET {} HTTP/1.1", count_path(PROJECT)), &["Host: h", own[0]]);
    same(&mut connection, &anonymous, 401).await;

    let full = Running::start(Config { max_in_flight: 0, ..config() }).await;
    let mut connection = Connection::open(full.public).await;
    same(&mut connection, &request("GET", &count_path(PROJECT), OPS, &own), 503).await;

    let mut internal = Connection::open(server.internal).await;
    internal.send(request("HEAD", &report_path(PROJECT), OPS, &own)).await;
    let not_allowed = internal.response_to_head().await;
    assert_eq!((not_allowed.status, not_allowed.header("allow")), (405, Some("POST")));
    for (path, status) in [("/healthz", 200), ("/readyz", 200)] {
        same(&mut internal, &request("GET", path, OPS, &own), status).await;
    }
}

/// The methods of `Allow`, as a set.
fn allowed(answer: &Response) -> Vec<&str> {
    let mut methods: Vec<_> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
    methods.sort_unstable();
    methods
}

#[tokio::test]
async fn other_methods_get_405_with_allow() {
    let server = Running::start(config()).await;
    let others =
        "POST PUT PATCH DELETE OPTIONS TRACE CONNECT PROPFIND QUERY BREW get Get gET GETS head X-Y a!#$%&'*+-.^_`|~";
    for method in others.split(' ') {
        for target in [count_path(PROJECT), count_path("a%00"), count_path("nowhere") + "?status=x&status=x"] {
            let answer = exchange(server.public, request(method, &target, OPS, &["Connection: close"])).await;
            answer.assert_error(405, code::METHOD);
            assert_eq!(allowed(&answer), ["GET", "HEAD"], "{method}");
        }
    }
    for (method, path, expected) in [
        ("GET", report_path(PROJECT), &["POST"][..]),
        ("PUT", report_path(PROJECT), &["POST"]),
        ("POST", "/healthz".into(), &["GET", "HEAD"]),
        ("OPTIONS", "/readyz".into(), &["GET", "HEAD"]),
        ("DELETE", "/metrics".into(), &["GET", "HEAD"]),
    ] {
        let answer = exchange(server.internal, request(method, &path, OPS, &[])).await;
        answer.assert_error(405, code::METHOD);
        assert_eq!(allowed(&answer), expected, "{method} {path}");
    }
}

/// Sends each request on its own connection, and asserts that it gets 404.
async fn assert_unknown_paths(address: SocketAddr, method: &str, targets: &[&str]) {
    for target in targets {
        let answer = exchange(address, request(method, target, OPS, &["Connection: close"])).await;
        assert_eq!(answer.status, 404, "{method} {target}");
        assert_eq!(answer.assert_error(404, code::NOT_FOUND), "no such path", "{method} {target}");
    }
}

#[tokio::test]
async fn unknown_paths_get_404_for_every_method() {
    let server = Running::start(config()).await;
    for method in ["GET", "POST", "OPTIONS", "BREW"] {
        assert_unknown_paths(
            server.public,
            method,
            &[
                "/",
                "//",
                "/v1",
                "/v1/p",
                "/v1/p/app-server-sub-job",
                "/v1/p/app-server-sub-jobs/actions",
                "/v1/p/app-server-sub-jobs/actions/",
                "/v1/p/app-server-sub-jobs/actions/count/",
                "/v1/p/app-server-sub-jobs/actions/count/x",
                "/v1/p/app-server-sub-jobs/actions/count//",
                "/v1/p/app-server-sub-jobs/actions/coun",
                "/v1/p/app-server-sub-jobs/actions/counts",
                "/v1/p/app-server-sub-jobs/actions/Count",
                "/v1/p/app-server-sub-jobs/actions/c%6Funt",
                "/v1/p/app-server-sub-jobs/actions/count%00",
                "/v1/p/app-server-sub-jobs/actions/count%2F",
                "/v1/p/app-server-sub-jobs/actions/count;a=b",
                "/v1/p/app-server-sub-jobs/actions//count",
                "/v1/p/app-server-sub-jobs//actions/count",
                "/v1/p//app-server-sub-jobs/actions/count",
                "/v1//app-server-sub-jobs/actions/count",
                "//v1/p/app-server-sub-jobs/actions/count",
                "//p/app-server-sub-jobs/actions/count",
                "/V1/p/app-server-sub-jobs/actions/count",
                "/v1%2Fp/app-server-sub-jobs/actions/count",
                "/%761/p/app-server-sub-jobs/actions/count",
                "/v2/p/app-server-sub-jobs/actions/count",
                "/v1/a/b/app-server-sub-jobs/actions/count",
                "/v1/p/App-Server-Sub-Jobs/actions/count",
                "/v1/p/app-server-sub-jobs/./actions/count",
                "/v1/p/x/../app-server-sub-jobs/actions/count",
                "/v1/p/app-server-sub-jobs/actions/count/../count",
                "/x?/v1/p/app-server-sub-jobs/actions/count",
                // Paths that only the internal listener has.
                "/v1/p/app-server-sub-jobs/actions/report",
                "/healthz",
                "/readyz",
                "/metrics",
            ],
        )
        .await;
        assert_unknown_paths(
            server.internal,
            method,
            &[
                "//",
                "/page",
                "/page/",
                "/overview/",
                "/healthz/",
                "//healthz",
                "/Healthz",
                "/%68ealthz",
                "/v1/p/app-server-sub-jobs/actions/count",
                "/v1//app-server-sub-jobs/actions/report",
                "/v1/p/app-server-sub-jobs/actions/report/",
            ],
        )
        .await;
    }
    assert_unknown_paths(server.public, "OPTIONS", &["*"]).await;
    assert_unknown_paths(server.public, "CONNECT", &["h:443"]).await;
}

#[tokio::test]
async fn a_valid_request_id_is_returned_and_an_invalid_one_is_replaced() {
    let server = Running::start(config()).await;
    let mut seen = std::collections::HashSet::new();
    let longest = "x".repeat(128);
    let long = "x".repeat(129);
    let visible: String = ('!'..='~').collect();
    for (target, status) in
        [(count_path(PROJECT), 200), (count_path("nowhere"), 404), ("/".into(), 404), (count_path("%"), 400)]
    {
        let mut connection = Connection::open(server.public).await;
        let mut id_for = async |ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(|id| format!("x-request-ID: {id}")).collect();
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            connection.send(request("GET", &target, OPS, &ids)).await;
            let answer = connection.response().await;
            assert_eq!(answer.status, status);
            answer.header("x-request-id").unwrap().to_owned()
        };
        for own in ["a", "2b31-4f", &longest, &visible] {
            assert_eq!(id_for(&[own]).await, own);
        }
        for unfit in [&[][..], &[""], &["a b"], &["a\tb"], &["é"], &[&long], &["a", "a"], &["a", "b"]] {
            let id = id_for(unfit).await;
            assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
            assert!(!unfit.contains(&&*id), "{id}");
            assert!(seen.insert(id), "a new id that is not new");
        }
    }
}

/// The publisher's SDKs read the request id of every response. No response may be cached.
#[tokio::test]
async fn internal_responses_have_the_common_headers() {
    let server = Running::start(config()).await;
    for (path, content_type) in [
        ("/healthz", "text/plain"),
        ("/readyz", "text/plain"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/nowhere", "application/json"),
    ] {
        let response = server.get_internal(path).await;
        let headers = response.headers();
        assert!(headers["content-type"].to_str().unwrap().starts_with(content_type), "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert!(!headers["x-request-id"].is_empty(), "{path}");
    }
}
