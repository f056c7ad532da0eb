//! Which threads go first: counts before everything that can wait.

use std::cell::Cell;

/// How much lower than usual, of 19 steps: such a thread gets a tenth of a core that others want too.
const STEPS: i32 = 10;

thread_local! {
    static IS_LOWERED: Cell<bool> = const { Cell::new(false) };
}

/// Lets other threads go first from now on; threads that this one starts inherit it. For threads that do not answer counts.
pub fn lower() {
    if IS_LOWERED.replace(true) {
        return;
    }
    // Linux has this for each thread. Where it is refused, nothing is lost but the order.
    if let Err(error) = rustix::process::nice(STEPS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}
