//! The least pace of a body that is held: whoever sends more slowly would hold memory for little.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::web::error::Unavailable;

/// In each window that a body is waited for, one after another, it must be complete or so many bytes of it must come. A sender
/// that stalls is found out within two windows.
const WINDOW: Duration = Duration::from_secs(5);

/// 64 KiB a second.
const MIN_BYTES_IN_WINDOW: usize = 5 * 64 * 1024;

/// How much has come in this window.
pub(super) struct MinimumRate {
    end: Instant,
    bytes: usize,
}

impl MinimumRate {
    /// The first window begins.
    pub(super) fn begin() -> Self {
        Self { end: Instant::now() + WINDOW, bytes: 0 }
    }

    /// So many bytes have come.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The next piece of the body, if it comes at that rate.
    pub(super) async fn frame(
        &mut self,
        body: &mut Body,
    ) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Unavailable> {
        loop {
            match timeout_at(self.end, body.frame()).await {
                Ok(frame) => return Ok(frame),
                Err(_) if self.bytes < MIN_BYTES_IN_WINDOW => return Err(Unavailable::TimedOut),
                // From now on, since what has come while nobody looked is in the window before.
                Err(_) => *self = Self::begin(),
            }
        }
    }
}
