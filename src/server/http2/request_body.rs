//! A request's body, of which the rest is awaited for a moment if the response comes before its end.
//!
//! The HTTP layer resets such a stream at once, after the whole response. That is allowed (RFC 9113, section 8.1), but curl before 8 and
//! others drop the response if the reset reaches them while they send.

use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::rt::Executor as _;
use tokio::time::timeout;

use super::super::state::LINGER_TIMEOUT;
use super::{STREAM_WINDOW, StreamExecutor};

/// A request's body. When it is dropped before its end, the rest is read and discarded in a task of the connection.
pub(super) struct RequestBody {
    body: Option<Incoming>,
    executor: StreamExecutor,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, executor: &StreamExecutor) -> Self {
        Self { body: Some(body), executor: executor.clone() }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.executor.execute(discard(body));
        }
    }
}

/// Reads the body to its end, for at most [`LINGER_TIMEOUT`]. Beyond [`STREAM_WINDOW`] bytes it reads no more, and the peer's window
/// keeps it from sending.
async fn discard(mut body: Incoming) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= STREAM_WINDOW as usize {
                pending::<()>().await;
            }
        }
    };
    let _ = timeout(LINGER_TIMEOUT, reading).await;
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
