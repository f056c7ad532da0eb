//! Tells tasks that wait for a change of a project when there was one.
//!
//! A change marks its project, and [`Watches::run`] wakes the marked projects' watchers, at most once in [`WAKE_INTERVAL`]. So a
//! change costs one load where no task watches, and many changes in a row cost one wake-up of each watcher.
//!
//! A watcher with a condition is woken only if it is true. To look once for all who have the same one is much cheaper than to wake
//! each task, which would look and wait on.
//!
//! Watchers are woken in slices. If all were woken at once, a count that arrives then would be behind thousands of tasks, and its
//! caller, if it is on the same machine, would get no core.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::domain::{ProjectId, WaitCondition};

/// The shortest time between two wake-ups of the same watcher.
const WAKE_INTERVAL: Duration = Duration::from_millis(25);

/// The most watchers of a group. As many watchers are woken at once at most, and as many groups looked at.
const SLICE: usize = 64;

/// The longest time between two slices. It is shorter if those that have been woken have ended their watches.
const SLICE_INTERVAL: Duration = Duration::from_millis(1);

/// The watched projects of a store.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// How many projects are watched.
    count: AtomicUsize,
    has_ended: AtomicBool,
    projects: Mutex<Projects>,
    /// Some project has been marked.
    marked: Notify,
}

#[derive(Debug, Default)]
struct Projects {
    watched: HashMap<ProjectId, Watched>,
    /// Watched projects that have changed since their watchers were last woken, each once.
    marked: Vec<ProjectId>,
}

#[derive(Debug, Default)]
struct Watched {
    /// The watchers in groups, by the number of the group. Only the last group takes new ones.
    groups: BTreeMap<u64, Group>,
    is_marked: bool,
}

/// At most [`SLICE`] watchers of a project with the same condition, if they have one.
#[derive(Debug)]
struct Group {
    condition: Option<WaitCondition>,
    sender: watch::Sender<()>,
}

impl Watched {
    /// Adds a watcher. Returns the number of its group too.
    fn subscribe(&mut self, condition: Option<WaitCondition>) -> (u64, watch::Receiver<()>) {
        if let Some((last, Group { condition: of_last, sender })) = self.groups.last_key_value()
            && sender.receiver_count() < SLICE
            && *of_last == condition
        {
            return (*last, sender.subscribe());
        }
        let next = self.groups.last_key_value().map_or(0, |(last, _)| last + 1);
        let (sender, receiver) = watch::channel(());
        self.groups.insert(next, Group { condition, sender });
        (next, receiver)
    }
}

/// A task's view of the changes of one project, from when it was made.
#[derive(Debug)]
pub struct Watch {
    receiver: watch::Receiver<()>,
    project: ProjectId,
    group: u64,
    watches: Arc<Watches>,
}

/// The server has ended all watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchEnded;

impl Watches {
    /// Watches a project, until the condition is true if there is one.
    pub(super) fn watch(self: &Arc<Self>, project: &ProjectId, condition: Option<WaitCondition>) -> Watch {
        let mut projects = self.lock();
        let (group, receiver) = if self.has_ended.load(Ordering::Relaxed) {
            // Its sender is dropped at once, which is how a watcher is told the end.
            (0, watch::channel(()).1)
        } else {
            let subscribed = match projects.watched.get_mut(project) {
                Some(watched) => watched.subscribe(condition),
                None => projects.watched.entry(project.clone()).or_default().subscribe(condition),
            };
            self.count.store(projects.watched.len(), Ordering::Relaxed);
            subscribed
        };
        Watch { receiver, project: project.clone(), group, watches: self.clone() }
    }

    /// The watched projects.
    pub(super) fn watched(&self) -> Vec<ProjectId> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        self.lock().watched.keys().cloned().collect()
    }

    /// Marks a project that has changed. To be called after the change can be read.
    ///
    /// A watcher that does not read the change took the counters' lock before the change did, so its count is visible here.
    pub(super) fn mark(&self, project: &ProjectId) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut projects = self.lock();
        let Projects { watched, marked } = &mut *projects;
        if let Some(watched) = watched.get_mut(project).filter(|watched| !watched.is_marked) {
            watched.is_marked = true;
            marked.push(project.clone());
            self.marked.notify_one();
        }
    }

    /// Wakes the watchers of marked projects, for ever. `holds` says whether a condition is true now, or may be.
    pub(super) async fn run(&self, holds: impl Fn(&ProjectId, &WaitCondition) -> bool) {
        loop {
            self.marked.notified().await;
            for project in self.take_marked() {
                let mut next = Some(0);
                while let Some(from) = next {
                    let woken;
                    (woken, next) = self.wake_slice(&project, from, &holds);
                    yield_now().await;
                    let all_ended = async {
                        for group in &woken {
                            group.closed().await;
                        }
                    };
                    // Some may watch on, so this time may pass.
                    let _ = timeout(SLICE_INTERVAL, all_ended).await;
                }
            }
            sleep(WAKE_INTERVAL).await;
        }
    }

    fn take_marked(&self) -> Vec<ProjectId> {
        let mut projects = self.lock();
        let Projects { watched, marked } = &mut *projects;
        for project in &*marked {
            if let Some(watched) = watched.get_mut(project) {
                watched.is_marked = false;
            }
        }
        std::mem::take(marked)
    }

    /// Wakes a slice of a project's watchers, from that group on. Returns the groups that it has woken, and the one that is next, if
    /// there is one. Who begins to watch meanwhile reads the change anyway.
    fn wake_slice(
        &self,
        project: &ProjectId,
        from: u64,
        holds: impl Fn(&ProjectId, &WaitCondition) -> bool,
    ) -> (Vec<watch::Sender<()>>, Option<u64>) {
        let projects = self.lock();
        let (mut woken, mut watchers) = (Vec::new(), 0);
        let groups = projects.watched.get(project).into_iter().flat_map(|watched| watched.groups.range(from..));
        for (looked_at, (number, Group { condition, sender })) in groups.enumerate() {
            watchers += sender.receiver_count();
            if looked_at == SLICE || (watchers > SLICE && !woken.is_empty()) {
                return (woken, Some(*number));
            }
            if condition.as_ref().is_none_or(|condition| holds(project, condition)) {
                sender.send_replace(());
                woken.push(sender.clone());
            } else {
                watchers -= sender.receiver_count();
            }
        }
        (woken, None)
    }

    /// Ends all watches, those that are made later too.
    pub(super) fn end(&self) {
        let mut projects = self.lock();
        self.has_ended.store(true, Ordering::Relaxed);
        *projects = Projects::default();
        self.count.store(0, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Projects> {
        // A panic elsewhere leaves the map whole.
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Waits until the project has changed since the watch was made or this last returned, and the condition, if there is one, may be
    /// true.
    ///
    /// # Errors
    ///
    /// If all watches have ended.
    pub async fn changed(&mut self) -> Result<(), WatchEnded> {
        self.receiver.changed().await.map_err(|_| WatchEnded)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut projects = self.watches.lock();
        let Some(watched) = projects.watched.get_mut(&self.project) else { return };
        // This watch's own receiver is still there.
        if watched.groups.get(&self.group).is_some_and(|group| group.sender.receiver_count() <= 1) {
            watched.groups.remove(&self.group);
        }
        if watched.groups.is_empty() {
            projects.watched.remove(&self.project);
            projects.marked.retain(|marked| *marked != self.project);
            self.watches.count.store(projects.watched.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
