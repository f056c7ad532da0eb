//! The changes that wait, which the lanes collect in groups.
//!
//! Two transactions that change one project wait for each other, as both change its counters. So a small group waits until no other lane
//! commits changes of its projects: it grows meanwhile, and one flush is enough for all of it. A large group does not wait, because
//! most of its work is on rows of its own.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::{Mutex, Notify};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::change::Change;
use crate::domain::ProjectId;

/// The number of subtasks after which no further change is added to a group.
const MAX_GROUP: usize = 16 * 1024;

/// The number of subtasks from which a group does not wait.
const LARGE_GROUP: usize = 512;

/// How long a group is open after its last change, if it begins with the end of another one or soon after.
const SETTLE_TIME: Duration = Duration::from_micros(50);
const AFTER_COMMIT: Duration = Duration::from_millis(1);

/// The changes that wait, shared by the lanes.
#[derive(Debug)]
pub(super) struct Queue {
    received: Mutex<Receiver<Change>>,
    committing: std::sync::Mutex<InCommit>,
    /// Notified when a lane has committed a group. Only the lane that collects waits for it.
    ended: Notify,
}

/// What lanes are committing, and what they have just committed.
#[derive(Debug, Default)]
struct InCommit {
    /// How many lanes commit changes of a project.
    lanes: HashMap<ProjectId, usize>,
    /// When the last group of several changes was committed.
    ended_at: Option<Instant>,
}

impl Queue {
    pub(super) fn new(received: Receiver<Change>) -> Arc<Self> {
        Arc::new(Self { received: Mutex::new(received), committing: std::sync::Mutex::default(), ended: Notify::new() })
    }

    /// Waits for a group of changes; `None` if the queue is closed and empty.
    pub(super) async fn collect(self: &Arc<Self>) -> Option<(Vec<Change>, Committing)> {
        let mut received = self.received.lock().await;
        let mut group = vec![received.recv().await?];
        let mut size = group[0].size().max(1);
        let mut settling = self.is_after_a_commit().then(Instant::now);
        loop {
            let before = group.len();
            while size < MAX_GROUP
                && let Ok(change) = received.try_recv()
            {
                size += change.size().max(1);
                group.push(change);
            }
            if size >= LARGE_GROUP {
                break;
            }
            if self.is_committing(&group) {
                tokio::select! {
                    () = self.ended.notified() => {}
                    change = received.recv() => {
                        let Some(change) = change else { break };
                        size += change.size().max(1);
                        group.push(change);
                    }
                }
                settling = Some(Instant::now());
                continue;
            }
            // The callers of the group that was just committed send their next changes now. Without a pause the first of them would be
            // a group of its own, and all others would wait for it.
            match settling {
                Some(_) if group.len() > before => settling = Some(Instant::now()),
                Some(since) if since.elapsed() < SETTLE_TIME => {}
                _ => break,
            }
            yield_now().await;
        }
        let committing = Committing::new(self, &group);
        Some((group, committing))
    }

    fn is_committing(&self, group: &[Change]) -> bool {
        let committing = self.committing();
        !committing.lanes.is_empty() && group.iter().any(|change| committing.lanes.contains_key(change.project()))
    }

    /// Whether a group was committed just now, whose callers may send their next changes together.
    fn is_after_a_commit(&self) -> bool {
        self.committing().ended_at.is_some_and(|ended_at| ended_at.elapsed() < AFTER_COMMIT)
    }

