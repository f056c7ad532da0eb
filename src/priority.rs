//! Which threads go first: those that answer counts, before everything that can wait.
//!
//! A lower priority alone does not do it: a thread that has got a core keeps it for some milliseconds, whoever wakes up. So
//! what can wait also keeps off one core.

use std::cell::Cell;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How much lower than usual, of 19 steps: such a thread gets a tenth of a core that others want too.
const NICENESS: i32 = 10;

thread_local! {
    static IS_LOWERED: Cell<bool> = const { Cell::new(false) };
}

/// Lets other threads go first from now on; threads that this one starts inherit it. For threads that do not answer counts. One
/// that the runtime lends stays lowered, whatever it does next: read reports, open files, look up names of hosts.
pub fn lower() {
    if IS_LOWERED.replace(true) {
        return;
    }
    // Linux has both for each thread. Where they are refused, nothing is lost but the order.
    let lowered = rustix::process::nice(NICENESS).and_then(|_| avoid_first_core());
    if let Err(error) = lowered {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Leaves the first core that this process may use to others, if it may use more than one.
fn avoid_first_core() -> rustix::io::Result<()> {
    let mut cores = sched_getaffinity(None)?;
    if cores.count() < 2 {
        return Ok(());
    }
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|core| cores.is_set(*core)) {
        cores.unset(first);
    }
    sched_setaffinity(None, &cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_lowered_once_and_what_it_starts_with_it() {
        let state = || (rustix::process::nice(0).unwrap(), sched_getaffinity(None).unwrap().count());
        let (usual, cores) = state();
        let (lowered, inherited) = std::thread::spawn(move || {
            lower();
            lower();
            (state(), std::thread::spawn(state).join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(lowered, ((usual + NICENESS).min(19), (cores - 1).max(1)));
        assert_eq!(inherited, lowered);
        assert_eq!(state(), (usual, cores));
    }
}
