//! Remembers signed reports that were accepted, so that a replay gets the same response and changes nothing.
//!
//! A signature is valid while its date is near the server's. Someone who has seen a signed report could send it again in that
//! time and undo a newer one. So each is remembered until its date is no longer valid. A restart forgets all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::access::{MAX_SKEW, SignatureId};
use crate::domain::Timestamp;
use crate::store::Outcome;

/// How many reports are remembered. With more, the oldest are forgotten. Refusing reports instead would hurt honest workers, and
/// only a principal that may report can push others out.
const MAX_REMEMBERED: usize = 100_000;

/// The least time between two warnings that reports are forgotten too early.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// When a signature is no longer valid: by the wall clock, which the signature is checked against, and by the monotonic clock, so
/// that no signature becomes valid again when the wall clock jumps.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    date: Timestamp,
    at_least_until: Instant,
}

impl Expiry {
    fn is_past(self, now: (Timestamp, Instant), grace: Duration) -> bool {
        self.date.until(now.0) > MAX_SKEW + grace && self.at_least_until < now.1
    }
}

/// The signed reports that were accepted, and those in progress.
#[derive(Debug)]
pub(super) struct ReplayCache {
    /// How long a report may be in progress after its date was checked.
    grace: Duration,
    max: usize,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    reports: HashMap<[u8; 32], Report>,
    /// The accepted ones, oldest first.
    accepted: VecDeque<([u8; 32], Expiry)>,
    warned: Option<Instant>,
}

#[derive(Debug)]
enum Report {
    /// Closed when the attempt ends.
    InProgress(watch::Receiver<()>),
    Accepted(Outcome),
}

/// What is known of a signed report.
pub(super) enum LookUp {
    /// It was accepted, with this outcome.
    Accepted(Outcome),
    /// It is new; this is the attempt to process it.
    New(Attempt),
}

/// A signed report in progress. Unless it is accepted, it is forgotten when this is dropped, and may be sent again.
pub(super) struct Attempt {
    replays: Arc<ReplayCache>,
    /// The digest of its signature.
    id: [u8; 32],
    expiry: Expiry,
    is_accepted: bool,
    /// Dropped last, after the memory has the outcome.
    _end: watch::Sender<()>,
}

impl ReplayCache {
    /// A cache of reports. Each report runs for at most `report_timeout`.
    pub(super) fn new(report_timeout: Duration) -> Arc<Self> {
        Self::with_capacity(MAX_REMEMBERED, report_timeout)
    }

