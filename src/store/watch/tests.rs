//! Watches with a runner in paused time.

use std::sync::atomic::AtomicU64;

use futures_util::FutureExt as _;
use tokio::task::coop::unconstrained;

use super::*;
use crate::domain::{CountFilter, StatusSet};

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn never(_: &ProjectId, _: &WaitCondition) -> bool {
    false
}

fn condition(revision: u64) -> Option<WaitCondition> {
    let (filter, statuses) = (CountFilter::default(), StatusSet::ALL);
    Some(WaitCondition { filter, statuses, until: None, revision: Some(revision) })
}

#[tokio::test(start_paused = true)]
async fn a_watcher_with_a_condition_is_woken_once_it_is_true() {
    let (watches, revision, looks) = (Arc::<Watches>::default(), Arc::new(AtomicU64::new(1)), AtomicUsize::new(0));
    let (runner, current, looks) = (watches.clone(), revision.clone(), Arc::new(looks));
    let looked = looks.clone();
    let holds = move |_: &ProjectId, condition: &WaitCondition| {
        looked.fetch_add(1, Ordering::Relaxed);
        condition.holds(0, current.load(Ordering::Relaxed))
    };
    let running = tokio::spawn(async move { runner.run(holds).await });
    let mut others: Vec<_> =
        (0..3 * SLICE as u64).map(|other| watches.watch(&project("p"), condition(1 + other % 2))).collect();
    let mut same: Vec<_> = (0..SLICE).map(|_| watches.watch(&project("p"), condition(1))).collect();
    // Without the budget of a task, after which everything is pending.
    let is_woken = |watch: &mut Watch| unconstrained(watch.changed()).now_or_never().is_some();
    let woken = |watchers: &mut [Watch]| watchers.iter_mut().map(is_woken).filter(|is_woken| *is_woken).count();
    watches.mark(&project("p"));
    sleep(2 * WAKE_INTERVAL).await;
    assert_eq!((woken(&mut others), woken(&mut same)), (3 * SLICE / 2, 0));
    // Those with the same condition are looked at together.
    assert_eq!(looks.swap(0, Ordering::Relaxed), 3 * SLICE + 1);
    revision.store(2, Ordering::Relaxed);
    watches.mark(&project("p"));
    sleep(2 * WAKE_INTERVAL).await;
    assert_eq!((woken(&mut others), woken(&mut same)), (3 * SLICE / 2, SLICE));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_watched_project_wakes_its_waiters() {
    let watches = Arc::<Watches>::default();
    let runner = watches.clone();
    let running = tokio::spawn(async move { runner.run(never).await });
    watches.mark(&project("p"));
    let (mut first, mut second) = (watches.watch(&project("p"), None), watches.watch(&project("p"), None));
    let mut other = watches.watch(&project("q"), None);
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
    let running = tokio::spawn(async move { runner.run(never).await });
    let (mut watch, start) = (watches.watch(&project("p"), None), tokio::time::Instant::now());
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

/// Wakes so many watchers of so many projects. Each ends its watch soon, or watches on. Returns how long it took, and the most that
/// were awake at once.
async fn wake_many(all: usize, projects: usize, ends: bool) -> (Duration, usize) {
    let watches = Arc::<Watches>::default();
    let projects: Vec<_> = (0..projects).map(|number| project(&number.to_string())).collect();
    let [woken, awake, most] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
    let mut dropped = Vec::new();
    for number in 0..all {
        let project = &projects[number % projects.len()];
        // Groups that are half empty.
        dropped.push(watches.watch(project, None));
        let mut watch = watches.watch(project, None);
        let (woken, awake, most) = (woken.clone(), awake.clone(), most.clone());
        tokio::spawn(async move {
            watch.changed().await.unwrap();
            most.fetch_max(awake.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            yield_now().await;
            awake.fetch_sub(1, Ordering::Relaxed);
            woken.fetch_add(1, Ordering::Relaxed);
            if !ends {
                let _ = watch.changed().await;
            }
        });
    }
    drop(dropped);
    let runner = watches.clone();
    let running = tokio::spawn(async move { runner.run(never).await });
    // Until every task has begun to wait.
    sleep(Duration::from_millis(1)).await;
    projects.iter().for_each(|project| watches.mark(project));
    let start = tokio::time::Instant::now();
    while woken.load(Ordering::Relaxed) < all {
        sleep(SLICE_INTERVAL / 2).await;
    }
    running.abort();
    (start.elapsed(), most.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn watchers_that_end_are_woken_in_slices_without_pauses() {
    let (took, most) = wake_many(1000, 1, true).await;
    assert!(took <= SLICE_INTERVAL && most <= SLICE, "{most} at once, {took:?}");
}

/// The contract says that a wait sees every state that lasts 100 ms.
#[tokio::test(start_paused = true)]
async fn ten_thousand_that_watch_on_are_woken_within_forty_milliseconds() {
    for projects in [1, 100, 5000] {
        let (took, most) = wake_many(10_000, projects, false).await;
        assert!(took <= Duration::from_millis(40) && most < 2000, "{projects} projects: {most} at once, {took:?}");
    }
}

#[tokio::test]
async fn after_the_end_every_wait_returns_at_once() {
    let watches = Arc::<Watches>::default();
    let mut watch = watches.watch(&project("p"), None);
    watches.end();
    assert_eq!(watch.changed().await, Err(WatchEnded));
    assert_eq!(watches.watch(&project("p"), None).changed().await, Err(WatchEnded));
}

#[test]
fn dropped_watches_are_removed() {
    let watches = Arc::<Watches>::default();
    let (first, second) = (watches.watch(&project("p"), None), watches.watch(&project("p"), None));
    watches.mark(&project("p"));
    drop(first);
    assert_eq!(watches.lock().watched.len(), 1);
    drop(second);
    let projects = watches.lock();
    assert!(projects.watched.is_empty() && projects.marked.is_empty());
    assert_eq!(watches.count.load(Ordering::Relaxed), 0);
}

/// Of two watches that are dropped at the same time, each may still have its receiver when the other one looks.
#[test]
fn a_watch_is_removed_while_the_receiver_of_another_remains() {
    let watches = Arc::<Watches>::default();
    let (first, second) = (watches.watch(&project("p"), None), watches.watch(&project("p"), None));
    let remaining = first.receiver.clone();
    drop(first);
    drop(second);
    assert!(watches.watched().is_empty());
    drop(remaining);
}
