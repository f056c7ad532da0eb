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

/// The most subtasks of a group, unless it is one change.
const MAX_GROUP: usize = 16 * 1024;

/// How old a group becomes that waits for another large one: small changes of other projects wait with it.
const MAX_LARGE_WAIT: Duration = Duration::from_millis(100);

/// How long a group is open after its last change, if it begins with the end of another one or soon after.
const SETTLE_TIME: Duration = Duration::from_micros(50);
const AFTER_COMMIT: Duration = Duration::from_millis(1);

/// The changes that wait, shared by the lanes.
#[derive(Debug)]
pub(super) struct Queue {
    arriving: Mutex<Arriving>,
    pace: Arc<Pace>,
    committing: std::sync::Mutex<InCommit>,
    /// Notified when a lane has committed a group. Only the lane that collects waits for it.
    ended: Notify,
    blocked: std::sync::Mutex<Blocked>,
    /// Notified when a project is set aside.
    was_blocked: Notify,
}

/// The changes that arrive.
#[derive(Debug)]
struct Arriving {
    receiver: Receiver<Change>,
    /// One that would have made the last group too large.
    next: Option<Change>,
}

impl Arriving {
    async fn recv(&mut self) -> Option<Change> {
        match self.next.take() {
            Some(change) => Some(change),
            None => self.receiver.recv().await,
        }
    }
}

/// A group that grows.
struct Growing {
    changes: Vec<Change>,
    size: usize,
    is_full: bool,
}

impl Growing {
    fn new(first: Change) -> Self {
        let size = first.size().max(1);
        Self { changes: vec![first], size, is_full: size >= MAX_GROUP }
    }

    /// Adds a change, or keeps it for the next group if it would make this one too large.
    fn add(&mut self, change: Change, arriving: &mut Arriving) {
        let size = self.size + change.size().max(1);
        self.is_full = size >= MAX_GROUP;
        if size > MAX_GROUP {
            arriving.next = Some(change);
            return;
        }
        self.size = size;
        self.changes.push(change);
    }

    fn is_large(&self) -> bool {
        self.size >= LARGE_GROUP
    }
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
            arriving: Mutex::new(Arriving { receiver: received, next: None }),
            pace,
            committing: std::sync::Mutex::default(),
            ended: Notify::new(),
            blocked: std::sync::Mutex::default(),
            was_blocked: Notify::new(),
        })
    }

    /// Waits for a group of changes; `None` if the queue is closed and empty.
    pub(super) async fn collect(self: &Arc<Self>) -> Option<Group> {
        let mut arriving = self.arriving.lock().await;
        let first = loop {
            let next_at = self.blocked().next_at();
            tokio::select! {
                change = arriving.recv() => match change.map(|change| self.blocked().take(change)) {
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
        let mut group = Growing::new(first);
        let go_at = Instant::now() + MAX_LARGE_WAIT;
        let mut settling = self.is_after_a_commit().then(Instant::now);
        loop {
            let before = group.changes.len();
            while !group.is_full
                && let Ok(change) = arriving.receiver.try_recv()
            {
                let Some(change) = self.blocked().take(change) else { continue };
                group.add(change, &mut arriving);
            }
            let must_wait = match group.is_large() {
                true => self.pace.is_gentle() && self.committing().large > 0 && Instant::now() < go_at,
                // One that is full cannot grow, and others wait behind it.
                false => !group.is_full && self.is_committing(&group.changes),
            };
            if must_wait {
                tokio::select! {
                    () = self.ended.notified() => {}
                    () = sleep_until(go_at), if group.is_large() => {}
                    change = arriving.recv(), if !group.is_full => {
                        let Some(change) = change else { break };
                        let Some(change) = self.blocked().take(change) else { continue };
                        group.add(change, &mut arriving);
                    }
                }
                settling = Some(Instant::now());
                continue;
            }
            if group.is_large() {
                break;
            }
            // The callers of the group that was just committed send their next changes now. Without a pause the first of them would be
            // a group of its own, and all others would wait for it.
            match settling {
                Some(_) if group.changes.len() > before => settling = Some(Instant::now()),
                Some(since) if since.elapsed() < SETTLE_TIME => {}
                _ => break,
            }
            yield_now().await;
        }
        let committing = Committing::new(self, &group.changes, group.is_large());
        Some(Group::New(group.changes, committing))
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
mod tests;
