//! What all threads of the soak share: the runs of the server, the observations so far, and projects that several threads use.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::caller::Failure;
use crate::filter::Filter;
use crate::model::{Cells, Project};
use crate::support::process::Process;
use crate::time::{self, Uptime};

/// How many states of a project are remembered.
const REMEMBERED: usize = 64;

/// How many differences are printed: one may be the cause of thousands.
const PRINTED: u64 = 10;

/// One life of the server, from when it was ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) up: Uptime,
}

/// What there is to tell in the end.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) reports: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) counts: AtomicU64,
    /// Counts that could only have one answer.
    pub(crate) exact: AtomicU64,
    /// Reports without an answer: found whole, found absent, or the same in both cases.
    pub(crate) unanswered: [AtomicU64; 3],
    pub(crate) differences: AtomicU64,
}

pub(crate) struct World {
    /// None until the first one has begun.
    life: Mutex<Option<Life>>,
    changed: Condvar,
    is_done: AtomicBool,
    pub(crate) seen: Seen,
    /// Reported before everything else and never again.
    pub(crate) frozen: Project,
    /// The projects that one thread reports and others count.
    pub(crate) histories: Vec<History>,
}

impl World {
    pub(crate) fn new(frozen: Project, histories: Vec<History>) -> Self {
        let (life, changed) = (Mutex::new(None), Condvar::new());
        Self { life, changed, is_done: AtomicBool::new(false), seen: Seen::default(), frozen, histories }
    }

    /// A server is ready.
    pub(crate) fn begins(&self, server: &Process) {
        let mut life = self.life.lock().unwrap();
        *life = Some(Life {
            number: life.map_or(1, |life| life.number + 1),
            public: server.public,
            internal: server.internal.unwrap(),
            up: Uptime { ready: time::now(), ending: None },
        });
        self.changed.notify_all();
    }

    /// The server is about to be ended.
    pub(crate) fn ends(&self) {
        self.life.lock().unwrap().as_mut().unwrap().up.ending = Some(time::now());
    }

    pub(crate) fn life(&self) -> Life {
        self.life.lock().unwrap().unwrap()
    }

    /// The life that follows, unless the soak is over.
    pub(crate) fn next(&self, life: Life) -> Option<Life> {
        let mut now = self.life.lock().unwrap();
        while now.unwrap().number == life.number {
            if self.is_done() {
                return None;
            }
            now = self.changed.wait_timeout(now, Duration::from_millis(100)).unwrap().0;
        }
        *now
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Relaxed)
    }

    pub(crate) fn finish(&self) {
        self.is_done.store(true, Relaxed);
    }

    /// Notes a difference, which ends the soak: what comes after may only follow from it.
    pub(crate) fn differ(&self, what: &str) {
        if self.seen.differences.fetch_add(1, Relaxed) < PRINTED {
            println!("DIFFERENCE in life {}: {what}", self.life().number);
        }
        self.finish();
    }

    pub(crate) fn has_differed(&self) -> bool {
        self.seen.differences.load(Relaxed) > 0
    }

    /// Notes a failure, which is a difference unless that life was to end.
    pub(crate) fn failed(&self, life: Life, failure: &Failure) {
        let now = self.life();
        let was_ending = now.number != life.number || now.up.ending.is_some();
        if !(was_ending && failure.is_of_the_end()) {
            self.differ(&format!("no answer: {failure}"));
        }
    }

    /// Notes a count that should have been within bounds.
    pub(crate) fn compare(&self, project: &str, filter: &Filter, (least, most): (u64, u64), count: u64) {
        self.seen.counts.fetch_add(1, Relaxed);
        self.seen.exact.fetch_add(u64::from(least == most), Relaxed);
        if !(least..=most).contains(&count) {
            self.differ(&format!("{project}?{} is {count} and should be {least} to {most}", filter.query()));
        }
    }
}

/// How a project's numbers have followed each other: a count is that of one state or the next, never of half a report.
pub(crate) struct History {
    pub(crate) project: String,
    states: Mutex<States>,
}

struct States {
    /// The number of the first one that is remembered.
    first: usize,
    cells: VecDeque<Cells>,
    /// The number of the latest that is known to have come.
    settled: usize,
}

impl History {
    pub(crate) fn of(project: String) -> Self {
        let states = States { first: 0, cells: [Cells::default()].into(), settled: 0 };
        Self { project, states: Mutex::new(states) }
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap()
    }

    /// What follows may come from now on.
    pub(crate) fn may_become(&self, cells: Cells) {
        let mut states = self.states();
        states.cells.push_back(cells);
        if states.cells.len() > REMEMBERED {
            states.cells.pop_front();
            states.first += 1;
        }
    }

    /// It has come.
    pub(crate) fn has_become(&self) {
        let mut states = self.states();
        states.settled = states.first + states.cells.len() - 1;
    }

    /// The number of the state that there is at least.
    pub(crate) fn settled(&self) -> usize {
        self.states().settled
    }

    /// What may have been counted since there was that state, unless that is no longer known.
    pub(crate) fn since(&self, settled: usize, filter: &Filter) -> Option<Vec<u64>> {
        let states = self.states();
        let from = settled.checked_sub(states.first)?;
        Some(states.cells.range(from..).map(|cells| filter.sum(cells)).collect())
    }
}
