//! The changes that wait, which the lanes collect in groups.
//!
//! Two transactions that change one project wait for each other, as both change its counters. So a small group waits until no other lane
//! commits changes of its projects: it grows meanwhile, and one flush is enough for all of it. A large group does not wait, because
//! most of its work is on rows of its own; but while counts are slow, large groups wait for each other, for a while ([`Pace`]).

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::{Mutex, Notify};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::blocked::Blocked;
use super::change::Change;
use super::pace::{LARGE_GROUP, Pace};
use crate::domain::ProjectId;

/// The number of subtasks after which no further change is added to a group.
const MAX_GROUP: usize = 16 * 1024;

/// How old a group becomes that waits for another large one: small changes of other projects wait with it.
const MAX_LARGE_WAIT: Duration = Duration::from_millis(100);

/// How long a group is open after its last change, if it begins with the end of another one or soon after.
const SETTLE_TIME: Duration = Duration::from_micros(50);
const AFTER_COMMIT: Duration = Duration::from_millis(1);

/// The changes that wait, shared by the lanes.
#[derive(Debug)]
pub(super) struct Queue {
    received: Mutex<Receiver<Change>>,
    pace: Arc<Pace>,
    committing: std::sync::Mutex<InCommit>,
    /// Notified when a lane has committed a group. Only the lane that collects waits for it.
    ended: Notify,
    blocked: std::sync::Mutex<Blocked>,
    /// Notified when a project is set aside.
    was_blocked: Notify,
}

/// Changes for one transaction.
#[derive(Debug)]
pub(super) enum Group {
    /// Those that have arrived.
    New(Vec<Change>, Committing),
    /// Those of one project, which was locked before.
    Blocked(Vec<Change>),
}

/// What lanes are committing, and what they have just committed.
#[derive(Debug, Default)]
struct InCommit {
    /// How many lanes commit changes of a project.
    lanes: HashMap<ProjectId, usize>,
    /// How many lanes commit a large group.
    large: usize,
    /// When the last group of several changes was committed.
    ended_at: Option<Instant>,
}

impl Queue {
    pub(super) fn new(received: Receiver<Change>, pace: Arc<Pace>) -> Arc<Self> {
        Arc::new(Self {
            received: Mutex::new(received),
            pace,
            committing: std::sync::Mutex::default(),
            ended: Notify::new(),
            blocked: std::sync::Mutex::default(),
            was_blocked: Notify::new(),
        })
    }

