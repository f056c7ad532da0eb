//! Fair queueing: a bounded number of reports is worked on at once, and principals take turns (round robin).
//!
//! Each principal has a queue of its own. The holder of a turn works in slices, and between two slices lets the next principal go
//! first. So a small report waits for a slice of a large one, rather than for all of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many holders may be paused between two slices, since each blocks a thread. One more continues to its end.
const MAX_PAUSED: usize = 64;

/// The free turns, and the queues of those that wait for one.
#[derive(Debug)]
pub(super) struct FairQueue {
    queues: Mutex<Queues>,
}

#[derive(Debug)]
struct Queues {
    free: usize,
    paused: usize,
    /// No queue is empty. The number of connections bounds how many wait.
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<Turn>>>,
    /// The principals that have queues, the next one first.
    round: VecDeque<Arc<str>>,
}

impl Queues {
    fn enqueue(&mut self, principal: &Arc<str>, goes_first: bool) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let round = &mut self.round;
        let queue = self.waiting.entry(principal.clone()).or_insert_with(|| {
            round.push_back(principal.clone());
            VecDeque::new()
        });
        // Drops those that no longer wait.
        queue.retain(|sender| !sender.is_closed());
        if goes_first {
            queue.push_front(sender);
        } else {
            queue.push_back(sender);
        }
        receiver
    }

    fn next(&mut self) -> Option<(Arc<str>, oneshot::Sender<Turn>)> {
        loop {
            let principal = self.round.pop_front()?;
            let Some(queue) = self.waiting.get_mut(&principal) else { continue };
            let next = queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&principal);
            } else {
                self.round.push_back(principal.clone());
            }
            match next {
                Some(sender) if !sender.is_closed() => return Some((principal, sender)),
                _ => {}
            }
        }
    }
}

impl FairQueue {
    /// A queue for that many turns.
    pub(super) fn new(count: usize) -> Arc<Self> {
        let queues = Queues { free: count, paused: 0, waiting: HashMap::new(), round: VecDeque::new() };
        Arc::new(Self { queues: Mutex::new(queues) })
    }

    /// Waits for a turn in the principal's queue.
    pub(super) async fn acquire(self: &Arc<Self>, principal: &str) -> Turn {
        let principal: Arc<str> = principal.into();
        loop {
            let wait = {
                let mut queues = self.lock();
                if queues.free > 0 {
                    queues.free -= 1;
                    return Turn { turns: Some(self.clone()), principal };
                }
                queues.enqueue(&principal, false)
            };
            if let Ok(turn) = wait.await {
                return turn;
            }
        }
    }

    /// Gives the turn to the next in the round, or frees it.
    fn pass_on(self: Arc<Self>) {
        loop {
            let (principal, sender) = {
                let mut queues = self.lock();
                match queues.next() {
                    Some(next) => next,
                    None => {
                        queues.free += 1;
                        return;
                    }
                }
            };
            match sender.send(Turn { turns: Some(self.clone()), principal }) {
                Ok(()) => return,
                // The receiver was dropped in this moment: the turn goes to the next one.
                Err(mut turn) => turn.turns = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // A panic cannot leave the queues half changed.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn, which passes to the next in the round when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// `None` once the turn has passed on.
    turns: Option<Arc<FairQueue>>,
    principal: Arc<str>,
}

impl Turn {
    /// Called between two slices, on a thread that may block. If another principal waits, passes the turn on and waits for the
    /// next one.
    pub(super) fn yield_to_others(&mut self) {
        let Some(turns) = self.turns.clone() else { return };
        let wait = {
            let mut queues = turns.lock();
            let others_wait = queues.round.iter().any(|principal| *principal != self.principal);
            if !others_wait || queues.paused >= MAX_PAUSED {
                return;
            }
            queues.paused += 1;
            // Ahead of the principal's other reports, so that few reports are begun and unfinished.
            queues.enqueue(&self.principal, true)
        };
        if let Some(own) = self.turns.take() {
            own.pass_on();
        }
        let next = wait.blocking_recv();
        turns.lock().paused -= 1;
        // A sender is dropped only together with the turn that it carries.
        if let Ok(next) = next {
            *self = next;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Waits until this number of reports is queued.
    async fn queued(turns: &Arc<FairQueue>, count: usize) {
        while turns.lock().waiting.values().map(VecDeque::len).sum::<usize>() != count {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the turn is free and no queue exists.
    fn is_unused(turns: &FairQueue) -> bool {
        let queues = turns.lock();
        (queues.free, queues.paused) == (1, 0) && queues.waiting.is_empty() && queues.round.is_empty()
    }

    #[tokio::test]
    async fn principals_take_turns() {
        let turns = FairQueue::new(1);
        let first = turns.acquire("a").await;
        let (sender, order) = mpsc::channel();
        let mut tasks = Vec::new();
        for (at, name) in ["a", "a", "a", "b", "b", "c"].into_iter().enumerate() {
            let (turns, sender) = (turns.clone(), sender.clone());
            tasks.push(tokio::spawn(async move {
                let turn = turns.acquire(name).await;
                sender.send(name).unwrap();
                drop(turn);
            }));
            queued(first.turns.as_ref().unwrap(), at + 1).await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["a", "b", "c", "a", "b", "a"]);
        assert!(is_unused(&turns));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slice_of_another_principal_comes_between_two_slices() {
        let turns = FairQueue::new(1);
        let mut large = turns.acquire("a").await;
        // Its own principal's reports do not make it wait.
        let own = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.acquire("a").await) }
        });
        queued(&turns, 1).await;
        let mut large = tokio::task::spawn_blocking(move || {
            large.yield_to_others();
            large
        })
        .await
        .unwrap();
        assert!(!own.is_finished());
        let other = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.acquire("b").await) }
        });
        queued(&turns, 2).await;
        let large = tokio::task::spawn_blocking(move || {
            // Two slices at most: the queue of its own principal may be the first in the round.
            large.yield_to_others();
            large.yield_to_others();
            large
        });
        let large = large.await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), other).await.unwrap().unwrap();
        assert!(!own.is_finished());
        drop(large);
        own.await.unwrap();
        assert!(is_unused(&turns));
    }

    #[tokio::test]
    async fn a_cancelled_wait_loses_no_turn() {
        let turns = FairQueue::new(1);
        let first = turns.acquire("a").await;
        for _ in 0..100 {
            let gone = tokio::time::timeout(Duration::from_millis(1), turns.acquire("b")).await;
            assert!(gone.is_err());
        }
        assert_eq!(turns.lock().waiting.values().map(VecDeque::len).sum::<usize>(), 1);
        drop(first);
        drop(turns.acquire("c").await);
        assert!(is_unused(&turns));
    }
}
