use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{advance, timeout};

use super::*;
use crate::domain::SubJobId;
use crate::store::end_time::EndTime;
use crate::store::postgres::change::Reply;
use crate::store::types::StoreError;

fn reset(project: &str) -> Change {
    Change::Reset { project: ProjectId::parse(project).unwrap(), reply: Reply::new().0 }
}

/// A change that is larger than a group.
fn large() -> Change {
    let id = |number: usize| SubJobId::parse(&number.to_string()).unwrap();
    let (project, ids) = (ProjectId::parse("large").unwrap(), (0..=MAX_GROUP).map(id).collect());
    Change::Expire { project, ids, moment: EndTime::from_seconds(1).unwrap(), reply: Reply::new().0 }
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

/// A queue while counts are slow, with a large group that is committed, and changes for another.
fn two_large_groups() -> (mpsc::Sender<Change>, Arc<Queue>, Group) {
    let (sender, queue) = queue();
    let send = |project| (0..LARGE_GROUP).for_each(|_| sender.try_send(reset(project)).unwrap());
    [Duration::ZERO, Duration::from_secs(1)].into_iter().for_each(|read| queue.pace.note_read(1, read));
    send("p");
    let first = queue.collect().now_or_never().unwrap().unwrap();
    send("q");
    (sender, queue, first)
}

#[tokio::test(start_paused = true)]
async fn large_groups_wait_for_each_other_while_counts_are_slow() {
    let (sender, queue, first) = two_large_groups();
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
    let (_sender, queue, _first) = two_large_groups();
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

/// Otherwise the small ones would be as slow as the large one.
#[tokio::test(start_paused = true)]
async fn a_change_that_is_larger_than_a_group_is_alone() {
    let (sender, queue) = queue();
    for change in [reset("a"), large(), large(), reset("b"), reset("c")] {
        sender.try_send(change).unwrap();
    }
    for expected in [["a"].as_slice(), &["large"], &["large"], &["b", "c"]] {
        let (group, committing) = new(queue.collect().await);
        assert_eq!(projects(&group), expected);
        drop(committing);
        advance(AFTER_COMMIT).await;
    }
}

/// It cannot grow, and the change that is too large for it waits behind it.
#[tokio::test(start_paused = true)]
async fn a_small_group_that_is_full_does_not_wait_for_a_commit_of_its_project() {
    let (sender, queue) = queue();
    sender.try_send(reset("p")).unwrap();
    let (_, _committing) = new(queue.collect().await);
    for change in [reset("p"), large()] {
        sender.try_send(change).unwrap();
    }
    for expected in ["p", "large"] {
        let (group, _) = new(queue.collect().now_or_never().unwrap());
        assert_eq!(projects(&group), [expected]);
        advance(AFTER_COMMIT).await;
    }
}
