//! Compression of responses, for the operations whose responses may be long.

use axum::routing::MethodRouter;
use http::{Response, StatusCode};
use tower::util::MapResponseLayer;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

/// The longest response that is never compressed, in bytes.
const MAX_UNCOMPRESSED: u64 = 1024;

/// A handler whose responses of more than 1 KiB are compressed, by gzip or zstd, for clients that accept that.
pub fn compressed<S: Clone + Send + Sync + 'static>(handler: MethodRouter<S>) -> MethodRouter<S> {
    let is_worth_it = SizeAbove::new(MAX_UNCOMPRESSED + 1).and(NotForContentType::SSE);
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_worth_it);
    handler.layer((MapResponseLayer::new(restore_status), compression, MapResponseLayer::new(keep_status)))
}

/// The status that the handler has answered with.
#[derive(Clone, Copy)]
struct HandlerStatus(StatusCode);

fn keep_status<B>(mut response: Response<B>) -> Response<B> {
    let status = HandlerStatus(response.status());
    response.extensions_mut().insert(status);
    response
}

/// The layer calls the handler even for a client that accepts neither a coding nor the plain body, sends the plain body, and
/// makes the status 406: such a client gets what it would get without the layer.
fn restore_status<B>(mut response: Response<B>) -> Response<B> {
    if let Some(HandlerStatus(status)) = response.extensions().get().copied() {
        *response.status_mut() = status;
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::Request;
    use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
    use tower::ServiceExt as _;

    use super::*;

    /// The status, the coding and the Vary of the response to this Accept-Encoding.
    async fn coding(size: usize, accepted: &[&'static str]) -> (u16, Option<String>, Option<String>) {
        let handler = get(move || async move { (StatusCode::ACCEPTED, "x".repeat(size)) });
        let router = Router::new().route("/", compressed(handler));
        let request = Request::get("/").body(Body::empty()).unwrap();
        let (mut parts, body) = request.into_parts();
        parts.headers.extend(accepted.iter().map(|accepted| (ACCEPT_ENCODING, accepted.parse().unwrap())));
        let response = router.oneshot(Request::from_parts(parts, body)).await.unwrap();
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), header(CONTENT_ENCODING), header(VARY))
    }

    #[tokio::test]
    async fn accept_encoding_chooses_the_coding() {
        for (accepted, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some("gzip")),
            (&["GZip"], Some("gzip")),
            (&["x-gzip"], Some("gzip")),
            (&["zstd"], Some("zstd")),
            (&["gzip, deflate, br, zstd"], Some("zstd")),
            (&["gzip", "zstd;q=0.5"], Some("gzip")),
            (&["gzip;q=0.5, zstd;q=0.501"], Some("zstd")),
            (&["gzip;q=0"], None),
            (&["gzip;q=0, zstd"], Some("zstd")),
            (&["gzip;q=0.1, identity"], None),
            (&["gzip; q=0.1, identity;q=0"], Some("gzip")),
            (&["br, deflate"], None),
            (&["identity"], None),
            (&["*"], Some("zstd")),
            (&["*;q=0, gzip"], Some("gzip")),
            (&["zstd;q=0, *;q=0.5"], Some("gzip")),
            (&["identity;q=0, *"], Some("zstd")),
            (&["identity, *;q=0"], None),
            (&["identity, *;q=0.5"], None),
            // A client that accepts no coding gets the plain body.
            (&["identity;q=0"], None),
            (&["*;q=0"], None),
            (&["br, identity;q=0"], None),
            (&["gzip;q=2"], None),
            (&[";;,=q"], None),
        ] {
            let expected = (202, expected.map(str::to_owned), Some("accept-encoding".to_owned()));
            assert_eq!(coding(1025, accepted).await, expected, "{accepted:?}");
        }
    }

    #[tokio::test]
    async fn a_response_of_a_kib_is_never_compressed() {
        for size in [0, 1, 1024] {
            assert_eq!(coding(size, &["gzip"]).await, (202, None, None), "{size}");
            assert_eq!(coding(size, &["identity;q=0"]).await.0, 202, "{size}");
        }
    }
}
