//! A response of server-sent events.
//!
//! Source of the format: the HTML standard, section "Server-sent events".

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use tokio::sync::mpsc;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A response whose body is what a task sends, until the task drops the sender.
pub fn event_stream(pieces: mpsc::Receiver<Bytes>) -> Response {
    ([(CONTENT_TYPE, EVENT_STREAM)], Body::new(Pieces(pieces))).into_response()
}

/// A response body of the pieces that a task sends.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
