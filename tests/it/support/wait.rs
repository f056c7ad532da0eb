//! How tests wait for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// The longest that anything awaited may take, on a machine however busy.
pub(crate) const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `look` finds what it looks for. For what announces itself in no other way than by being asked about.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TEST_DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {TEST_DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