    /// Waits for a group of changes; `None` if the queue is closed and empty.
    pub(super) async fn collect(self: &Arc<Self>) -> Option<Group> {
        let mut received = self.received.lock().await;
        let first = loop {
            let next_at = self.blocked().next_at();
            tokio::select! {
                change = received.recv() => match change.map(|change| self.blocked().take(change)) {
                    Some(Some(change)) => break change,
                    Some(None) => {}
                    None => {
                        self.blocked().close();
                        return self.blocked().due().map(Group::Blocked);
                    }
                },
                () = reach(next_at) => {
                    if let Some(changes) = self.blocked().due() {
                        return Some(Group::Blocked(changes));
                    }
                }
                () = self.was_blocked.notified() => {}
            }
        };
        let mut group = vec![first];
        let go_at = Instant::now() + MAX_LARGE_WAIT;
        let mut size = group[0].size().max(1);
        let mut settling = self.is_after_a_commit().then(Instant::now);
        loop {
            let before = group.len();
            while size < MAX_GROUP
                && let Ok(change) = received.try_recv()
            {
                let Some(change) = self.blocked().take(change) else { continue };
                size += change.size().max(1);
                group.push(change);
            }
            let must_wait = match size >= LARGE_GROUP {
                true => self.pace.is_gentle() && self.committing().large > 0 && Instant::now() < go_at,
                false => self.is_committing(&group),
            };
            if must_wait {
                tokio::select! {
                    () = self.ended.notified() => {}
                    () = sleep_until(go_at), if size >= LARGE_GROUP => {}
                    change = received.recv(), if size < MAX_GROUP => {
                        let Some(change) = change else { break };
                        let Some(change) = self.blocked().take(change) else { continue };
                        size += change.size().max(1);
                        group.push(change);
                    }
                }
                settling = Some(Instant::now());
                continue;
            }
            if size >= LARGE_GROUP {
                break;
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
        let committing = Committing::new(self, &group, size >= LARGE_GROUP);
        Some(Group::New(group, committing))
    }

    /// Sets changes of a project aside that another session's locks do not allow.
    pub(super) fn set_aside(&self, changes: Vec<Change>, patience: Duration) {
        self.blocked().set_aside(changes, patience);
        self.was_blocked.notify_one();
    }

    /// Ends the wait of a project. Returns its changes that have arrived meanwhile.
    pub(super) fn release(&self, project: &ProjectId) -> Vec<Change> {
        self.blocked().release(project)
    }

    fn blocked(&self) -> MutexGuard<'_, Blocked> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Waits until a moment, or for ever.
async fn reach(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// While it exists, small groups of these projects wait.
#[derive(Debug)]
pub(super) struct Committing {
    queue: Arc<Queue>,
    projects: Vec<ProjectId>,
    /// Whether the group has several changes.
    is_group: bool,
    is_large: bool,
}

impl Committing {
    fn new(queue: &Arc<Queue>, group: &[Change], is_large: bool) -> Self {
        let mut projects: Vec<_> = group.iter().map(|change| change.project().clone()).collect();
        projects.sort_unstable();
        projects.dedup();
        let mut committing = queue.committing();
        for project in &projects {
            *committing.lanes.entry(project.clone()).or_default() += 1;
        }
        committing.large += usize::from(is_large);
        drop(committing);
        Self { queue: queue.clone(), projects, is_group: group.len() > 1, is_large }
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
        committing.large -= usize::from(self.is_large);
        committing.ended_at = self.is_group.then(Instant::now);
        drop(committing);
        self.queue.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::store::postgres::change::Reply;
    use crate::store::types::StoreError;

    fn reset(project: &str) -> Change {
        Change::Reset { project: ProjectId::parse(project).unwrap(), reply: Reply::new().0 }
    }

    fn queue() -> (mpsc::Sender<Change>, Arc<Queue>) {
        let (sender, received) = mpsc::channel(LARGE_GROUP + 1);
        (sender, Queue::new(received, Arc::default()))
    }

    /// Changes that have arrived.
    fn new(group: Option<Group>) -> (Vec<Change>, Committing) {
        let Some(Group::New(changes, committing)) = group else { panic!("{group:?}") };
        (changes, committing)
    }

    /// Changes whose project was locked.
    fn blocked(group: Option<Group>) -> Vec<Change> {
        let Some(Group::Blocked(changes)) = group else { panic!("{group:?}") };
        changes
    }

    fn projects(group: &[Change]) -> Vec<&str> {
        group.iter().map(|change| change.project().as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_group_waits_for_a_commit_of_its_project_and_grows() {
        let (sender, queue) = queue();
        sender.try_send(reset("p")).unwrap();
        let (_, committing) = new(queue.collect().await);
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
        let (group, _) = new(waits.now_or_never().unwrap());
        assert_eq!(projects(&group), ["p", "q", "p"]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_group_the_first_change_waits_a_moment_for_others() {
        let (sender, queue) = queue();
        for (size, pause, waits) in [(2, Duration::ZERO, true), (2, AFTER_COMMIT, false), (1, Duration::ZERO, false)] {
            (0..size).for_each(|_| sender.try_send(reset("p")).unwrap());
            let (group, committing) = new(queue.collect().await);
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
        let (group, _) = new(queue.collect().now_or_never().unwrap());
        assert_eq!(group.len(), LARGE_GROUP);
    }

    #[tokio::test(start_paused = true)]
    async fn large_groups_wait_for_each_other_while_counts_are_slow() {
        let (sender, queue) = queue();
        let send = |project| (0..LARGE_GROUP).for_each(|_| sender.try_send(reset(project)).unwrap());
        [Duration::ZERO, Duration::from_secs(1)].into_iter().for_each(|read| queue.pace.note_read(1, read));
        send("p");
        let first = queue.collect().now_or_never().unwrap();
        send("q");
        let mut waits = Box::pin(queue.collect());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        let second = new(waits.now_or_never().unwrap());
        assert_eq!(second.0.len(), LARGE_GROUP);
        advance(AFTER_COMMIT).await;
        // A small one of another project does not wait.
        sender.try_send(reset("p")).unwrap();
        assert!(queue.collect().now_or_never().is_some());
        drop(second);
        assert_eq!(queue.committing().large, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_group_waits_for_a_tenth_of_a_second_at_most() {
        let (sender, queue) = queue();
        let send = |project| (0..LARGE_GROUP).for_each(|_| sender.try_send(reset(project)).unwrap());
        [Duration::ZERO, Duration::from_secs(1)].into_iter().for_each(|read| queue.pace.note_read(1, read));
        send("p");
        let _first = queue.collect().now_or_never().unwrap();
        send("q");
        let begun = Instant::now();
        let second = timeout(2 * MAX_LARGE_WAIT, queue.collect()).await.unwrap();
        assert_eq!((new(second).0.len(), begun.elapsed()), (LARGE_GROUP, MAX_LARGE_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_waits_is_committed_when_the_queue_closes() {
        let (sender, queue) = queue();
        sender.try_send(reset("p")).unwrap();
        let _first = queue.collect().now_or_never().unwrap().unwrap();
        sender.try_send(reset("p")).unwrap();
        drop(sender);
        assert!(queue.collect().now_or_never().unwrap().is_some());
        assert!(queue.collect().now_or_never().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_project_that_is_locked_waits_while_others_go_on() {
        let (sender, queue) = queue();
        let (reply, _result) = Reply::new();
        let p = ProjectId::parse("p").unwrap();
        queue.set_aside(vec![Change::Reset { project: p.clone(), reply }], Duration::from_secs(60));
        ["p", "q"].into_iter().for_each(|project| sender.try_send(reset(project)).unwrap());
        let (group, _committing) = new(queue.collect().now_or_never().unwrap());
        assert_eq!(projects(&group), ["q"]);
        let mut waits = Box::pin(queue.collect());
        assert!(waits.as_mut().now_or_never().is_none());
        advance(Duration::from_secs(1)).await;
        assert_eq!(projects(&blocked(waits.now_or_never().unwrap())), ["p", "p"]);
        // While a lane tries it, its further changes wait.
        sender.try_send(reset("p")).unwrap();
        assert!(queue.collect().now_or_never().is_none());
        assert_eq!(projects(&queue.release(&p)), ["p"]);
        sender.try_send(reset("p")).unwrap();
        assert_eq!(projects(&new(queue.collect().now_or_never().unwrap()).0), ["p"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_project_that_stays_locked_is_given_up() {
        let (_sender, queue) = queue();
        let (reply, mut result) = Reply::new();
        let patience = Duration::from_secs(5);
        queue.set_aside(vec![Change::Reset { project: ProjectId::parse("p").unwrap(), reply }], patience);
        advance(patience).await;
        let changes = blocked(queue.collect().now_or_never().unwrap());
        assert!(result.try_recv().is_err());
        queue.set_aside(changes, patience);
        assert_eq!(result.try_recv().unwrap(), Err(StoreError::Unavailable));
        assert!(queue.collect().now_or_never().is_none());
    }
}
