//! How tests wait for a condition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for a condition, also on a busy machine.
pub(crate) const TEST_DEADLINE: Duration = Duration::from_secs(120);

/// Polls `look` until it returns a value. For conditions that have no event to wait for.
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

/// Becomes true at the end of a scope, whose threads then end: also if the test has failed, which else would wait for them without
/// end.
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