    fn committing(&self) -> MutexGuard<'_, InCommit> {
        self.committing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it exists, small groups of these projects wait.
#[derive(Debug)]
pub(super) struct Committing {
    queue: Arc<Queue>,
    projects: Vec<ProjectId>,
    /// Whether the group has several changes.
    is_group: bool,
}

impl Committing {
    fn new(queue: &Arc<Queue>, group: &[Change]) -> Self {
        let mut projects: Vec<_> = group.iter().map(|change| change.project().clone()).collect();
        projects.sort_unstable();
        projects.dedup();
        let mut committing = queue.committing();
        for project in &projects {
            *committing.lanes.entry(project.clone()).or_default() += 1;
        }
        drop(committing);
        Self { queue: queue.clone(), projects, is_group: group.len() > 1 }
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        let mut committing = self.queue.committing();
        for project in &self.projects {
            if let Some(lanes) = committing.lanes.get_mut(project) {
                *lanes -= 1;
                if *lanes == 0 {
                    committing.lanes.remove(project);
                }
            }
        }
        committing.ended_at = self.is_group.then(Instant::now);
        drop(committing);
        self.queue.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio::time::advance;

    use super::*;
    use crate::store::postgres::change::Reply;

    fn reset(project: &str) -> Change {
        Change::Reset { project: ProjectId::parse(project).unwrap(), reply: Reply::new().0 }
    }

    fn queue() -> (mpsc::Sender<Change>, Arc<Queue>) {
        let (sender, received) = mpsc::channel(LARGE_GROUP + 1);
        (sender, Queue::new(received))
    }

    fn projects(group: &[Change]) -> Vec<&str> {
        group.iter().map(|change| change.project().as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_group_waits_for_a_commit_of_its_project_and_grows() {
        let (sender, queue) = queue();
        sender.try_send(reset("p")).unwrap();
        let (_, committing) = queue.collect().await.unwrap();
        sender.try_send(reset("p")).unwrap();
        let mut waits = Box::pin(queue.collect());
        assert!(waits.as_mut().now_or_never().is_none());
        sender.try_send(reset("q")).unwrap();
        assert!(waits.as_mut().now_or_never().is_none());
        drop(committing);
        // Those whose changes were just committed may send the next ones.
        assert!(waits.as_mut().now_or_never().is_none());
        sender.try_send(reset("p")).unwrap();
        assert!(waits.as_mut().now_or_never().is_none());
        advance(SETTLE_TIME).await;
        let (group, _) = waits.now_or_never().unwrap().unwrap();
        assert_eq!(projects(&group), ["p", "q", "p"]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_group_the_first_change_waits_a_moment_for_others() {
        let (sender, queue) = queue();
        for (size, pause, waits) in [(2, Duration::ZERO, true), (2, AFTER_COMMIT, false), (1, Duration::ZERO, false)] {
            (0..size).for_each(|_| sender.try_send(reset("p")).unwrap());
            let (group, committing) = queue.collect().await.unwrap();
            assert_eq!(group.len(), size);
            drop(committing);
            advance(pause).await;
            sender.try_send(reset("p")).unwrap();
            let mut next = Box::pin(queue.collect());
            let at_once = next.as_mut().now_or_never();
            assert_eq!(at_once.is_none(), waits, "{size} {pause:?}");
            advance(SETTLE_TIME).await;
            drop(at_once.unwrap_or_else(|| next.now_or_never().unwrap()));
            advance(AFTER_COMMIT).await;
        }
    }

    #[test]
    fn a_group_does_not_wait_for_other_projects() {
        let (sender, queue) = queue();
        sender.try_send(reset("p")).unwrap();
        let first = queue.collect().now_or_never().unwrap().unwrap();
        sender.try_send(reset("q")).unwrap();
        let second = queue.collect().now_or_never().unwrap().unwrap();
        drop((first, second));
        assert!(queue.committing().lanes.is_empty());
    }

    #[test]
    fn a_large_group_does_not_wait() {
        let (sender, queue) = queue();
        sender.try_send(reset("p")).unwrap();
        let _first = queue.collect().now_or_never().unwrap().unwrap();
        (0..LARGE_GROUP).for_each(|_| sender.try_send(reset("p")).unwrap());
        let (group, _) = queue.collect().now_or_never().unwrap().unwrap();
        assert_eq!(group.len(), LARGE_GROUP);
    }

    #[test]
    fn a_group_that_waits_is_committed_when_the_queue_closes() {
        let (sender, queue) = queue();
        sender.try_send(reset("p")).unwrap();
        let _first = queue.collect().now_or_never().unwrap().unwrap();
        sender.try_send(reset("p")).unwrap();
        drop(sender);
        assert!(queue.collect().now_or_never().unwrap().is_some());
        assert!(queue.collect().now_or_never().unwrap().is_none());
    }
}
