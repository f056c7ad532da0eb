//! HTTP/2: what the contract says of requests and responses holds here too.

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::{HeaderValue, Request};
use subjobs::config::Config;
use tokio::process::Command;

use crate::support::connection::{request, valid_count};
use crate::support::fixtures::{
    OPS, OPS_KEY, PROJECT, access_with_keys, code, config, count_path, record, report_path,
};
use crate::support::http2::{Http2, read};
use crate::support::response::Response;
use crate::support::server::Running;
use crate::support::signer::Call;
use crate::support::tls::Certificates;

async fn server(certificates: &Certificates, config: Config) -> Running {
    Running::start(Config { tls: Some(certificates.issue("server")), ..config }).await
}

/// What curl says with these options: the version, the status and the body.
async fn curl(server: &Running, certificates: &Certificates, more: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--write-out", " %{http_version} %{http_code}"]);
    command.arg("--cacert").arg(certificates.authority()).args(["--header", &format!("X-Auth-Token: {OPS}")]);
    command.args(more).arg(format!("https://{}{}", server.public, count_path(PROJECT))).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn curl_chooses_the_version_by_alpn() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--http1.0", "1"), ("--no-alpn", "1.1")] {
        let said = curl(&server, &certificates, &[option]).await;
        assert_eq!(said, format!("{{\"count\":0}} {version} 200"), "{option}");
    }
    let body = "x".repeat(60_000);
    let said = curl(&server, &certificates, &["--http2", "--request", "GET", "--data", &body]).await;
    assert_eq!(said, "{\"count\":0} 2 200");
}

