//! Random pauses between attempts.

use std::time::Duration;

use tokio::time::sleep;

/// A random pause of at most so many milliseconds, so that lanes that were in each other's way do not meet again.
pub(super) async fn pause(most: u64) {
    let random = getrandom::u32().unwrap_or_default();
    sleep(Duration::from_millis(1 + u64::from(random) % most.max(1))).await;
}
