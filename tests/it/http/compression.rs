//! Responses that are compressed for clients that accept that.

use std::io::Read as _;

use flate2::read::GzDecoder;
use reqwest::{Method, Response};

use crate::support::fixtures::{OPS, WORKER, code, config};
use crate::support::response::assert_error;
use crate::support::server::Running;

const PATHS: [&str; 2] = ["/metrics", "/openapi.json"];

async fn ask(server: &Running, method: Method, path: &str, accepted: Option<&str>) -> Response {
    let request = server.client.request(method, format!("http://{}{path}", server.internal));
    let accepted = accepted.into_iter();
    accepted.fold(request, |request, accepted| request.header("Accept-Encoding", accepted)).send().await.unwrap()
}

fn decoded(coding: &str, body: &[u8]) -> String {
    match coding {
        "gzip" => {
            let mut text = String::new();
            GzDecoder::new(body).read_to_string(&mut text).unwrap();
            text
        }
        _ => {
            let mut text = Vec::with_capacity(1024 * 1024);
            zstd_safe::decompress(&mut text, body).unwrap();
            String::from_utf8(text).unwrap()
        }
    }
}

#[tokio::test]
async fn metrics_and_the_openapi_document_are_compressed_if_the_client_accepts_it() {
    let server = Running::start(config()).await;
    for path in PATHS {
        let plain = ask(&server, Method::GET, path, None).await;
        assert_eq!(plain.headers()["vary"], "accept-encoding");
        assert_eq!(plain.headers().get("content-encoding"), None);
        let (media_type, length) = (plain.headers()["content-type"].clone(), plain.content_length().unwrap());
        let plain = plain.text().await.unwrap();
        assert!(length == plain.len() as u64 && length > 10_000, "{path}: {length}");
        for (accepted, coding) in [("gzip", "gzip"), ("zstd", "zstd"), ("gzip, deflate, br, zstd;q=0.9", "gzip")] {
            let response = ask(&server, Method::GET, path, Some(accepted)).await;
            assert_eq!(response.status(), 200);
            let headers = response.headers();
            assert_eq!(headers["content-encoding"], coding);
            assert_eq!(headers["vary"], "accept-encoding");
            assert_eq!(headers["content-type"], media_type);
            assert_eq!(headers["cache-control"], "no-store");
            assert!(headers.contains_key("x-request-id"));
            let body = response.bytes().await.unwrap();
            assert!(body.len() < plain.len() / 2, "{path}: {} of {length} bytes", body.len());
            let text = decoded(coding, &body);
            // The values of metrics have changed in between.
            assert!(text.lines().count() >= plain.lines().count());
            assert!(path == "/metrics" || text == plain);
        }
        for accepted in ["", "identity", "br", "gzip;q=0", "*;q=0", "identity;q=0"] {
            let response = ask(&server, Method::GET, path, Some(accepted)).await;
            assert_eq!((response.status().as_u16(), response.headers().get("content-encoding")), (200, None));
            let text = response.text().await.unwrap();
            assert!(path == "/metrics" || text == plain, "{accepted}");
        }
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let server = Running::start(config()).await;
    for path in PATHS {
        for accepted in [None, Some("gzip"), Some("zstd"), Some("identity;q=0")] {
            let names = async |method| {
                let response = ask(&server, method, path, accepted).await;
                let headers = response.headers().clone();
                let is_compressed = headers.contains_key("content-encoding");
                assert_eq!(is_compressed, accepted.is_some_and(|accepted| !accepted.contains("q=0")));
                let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
                let length = value("content-length").filter(|_| path != "/metrics").is_some();
                (
                    response.status(),
                    ["content-encoding", "vary", "content-type"].map(value),
                    length,
                    response.bytes().await,
                )
            };
            let ((status, headers, has_length, _), (head_status, head_headers, head_has_length, body)) =
                (names(Method::GET).await, names(Method::HEAD).await);
            assert_eq!((status, headers, has_length), (head_status, head_headers, head_has_length));
            assert!(body.unwrap().is_empty());
        }
    }
}

/// A count does not pass through the compression layer.
#[tokio::test]
async fn a_count_is_not_compressed_and_has_no_vary() {
    let server = Running::start(config()).await;
    let response = server.ask(OPS, "").header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(response.headers().get("vary"), None);
    assert_eq!(response.headers().get("content-encoding"), None);
    assert_eq!(response.text().await.unwrap(), "{\"count\":0}");
    let refused = server.ask(OPS, "").header("Accept-Encoding", "*;q=0").send().await.unwrap();
    assert_eq!(refused.status(), 200);
    let refused = server.report(WORKER, "nonsense").header("Accept-Encoding", "identity;q=0").send().await.unwrap();
    assert_error(refused, 400, code::INPUT).await;
}
