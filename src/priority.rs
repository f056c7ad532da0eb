//! Thread priorities: threads that answer counts run before background work.
//!
//! A lower priority alone is not enough: the kernel lets a running thread keep its core for some milliseconds. So background
//! threads also avoid one core.

use std::cell::Cell;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The niceness that is added: such a thread gets about a tenth of a core that others also use.
const NICENESS: i32 = 10;

thread_local! {
    static IS_LOWERED: Cell<bool> = const { Cell::new(false) };
}

/// Lowers the priority of the current thread and of threads that it starts. For threads that do not answer counts. A thread of
/// the runtime's blocking pool stays lowered for its later tasks: parsing reports, opening files, resolving host names.
pub fn lower() {
    if IS_LOWERED.replace(true) {
        return;
    }
    // On Linux both are per thread. If the system refuses, only the order of threads is lost.
    let lowered = rustix::process::nice(NICENESS).and_then(|_| avoid_first_core());
    if let Err(error) = lowered {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// Excludes the first core that this process may use, if it may use more than one.
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
    fn a_thread_is_lowered_once_and_its_children_inherit_it() {
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
