//! A response's body that keeps its request open.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A response's body. It holds a guard until the HTTP layer has all of it.
    pub(super) struct TrackedBody<G> {
        #[pin]
        body: Body,
        _guard: Option<G>,
    }
}

impl<G> TrackedBody<G> {
    pub(super) fn new(body: Body, guard: Option<G>) -> Self {
        Self { body, _guard: guard }
    }
}

impl<G> http_body::Body for TrackedBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
