//! A write lane: a task with one connection, which commits group after group.
//!
//! A transaction of which the outcome is unknown is resolved before anything else: the lane connects again and registers, which waits
//! for that transaction if it is still committing and ends its epoch if it is not. The registration tells the last transaction that
//! was committed. So it is known for good whether the group was committed, and it is never committed twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::change::Change;
use super::commit::WriteSession;
use super::error::{ConnectError, log_connect_error};
use super::failure::Failure;
use super::pause::pause;
use super::queue::{Committing, Queue};
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
            let Some((group, committing)) = queue.collect().await else { return };
            // A change that the database refuses must not take the others of its group along.
            for change in self.process(group, Some(committing), &mut logged).await {
                self.process(vec![change], None, &mut logged).await;
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

    /// Commits a group and sends the results. Returns the changes, without results, that must be committed one by one.
    async fn process(
        &mut self,
        mut group: Vec<Change>,
        mut committing: Option<Committing>,
        logged: &mut Option<String>,
    ) -> Vec<Change> {
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
                    return group;
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
            let committed = session.commit(&self.shared, tx, &mut group).await;
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
                Err(Failure::TooLong | Failure::Refused) if group.len() > 1 => return group,
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
        Vec::new()
    }
}
