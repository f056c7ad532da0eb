//! Tells tasks that wait for a change of a project when there was one.
//!
//! A change marks its project, and [`Watches::run`] wakes the marked projects' watchers, at most once in [`WAKE_INTERVAL`]. So a
//! change costs one load where no task watches, and many changes in a row cost one wake-up of each watcher.
//!
//! A watcher with a condition is woken only if it is true. To look once for watchers with the same one is much cheaper than to wake
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

/// The most watchers of a group, and of the first slice of a wake-up.
const SLICE: usize = 64;

/// The time in which a slice may end its watches before the next one is woken, which then is larger by [`SLICE`]. So 10,000 that watch
/// on are woken in 18 slices.
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
    /// The watchers in groups, by the number of the group, with how many it has. Only the last group takes new ones.
    groups: BTreeMap<u64, (Arc<Group>, usize)>,
    is_marked: bool,
}

/// At most [`SLICE`] watchers of a project with the same condition, if they have one.
#[derive(Debug)]
struct Group {
    project: ProjectId,
    condition: Option<WaitCondition>,
    sender: watch::Sender<()>,
}

impl Watched {
    /// Adds a watcher. Returns the number of its group too.
    fn subscribe(&mut self, project: &ProjectId, condition: Option<WaitCondition>) -> (u64, watch::Receiver<()>) {
        let last = self.groups.last_entry();
        let next = last.as_ref().map_or(0, |last| last.key() + 1);
        if let Some(mut last) = last
            && let (group, watchers) = last.get_mut()
            && *watchers < SLICE
            && group.condition == condition
        {
            *watchers += 1;
            return (next - 1, group.sender.subscribe());
        }
        let (sender, receiver) = watch::channel(());
        self.groups.insert(next, (Arc::new(Group { project: project.clone(), condition, sender }), 1));
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
                Some(watched) => watched.subscribe(project, condition),
                None => projects.watched.entry(project.clone()).or_default().subscribe(project, condition),
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

    /// Wakes the watchers of marked projects, for ever. `holds` says whether a condition is true now.
    pub(super) async fn run(&self, holds: impl Fn(&ProjectId, &WaitCondition) -> bool) {
        loop {
            self.marked.notified().await;
            let mut due = Vec::new();
            for (looked_at, group) in self.take_marked().into_iter().enumerate() {
                if group.condition.as_ref().is_none_or(|condition| holds(&group.project, condition)) {
                    due.push(group);
                }
                if looked_at % SLICE == SLICE - 1 {
                    yield_now().await;
                }
            }
            self.wake(due).await;
            sleep(WAKE_INTERVAL).await;
        }
    }

    /// The groups of marked projects, which are no longer marked. Who begins to watch from now on reads the changes anyway.
    fn take_marked(&self) -> Vec<Arc<Group>> {
        let mut projects = self.lock();
        let Projects { watched, marked } = &mut *projects;
        let mut groups = Vec::new();
        for project in marked.drain(..) {
            if let Some(watched) = watched.get_mut(&project) {
                watched.is_marked = false;
                groups.extend(watched.groups.values().map(|(group, _)| group.clone()));
            }
        }
        groups
    }

    /// Wakes the watchers of these groups, slice after slice.
    async fn wake(&self, groups: Vec<Arc<Group>>) {
        let (mut slice, mut woken, mut watchers) = (SLICE, Vec::new(), 0);
        for group in groups {
            let more = group.sender.receiver_count();
            if watchers > 0 && watchers + more > slice {
                yield_now().await;
                let have_ended = timeout(SLICE_INTERVAL, all_ended(&woken)).await.is_ok();
                slice = if have_ended { SLICE } else { slice + SLICE };
                (woken, watchers) = (Vec::new(), 0);
            }
            if self.has_ended.load(Ordering::Relaxed) {
                return;
            }
            group.sender.send_replace(());
            watchers += more;
            woken.push(group);
        }
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

/// Waits until all watchers of these groups have ended their watches.
async fn all_ended(groups: &[Arc<Group>]) {
    for group in groups {
        group.sender.closed().await;
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
        // Counted under the lock: of two receivers that are dropped at the same time, each may still see the other.
        let Some((_, watchers)) = watched.groups.get_mut(&self.group) else { return };
        *watchers -= 1;
        if *watchers == 0 {
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
