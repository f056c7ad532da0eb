//! What all threads of the soak share: the server's current instance, the totals, and projects that several threads check.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::client::Failure;
use crate::filter::Filter;
use crate::model::{Counters, Project};
use crate::support::process::Process;
use crate::time::{self, Uptime};

/// The number of a project's states that are kept.
const HISTORY_LENGTH: usize = 64;

/// The number of mismatches that are printed: one may cause thousands.
const MAX_PRINTED_MISMATCHES: u64 = 10;

/// One process of the server, from the moment it was ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instance {
    pub(crate) number: u32,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) up: Uptime,
}

/// What the summary shows.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) reports: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) counts: AtomicU64,
    /// Counts with exactly one right answer.
    pub(crate) exact: AtomicU64,
    /// Reports without a response: found applied, found absent, or the same in both cases.
    pub(crate) unanswered: [AtomicU64; 3],
    pub(crate) mismatches: AtomicU64,
}

pub(crate) struct Shared {
    /// `None` until the first one is ready.
    instance: Mutex<Option<Instance>>,
    changed: Condvar,
    is_done: AtomicBool,
    pub(crate) totals: Totals,
    /// A project that is reported before everything else and never changes again.
    pub(crate) frozen: Project,
    /// Projects that one thread reports and other threads count.
    pub(crate) histories: Vec<History>,
}

impl Shared {
    pub(crate) fn new(frozen: Project, histories: Vec<History>) -> Self {
        let (instance, changed) = (Mutex::new(None), Condvar::new());
        Self { instance, changed, is_done: AtomicBool::new(false), totals: Totals::default(), frozen, histories }
    }

    /// Publishes an instance that is ready.
    pub(crate) fn server_started(&self, server: &Process) {
        let mut instance = self.instance.lock().unwrap();
        *instance = Some(Instance {
            number: instance.map_or(1, |instance| instance.number + 1),
            public: server.public,
            internal: server.internal.unwrap(),
            up: Uptime { ready: time::now(), stopping: None },
        });
        self.changed.notify_all();
    }

    /// Notes that the server is about to stop.
    pub(crate) fn server_stopping(&self) {
        self.instance.lock().unwrap().as_mut().unwrap().up.stopping = Some(time::now());
    }

    pub(crate) fn instance(&self) -> Instance {
        self.instance.lock().unwrap().unwrap()
    }

    /// Waits for the instance after this one; `None` when the soak is over.
    pub(crate) fn wait_for_next(&self, instance: Instance) -> Option<Instance> {
        let mut now = self.instance.lock().unwrap();
        while now.unwrap().number == instance.number {
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

    /// Prints a mismatch and ends the soak, since what comes later may follow from it.
    pub(crate) fn report_mismatch(&self, what: &str) {
        if self.totals.mismatches.fetch_add(1, Relaxed) < MAX_PRINTED_MISMATCHES {
            println!("MISMATCH in instance {}: {what}", self.instance().number);
        }
        self.finish();
    }

    pub(crate) fn has_mismatch(&self) -> bool {
        self.totals.mismatches.load(Relaxed) > 0
    }

    /// Takes a failed request for a mismatch, unless the server was about to stop.
    pub(crate) fn request_failed(&self, instance: Instance, failure: &Failure) {
        let now = self.instance();
        let was_stopping = now.number != instance.number || now.up.stopping.is_some();
        if !(was_stopping && failure.is_expected_at_shutdown()) {
            self.report_mismatch(&format!("request failed: {failure}"));
        }
    }

    /// Checks that a count is within its bounds.
    pub(crate) fn check_count(&self, project: &str, filter: &Filter, (least, most): (u64, u64), count: u64) {
        self.totals.counts.fetch_add(1, Relaxed);
        self.totals.exact.fetch_add(u64::from(least == most), Relaxed);
        if !(least..=most).contains(&count) {
            self.report_mismatch(&format!("{project}?{} is {count} and should be {least} to {most}", filter.query()));
        }
    }
}

/// The successive states of a project: a count is that of one state or the next, never of half a report.
pub(crate) struct History {
    pub(crate) project: String,
    states: Mutex<States>,
}

struct States {
    /// The number of the oldest state that is kept.
    first: usize,
    counters: VecDeque<Counters>,
    /// The number of the newest state that the server has confirmed.
    confirmed: usize,
}

impl History {
    pub(crate) fn new(project: String) -> Self {
        let states = States { first: 0, counters: [Counters::default()].into(), confirmed: 0 };
        Self { project, states: Mutex::new(states) }
    }

    fn states(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap()
    }

    /// Adds a state that the server may reach from now on.
    pub(crate) fn expect_next(&self, counters: Counters) {
        let mut states = self.states();
        states.counters.push_back(counters);
        if states.counters.len() > HISTORY_LENGTH {
            states.counters.pop_front();
            states.first += 1;
        }
    }

    /// Notes that the server has reached the newest state.
    pub(crate) fn confirm_newest(&self) {
        let mut states = self.states();
        states.confirmed = states.first + states.counters.len() - 1;
    }

    /// The number of the newest state that the server has confirmed.
    pub(crate) fn confirmed(&self) -> usize {
        self.states().confirmed
    }

    /// Each count that is right in that state or a later one; `None` if the state is not kept any more.
    pub(crate) fn possible_counts_since(&self, confirmed: usize, filter: &Filter) -> Option<Vec<u64>> {
        let states = self.states();
        let from = confirmed.checked_sub(states.first)?;
        Some(states.counters.range(from..).map(|counters| filter.sum(counters)).collect())
    }
}
