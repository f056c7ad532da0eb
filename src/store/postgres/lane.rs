//! A write lane: a task with one connection, which commits group after group.
//!
//! A transaction of which the outcome is unknown is resolved before anything else: the lane connects again and registers, which waits
//! for that transaction if it is still committing and ends its epoch if it is not. The registration tells the last transaction that
//! was committed. So it is known for good whether the group was committed, and it is never committed twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::change::Change;
use super::commit::WriteSession;
use super::error::{ConnectError, log_connect_error};
use super::failure::Failure;
use super::pause::pause;
use super::queue::{Committing, Group, Queue};
use super::shared::Shared;
use super::stats::count;
use crate::domain::ProjectId;
use crate::store::types::StoreError;

/// How often a transaction is repeated because of others.
const MAX_REPEATS: u32 = 10;

/// The longest pause before a repetition, in milliseconds.
const MAX_PAUSE: u64 = 50;

/// The shortest and the longest pause between two attempts to connect.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// The changes of a group that have no result yet.
enum Rest {
    None,
    /// The database refuses the group, or needs too long for it.
    OneByOne(Vec<Change>),
    /// Another session has had a lock for too long.
    Locked(Vec<Change>),
}

/// A write lane.
pub(super) struct Lane {
    shared: Arc<Shared>,
    /// Random, so that no earlier process had it.
    id: uuid::Uuid,
    session: Option<WriteSession>,
    /// The number of the next transaction.
    next_tx: i64,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, id: uuid::Uuid) -> Self {
        Self { shared, id, session: None, next_tx: 1 }
    }

    /// Runs until the queue is closed and empty.
    pub(super) async fn run(mut self, queue: Arc<Queue>) {
        let mut logged = None;
        loop {
            if self.session.is_none() {
                // Connected before there is a change, so that the first one does not wait.
                if let Err(error) = self.connect().await {
                    log_connect_error(&error, &mut logged);
                }
            }
            match queue.collect().await {
                Some(Group::New(changes, committing)) => {
                    self.commit(changes, Some(committing), false, &queue, &mut logged).await;
                }
                Some(Group::Blocked(changes)) => {
                    let project = changes.first().map(|change| change.project().clone());
                    self.commit(changes, None, true, &queue, &mut logged).await;
                    let arrived = project.map_or_else(Vec::new, |project| queue.release(&project));
                    self.commit(arrived, None, false, &queue, &mut logged).await;
                }
                None => return,
            }
        }
    }

    /// Commits a group: in parts, if a change that the database refuses or a project that is locked would take the others along.
    async fn commit(
        &mut self,
        group: Vec<Change>,
        mut committing: Option<Committing>,
        is_brief: bool,
        queue: &Queue,
        logged: &mut Option<String>,
    ) {
        let mut parts = vec![(group, is_brief)];
        while let Some((part, is_brief)) = parts.pop() {
            match self.process(part, committing.take(), is_brief, logged).await {
                Rest::None => {}
                Rest::OneByOne(changes) => parts.extend(changes.into_iter().rev().map(|one| (vec![one], is_brief))),
                Rest::Locked(changes) => {
                    let mut projects: BTreeMap<ProjectId, Vec<Change>> = BTreeMap::new();
                    for change in changes {
                        projects.entry(change.project().clone()).or_default().push(change);
                    }
                    let is_one = projects.len() == 1;
                    for changes in projects.into_values() {
                        match is_one {
                            true => queue.set_aside(changes, self.shared.patience),
                            false => parts.push((changes, true)),
                        }
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<i64, ConnectError> {
        let (session, last_tx) = WriteSession::open(&self.shared, self.id).await?;
        self.shared.health.note_answer();
        self.shared.has_lane.notify_one();
        self.session = Some(session);
        self.next_tx = last_tx + 1;
        Ok(last_tx)
    }

    /// Commits a group and sends the results. Returns the changes that must be committed in another way.
    async fn process(
        &mut self,
        mut group: Vec<Change>,
        mut committing: Option<Committing>,
        is_brief: bool,
        logged: &mut Option<String>,
    ) -> Rest {
        let (begun, deadline) = (Instant::now(), Instant::now() + self.shared.patience);
        let (mut repeats, mut back_off) = (0, BACK_OFF[0]);
        let mut unknown: Option<(i64, Vec<ProjectId>)> = None;
        let committed = loop {
            if Instant::now() > deadline {
                break Err(StoreError::Unavailable);
            }
            if unknown.is_none() {
                group.retain(|change| !change.is_abandoned());
                if group.is_empty() {
                    return Rest::None;
                }
            }
            if self.session.is_none() {
                match self.connect().await {
                    Ok(last_tx) => {
                        *logged = None;
                        let Some((tx, changed)) = unknown.take() else { continue };
                        if last_tx == tx {
                            count(&self.shared.stats.unknown_committed);
                            break Ok(changed);
                        }
                        count(&self.shared.stats.unknown_absent);
                    }
                    Err(error) => {
                        log_connect_error(&error, logged);
                        pause(back_off.as_millis() as u64).await;
                        back_off = (back_off * 2).min(BACK_OFF[1]);
                    }
                }
                continue;
            }
            let tx = self.next_tx;
            let Some(session) = &mut self.session else { continue };
            let committed = session.commit(&self.shared, tx, &mut group, is_brief).await;
            // After a failure another lane may be faster.
            committing = committing.filter(|_| committed.is_ok());
            match committed {
                Ok(changed) => {
                    self.next_tx += 1;
                    break Ok(changed);
                }
                Err(Failure::Repeat(code)) => {
                    tracing::debug!(code, "a transaction is repeated");
                    count(&self.shared.stats.repeats);
                    repeats += 1;
                    if repeats > MAX_REPEATS {
                        break Err(StoreError::Unavailable);
                    }
                    pause(MAX_PAUSE).await;
                }
                Err(Failure::Locked) => {
                    count(&self.shared.stats.repeats);
                    return Rest::Locked(group);
                }
                Err(Failure::Fenced) => {
                    count(&self.shared.stats.fenced);
                    self.session = None;
                }
                Err(Failure::Lost) => {
                    self.session = None;
                    // A pooler that loses the statements of each session must not make this loop take a core.
                    pause(MAX_PAUSE).await;
                }
                Err(Failure::Unknown) => {
                    self.session = None;
                    let changed = group.iter().map(|change| change.project().clone()).collect();
                    unknown = Some((tx, changed));
                }
                Err(Failure::NoResources) => break Err(StoreError::Unavailable),
                Err(Failure::Denied) => {
                    // The next connection checks the schema and the rights again.
                    self.session = None;
                    break Err(StoreError::Unavailable);
                }
                Err(Failure::TooLong | Failure::Refused) if group.len() > 1 => return Rest::OneByOne(group),
                Err(Failure::TooLong) => break Err(StoreError::Unavailable),
                Err(Failure::Refused) => break Err(StoreError::Refused),
            }
        };
        if unknown.is_some() {
            count(&self.shared.stats.unknown_given_up);
        }
        if let Ok(changed) = &committed {
            self.shared.stats.note_commit(group.iter().map(Change::size).sum(), begun.elapsed());
            changed.iter().for_each(|project| self.shared.watches.mark(project));
        }
        let committed = committed.map(drop);
        group.into_iter().for_each(|change| change.finish(committed));
        Rest::None
    }
}