    fn with_capacity(max: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Self { grace, max, memory: Mutex::default() })
    }

    /// Looks up the report with that signature, which must have been verified. If it is in progress, waits for its end.
    pub(super) async fn look_up(self: &Arc<Self>, signature: SignatureId) -> LookUp {
        let SignatureId { digest: id, signed_at: date } = signature;
        loop {
            let mut end = {
                let mut memory = self.lock();
                match memory.reports.get(&id) {
                    Some(Report::Accepted(outcome)) => return LookUp::Accepted(*outcome),
                    Some(Report::InProgress(end)) => end.clone(),
                    None => {
                        let (sender, end) = watch::channel(());
                        let replays = self.clone();
                        let at_least_until = Instant::now() + 2 * MAX_SKEW + self.grace;
                        let expiry = Expiry { date, at_least_until };
                        memory.reports.insert(id, Report::InProgress(end));
                        return LookUp::New(Attempt { replays, id, expiry, is_accepted: false, _end: sender });
                    }
                }
            };
            // No value is ever sent; the error says that the sender was dropped.
            let _ = end.changed().await;
        }
    }

    /// Forgets the accepted reports. Those in progress are still known.
    pub(super) fn forget_accepted(&self) {
        let mut memory = self.lock();
        while let Some((oldest, _)) = memory.accepted.pop_front() {
            memory.reports.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // A panic cannot leave an entry half changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The report was accepted.
    pub(super) fn succeed(mut self, outcome: Outcome) {
        self.is_accepted = true;
        let now = (Timestamp::now(), Instant::now());
        let mut memory = self.replays.lock();
        memory.reports.insert(self.id, Report::Accepted(outcome));
        memory.accepted.push_back((self.id, self.expiry));
        while let Some((oldest, expiry)) = memory.accepted.front().copied() {
            let is_past = expiry.is_past(now, self.replays.grace);
            if !is_past && memory.accepted.len() <= self.replays.max {
                break;
            }
            memory.accepted.pop_front();
            memory.reports.remove(&oldest);
            if !is_past {
                memory.warn(now.1);
            }
        }
    }
}

impl Memory {
    fn warn(&mut self, now: Instant) {
        if self.warned.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL) {
            self.warned = Some(now);
            tracing::warn!("more signed reports than are remembered: the oldest could be replayed");
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_accepted {
            self.replays.lock().reports.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: Outcome = Outcome { created: 3, updated: 2, unchanged: 1, stale: 0 };

    /// A signature that differs by a number.
    fn signature(number: usize) -> SignatureId {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        SignatureId { digest, signed_at: "2022-03-07T10:40:43Z".parse().unwrap() }
    }

    async fn new(replays: &Arc<ReplayCache>, number: usize) -> Option<Attempt> {
        match replays.look_up(signature(number)).await {
            LookUp::New(attempt) => Some(attempt),
            LookUp::Accepted(outcome) => {
                assert_eq!(outcome, ACCEPTED);
                None
            }
        }
    }

    #[tokio::test]
    async fn only_an_accepted_report_is_remembered() {
        let replays = ReplayCache::new(Duration::ZERO);
        drop(new(&replays, 1).await.unwrap());
        new(&replays, 1).await.unwrap().succeed(ACCEPTED);
        assert!(new(&replays, 1).await.is_none());
        assert!(new(&replays, 2).await.is_some());
        assert_eq!(replays.lock().reports.len(), 1);
    }

    #[tokio::test]
    async fn a_concurrent_replay_waits_and_runs_if_the_first_fails() {
        let replays = ReplayCache::new(Duration::ZERO);
        for succeeds in [false, true] {
            let first = new(&replays, 1).await.unwrap();
            let others = async { tokio::join!(new(&replays, 1), new(&replays, 1)) };
            let end = async {
                tokio::task::yield_now().await;
                if succeeds { first.succeed(ACCEPTED) } else { drop(first) }
            };
            let both = async {
                // Whichever is first to try again must end before the other can.
                tokio::select! {
                    (one, other) = others => (one.is_none(), other.is_none()),
                    () = tokio::time::sleep(Duration::from_millis(200)) => (false, false),
                }
            };
            let (both, ()) = tokio::join!(both, end);
            assert_eq!(both, (succeeds, succeeds));
        }
    }

    #[tokio::test]
    async fn a_full_cache_forgets_the_oldest() {
        let replays = ReplayCache::with_capacity(2, Duration::from_secs(60));
        for number in 0..4 {
            new(&replays, number).await.unwrap().succeed(ACCEPTED);
        }
        let mut remembered = Vec::new();
        for number in 0..4 {
            remembered.push(new(&replays, number).await.is_none());
        }
        assert_eq!(remembered, [false, false, true, true]);
    }

    #[test]
    fn an_entry_expires_when_both_clocks_are_past_its_end() {
        let (date, start): (Timestamp, _) = ("2022-03-07T10:40:43Z".parse().unwrap(), Instant::now());
        let expiry = Expiry { date, at_least_until: start + Duration::from_secs(30) };
        let (early, late) = ("2022-03-07T10:55:53Z".parse().unwrap(), "2022-03-07T10:55:54Z".parse().unwrap());
        let grace = Duration::from_secs(10);
        assert!(!expiry.is_past((late, start), grace));
        assert!(!expiry.is_past((early, start + Duration::from_secs(31)), grace));
        assert!(expiry.is_past((late, start + Duration::from_secs(31)), grace));
    }
}