#[tokio::test]
async fn curl_gets_a_response_that_comes_before_the_end_of_its_body() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let body = "x".repeat(120_000);
    for data in ["x", &body] {
        for _ in 0..10 {
            let said = curl(&server, &certificates, &["--http2", "--data", data]).await;
            assert!(said.contains(code::METHOD) && said.ends_with(" 2 405"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_stream_stays_open_after_its_response_until_the_body_has_come() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let (response, mut body) = http2.begin_with_body(http2.post(&count_path(PROJECT))).await;
    read(response).await.unwrap().assert_error(405, code::METHOD);
    // A reset would have come before this response.
    assert_eq!(http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().status, 200);
    body.send_data(Bytes::from_static(b"{}"), true).unwrap();
    // A body that does not come has a second.
    let (response, mut body) = http2.begin_with_body(http2.post(&count_path(PROJECT))).await;
    read(response).await.unwrap().assert_error(405, code::METHOD);
    let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
}

/// Two responses without what always differs, and without what only one version has.
fn comparable(mut response: Response) -> Response {
    let differs = ["date", "x-request-id", "connection"];
    response.headers.retain(|(name, _)| !differs.contains(&name.as_str()));
    response.headers.sort();
    response
}

#[tokio::test]
async fn responses_are_those_of_http_1() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let mut http1 = certificates.client().open(server.public).await;
    let count = count_path(PROJECT);
    for (method, target, token) in [
        ("GET", count.clone(), OPS),
        ("HEAD", count.clone(), OPS),
        ("GET", count.clone() + "?status=RUNNING&job_id=%23&job_type=", OPS),
        ("GET", count.clone() + "?status=x", OPS),
        ("GET", count.clone(), ""),
        ("GET", count.clone(), "unknown"),
        ("POST", count.clone(), OPS),
        ("BREW", count.clone(), OPS),
        ("GET", count_path("nowhere"), OPS),
        ("GET", count_path(""), OPS),
        ("GET", count.clone() + "/", OPS),
        ("OPTIONS", "/".into(), ""),
        ("GET", "//".into(), OPS),
        ("GET", format!("{count}?job_id={}", "x".repeat(60_000)), OPS),
        ("GET", format!("/v1/{PROJECT}/app-server-sub-jobs"), OPS),
        ("GET", format!("/subjobs/v1/{PROJECT}/summary"), OPS),
    ] {
        let mut asked = http2.get(&target, token);
        *asked.method_mut() = method.parse().unwrap();
        let answer = http2.ask(asked).await.unwrap();
        http1.send(request(method, &target, token, &[])).await;
        let expected = if method == "HEAD" { http1.response_to_head().await } else { http1.response().await };
        assert!(answer.header("x-request-id").is_some() && answer.header("date").is_some());
        assert_eq!(comparable(answer), comparable(expected), "{method} {target:.100}");
    }
    let connect = Request::connect("h:1").body(()).unwrap();
    assert_eq!(http2.ask(connect).await.unwrap().status, 404);
    let mut with_id = http2.get(&count, OPS);
    with_id.headers_mut().insert("x-request-id", "of-the-caller".parse().unwrap());
    assert_eq!(http2.ask(with_id).await.unwrap().header("x-request-id"), Some("of-the-caller"));
}

#[tokio::test]
async fn the_authority_has_the_rules_of_host() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let count = count_path(PROJECT);
    let asked = |authority: &str, hosts: &[&str]| {
        let mut request = Request::get(format!("https://{authority}{count}")).header("x-auth-token", OPS);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap()
    };
    for (authority, hosts, status) in [
        ("h", &[][..], 200),
        ("h:8080", &[], 200),
        ("[::1]:80", &[], 200),
        ("h", &["h"], 200),
        ("h:80", &["H:80"], 200),
        ("user@h", &[], 400),
        ("h:99999", &[], 400),
        ("h", &["other"], 400),
        ("h", &["h", "h"], 400),
        ("h", &["h", "other"], 400),
    ] {
        let Ok(request) = std::panic::catch_unwind(|| asked(authority, hosts)) else { continue };
        let answer = http2.ask(request).await.unwrap();
        assert_eq!(answer.status, status, "{authority} {hosts:?}");
        if status == 400 {
            answer.assert_error(400, code::INPUT);
        }
    }
}

#[tokio::test]
async fn a_signature_covers_the_authority() {
    let certificates = Certificates::new();
    let access = subjobs::access::AccessSource::Text(access_with_keys());
    let server = server(&certificates, Config { access, ..config() }).await;
    let http2 = Http2::open(&certificates, server.public).await;
    for (host, status) in [(server.public.to_string(), 200), ("elsewhere".into(), 401)] {
        let call = Call::count().replace("Host", host).sign(OPS_KEY);
        let mut request = http2.get(&count_path(PROJECT), "");
        for name in ["x-sdk-date", "authorization"] {
            request.headers_mut().insert(name, HeaderValue::from_bytes(call.value(name)).unwrap());
        }
        assert_eq!(http2.ask(request).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let counts = (0..1000).map(|_| http2.ask(http2.get(&count_path(PROJECT), OPS)));
    for answer in join_all(counts).await {
        answer.unwrap().count();
    }
    assert_eq!(server.metric("subjobs_http_connections{listener=\"public\"}").await, Some(1.0));
    // Requests that wait do not block the others of their connection.
    let wait = format!("/subjobs/v1/{PROJECT}/wait?until=ge:1");
    let waits = join_all((0..50).map(|_| http2.begin(http2.get(&wait, OPS)))).await;
    server.reaches("subjobs_http_waiting{for=\"change\"}", 50.0).await;
    assert_eq!(http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count(), 0);
    let report = server.report(OPS, record("1", "j", "CREATE_SERVER", "RUNNING"));
    assert_eq!(report.send().await.unwrap().status(), 200);
    for waiting in waits {
        assert_eq!(read(waiting.unwrap()).await.unwrap().json()["satisfied"], true);
    }
}

#[tokio::test]
async fn a_cancelled_request_releases_what_it_holds() {
    let certificates = Certificates::new();
    let server = server(&certificates, config()).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let wait = format!("/subjobs/v1/{PROJECT}/wait?until=ge:1");
    let waits = join_all((0..20).map(|_| http2.begin(http2.get(&wait, OPS)))).await;
    server.reaches("subjobs_http_waiting{for=\"change\"}", 20.0).await;
    // The client resets the streams.
    drop(waits);
    server.reaches("subjobs_http_waiting{for=\"change\"}", 0.0).await;
    assert_eq!(http2.ask(http2.get(&count_path(PROJECT), OPS)).await.unwrap().count(), 0);
    let _waiting = http2.begin(http2.get(&wait, OPS)).await.unwrap();
    server.reaches("subjobs_http_waiting{for=\"change\"}", 1.0).await;
    // The loss of the connection cancels all.
    drop(_waiting);
    drop(http2);
    server.reaches("subjobs_http_waiting{for=\"change\"}", 0.0).await;
    server.reaches("subjobs_http_connections{listener=\"public\"}", 0.0).await;
}

#[tokio::test]
async fn reports_and_streams_of_the_internal_listener_work() {
    let certificates = Certificates::new();
    let tls = certificates.issue("server");
    let server = Running::begin(Config { tls: Some(tls.clone()), internal_tls: Some(tls), ..config() }).await;
    let (internal, public) =
        (Http2::open(&certificates, server.internal).await, Http2::open(&certificates, server.public).await);
    assert_eq!(internal.ask(internal.get("/readyz", "")).await.unwrap().status, 200);
    let lines: Vec<_> = (0..20_000).map(|id| record(&id.to_string(), "j", "CREATE_SERVER", "RUNNING")).collect();
    let reports = lines.chunks(5000).map(|part| {
        let body = part.join("\n");
        let internal = &internal;
        async move { internal.send(internal.post(&report_path(PROJECT)), body.as_bytes()).await }
    });
    for answer in join_all(reports).await {
        assert_eq!((answer.status, answer.json()["created"].as_u64()), (200, Some(5000)));
    }
    assert_eq!(public.ask(public.get(&count_path(PROJECT), OPS)).await.unwrap().count(), 20_000);
    // A body that is too large, and one that the server does not read.
    let answer = internal.send(internal.post(&report_path(PROJECT)), &[b' '; 100]).await;
    assert_eq!(answer.status, 200);
    let (refused, mut body) = internal.begin_with_body(internal.post("/nowhere")).await;
    assert_eq!(read(refused).await.unwrap().status, 404);
    let _ = body.send_data(Bytes::from_static(b"late"), true);
    let mut delete = public.post(&format!("/v1/{PROJECT}/app-server-sub-jobs/actions/batch-delete"));
    delete.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    let deleted = public.send(delete, br#"{"items":["unknown"]}"#).await;
    assert_eq!((deleted.status, deleted.header("content-length")), (200, Some("0")));
    let events = format!("/subjobs/v1/{PROJECT}/events");
    let mut head = internal.begin(internal.get(&events, OPS)).await.unwrap().await.unwrap();
    let first = head.body_mut().data().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: summary"), "{first:?}");
}

#[tokio::test]
async fn http_1_and_http_2_share_the_limits_of_requests() {
    let certificates = Certificates::new();
    let server = server(&certificates, Config { max_in_flight: 1, ..config() }).await;
    let http2 = Http2::open(&certificates, server.public).await;
    let mut http1 = certificates.client().open(server.public).await;
    http1.send(valid_count("", &["Content-Length: 2"])).await;
    server.reaches("subjobs_http_waiting{for=\"body\"}", 1.0).await;
    let with_body = || {
        let mut request = http2.get(&count_path(PROJECT), OPS);
        request.headers_mut().insert("content-length", "2".parse().unwrap());
        request
    };
    let (refused, _body) = http2.begin_with_body(with_body()).await;
    read(refused).await.unwrap().assert_error(503, code::UNAVAILABLE);
    http1.send("{}").await;
    http1.response().await.count();
}
