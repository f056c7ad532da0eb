//! The minimum rate of a buffered body, so that a slow sender cannot hold memory for long.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::web::error::Unavailable;

/// In each window the body must end, or [`MIN_BYTES_IN_WINDOW`] bytes of it must come. A sender that stalls is detected within two
/// windows.
const WINDOW: Duration = Duration::from_secs(5);

/// 64 KiB a second.
const MIN_BYTES_IN_WINDOW: usize = 5 * 64 * 1024;

/// The bytes that have come in the current window.
pub(super) struct MinimumRate {
    end: Instant,
    bytes: usize,
}

impl MinimumRate {
    /// Begins the first window.
    pub(super) fn begin() -> Self {
        Self { end: Instant::now() + WINDOW, bytes: 0 }
    }

    /// Counts bytes that have come.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The next frame of the body, if the body comes at the minimum rate.
    pub(super) async fn frame(
        &mut self,
        body: &mut Body,
    ) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Unavailable> {
        loop {
            match timeout_at(self.end, body.frame()).await {
                Ok(frame) => return Ok(frame),
                Err(_) if self.bytes < MIN_BYTES_IN_WINDOW => return Err(Unavailable::TimedOut),
                // The next window begins now: bytes that came before this poll belong to the last one.
                Err(_) => *self = Self::begin(),
            }
        }
    }
}
