//! Tells tasks that wait for a change of a project when there was one.
//!
//! A change marks its project, and [`Watches::run`] wakes the marked projects' watchers, at most once in [`WAKE_INTERVAL`]. So a
//! change costs one load where no task watches, and many changes in a row cost one wake-up of each watcher.
//!
//! Watchers are woken in slices, with pauses. If all were woken at once, a count that arrives then would be behind thousands of tasks,
//! and its caller, if it is on the same machine, would get no core.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::domain::ProjectId;

/// The shortest time between two wake-ups of the same watcher.
const WAKE_INTERVAL: Duration = Duration::from_millis(25);

/// The most watchers of a group, and about as many are woken at once.
const SLICE: usize = 256;

/// The pause between two slices. 5,000 watchers are woken within 100 ms.
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
    /// The watchers in groups of at most [`SLICE`], by the number of the group. Only the last group takes new ones.
    groups: BTreeMap<u64, watch::Sender<()>>,
    is_marked: bool,
}

impl Watched {
    /// Adds a watcher. Returns the number of its group too.
    fn subscribe(&mut self) -> (u64, watch::Receiver<()>) {
        if let Some((last, sender)) = self.groups.last_key_value()
            && sender.receiver_count() < SLICE
        {
            return (*last, sender.subscribe());
        }
        let next = self.groups.last_key_value().map_or(0, |(last, _)| last + 1);
        let (sender, receiver) = watch::channel(());
        self.groups.insert(next, sender);
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
    /// Watches a project.
    pub(super) fn watch(self: &Arc<Self>, project: &ProjectId) -> Watch {
        let mut projects = self.lock();
        let (group, receiver) = if self.has_ended.load(Ordering::Relaxed) {
            // Its sender is dropped at once, which is how a watcher is told the end.
            (0, watch::channel(()).1)
        } else {
            let subscribed = match projects.watched.get_mut(project) {
                Some(watched) => watched.subscribe(),
                None => projects.watched.entry(project.clone()).or_default().subscribe(),
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

    /// Wakes the watchers of marked projects, for ever.
    pub(super) async fn run(&self) {
        loop {
            self.marked.notified().await;
            for project in self.take_marked() {
                let mut next = self.wake_from(&project, 0);
                while let Some(group) = next {
                    sleep(SLICE_INTERVAL).await;
                    next = self.wake_from(&project, group);
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

    /// Wakes a slice of a project's watchers, from that group on. Returns the group that is next, if there is one. Who begins to watch
    /// meanwhile reads the change anyway.
    fn wake_from(&self, project: &ProjectId, group: u64) -> Option<u64> {
        let projects = self.lock();
        let mut woken = 0;
        for (group, sender) in projects.watched.get(project)?.groups.range(group..) {
            if woken + sender.receiver_count() > SLICE && woken > 0 {
                return Some(*group);
            }
            woken += sender.receiver_count();
            sender.send_replace(());
        }
        None
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
    /// Waits until the project has changed since the watch was made or this last returned.
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
        if watched.groups.get(&self.group).is_some_and(|sender| sender.receiver_count() <= 1) {
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
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn project(name: &str) -> ProjectId {
        ProjectId::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_watched_project_wakes_its_waiters() {
        let watches = Arc::<Watches>::default();
        let runner = watches.clone();
        let running = tokio::spawn(async move { runner.run().await });
        watches.mark(&project("p"));
        let (mut first, mut second) = (watches.watch(&project("p")), watches.watch(&project("p")));
        let mut other = watches.watch(&project("q"));
        watches.mark(&project("p"));
        assert_eq!((first.changed().await, second.changed().await), (Ok(()), Ok(())));
        sleep(WAKE_INTERVAL).await;
        assert!(other.changed().now_or_never().is_none() && first.changed().now_or_never().is_none());
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn many_changes_wake_once_in_an_interval() {
        let watches = Arc::<Watches>::default();
        let runner = watches.clone();
        let running = tokio::spawn(async move { runner.run().await });
        let (mut watch, start) = (watches.watch(&project("p")), tokio::time::Instant::now());
        let changing = tokio::spawn(async move {
            for _ in 0..100 {
                watches.mark(&project("p"));
                sleep(Duration::from_millis(1)).await;
            }
        });
        let mut woken = 0;
        while start.elapsed() < Duration::from_millis(99) {
            watch.changed().await.unwrap();
            woken += 1;
        }
        changing.await.unwrap();
        assert!((4..=5).contains(&woken), "{woken}");
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_are_woken_in_slices() {
        const WATCHERS: usize = 1000;
        let watches = Arc::<Watches>::default();
        let woken = Arc::<AtomicUsize>::default();
        let mut dropped = Vec::new();
        for number in 0..2 * WATCHERS {
            let mut watch = watches.watch(&project("p"));
            if number % 2 == 0 {
                // Groups that are half empty.
                dropped.push(watch);
                continue;
            }
            let woken = woken.clone();
            tokio::spawn(async move {
                watch.changed().await.unwrap();
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        drop(dropped);
        let runner = watches.clone();
        let running = tokio::spawn(async move { runner.run().await });
        // Until every task has begun to wait.
        sleep(Duration::from_millis(1)).await;
        watches.mark(&project("p"));
        let (mut before, start) = (0, tokio::time::Instant::now());
        while before < WATCHERS {
            sleep(SLICE_INTERVAL / 2).await;
            let now = woken.load(Ordering::Relaxed);
            assert!(now - before <= SLICE, "{} at once", now - before);
            before = now;
        }
        let fewest = WATCHERS.div_ceil(SLICE) as u32;
        assert!(start.elapsed() <= 3 * fewest * SLICE_INTERVAL, "{:?}", start.elapsed());
        running.abort();
    }

    #[tokio::test]
    async fn after_the_end_every_wait_returns_at_once() {
        let watches = Arc::<Watches>::default();
        let mut watch = watches.watch(&project("p"));
        watches.end();
        assert_eq!(watch.changed().await, Err(WatchEnded));
        assert_eq!(watches.watch(&project("p")).changed().await, Err(WatchEnded));
    }

    #[test]
    fn dropped_watches_are_removed() {
        let watches = Arc::<Watches>::default();
        let (first, second) = (watches.watch(&project("p")), watches.watch(&project("p")));
        watches.mark(&project("p"));
        drop(first);
        assert_eq!(watches.lock().watched.len(), 1);
        drop(second);
        let projects = watches.lock();
        assert!(projects.watched.is_empty() && projects.marked.is_empty());
        assert_eq!(watches.count.load(Ordering::Relaxed), 0);
    }
}
