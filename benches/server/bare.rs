//! The constant answer by hyper alone, without a router.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use axum::body::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::plain::announce;

/// Serves until the process is ended.
#[tokio::main]
pub(crate) async fn serve() {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    announce(socket.local_addr().unwrap());
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        tokio::spawn(async {
            let answer =
                service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(r#"{"count":0}"#)))));
            // A client that goes away is not a failure.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
