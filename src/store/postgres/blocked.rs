//! The changes of projects whose rows another session has locked. They wait apart from the queue, so that other projects go on.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::change::Change;
use crate::domain::ProjectId;
use crate::store::types::StoreError;

/// The pause between two attempts to change a project.
const PAUSE: Duration = Duration::from_millis(500);

/// The projects whose changes wait.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    projects: HashMap<ProjectId, Waiting>,
    /// After it each project is tried once more.
    is_closed: bool,
}

#[derive(Debug)]
struct Waiting {
    /// In the order of their arrival.
    changes: Vec<Change>,
    /// When they are tried again; `None` while a lane tries to commit earlier ones.
    again_at: Option<Instant>,
    /// When they are given up.
    deadline: Instant,
}

impl Blocked {
    /// Takes the changes of a project back that could not be made. They are given up after `patience`, counted from the first attempt.
    pub(super) fn set_aside(&mut self, mut changes: Vec<Change>, patience: Duration) {
        let Some(project) = changes.first().map(|change| change.project().clone()) else { return };
        let now = Instant::now();
        let new = || Waiting { changes: Vec::new(), again_at: None, deadline: now + patience };
        let waiting = self.projects.entry(project.clone()).or_insert_with(new);
        changes.append(&mut waiting.changes);
        changes.retain(|change| !change.is_abandoned());
        if changes.is_empty() || self.is_closed || now >= waiting.deadline {
            self.projects.remove(&project);
            changes.into_iter().for_each(|change| change.finish(Err(StoreError::Unavailable)));
        } else {
            waiting.changes = changes;
            waiting.again_at = Some(now + PAUSE);
        }
    }

    /// Takes a change that has arrived, if earlier ones of its project wait; returns it otherwise.
    pub(super) fn take(&mut self, change: Change) -> Option<Change> {
        match self.projects.get_mut(change.project()) {
            Some(waiting) => {
                waiting.changes.push(change);
                None
            }
            None => Some(change),
        }
    }

    /// When the next project is to be tried.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.projects.values().filter_map(|waiting| waiting.again_at).min()
    }

    /// The changes of a project that is to be tried now.
    pub(super) fn due(&mut self) -> Option<Vec<Change>> {
        let now = Instant::now();
        let is_due = |waiting: &&mut Waiting| waiting.again_at.is_some_and(|at| self.is_closed || at <= now);
        let waiting = self.projects.values_mut().filter(is_due).min_by_key(|waiting| waiting.again_at)?;
        waiting.again_at = None;
        Some(std::mem::take(&mut waiting.changes))
    }

    /// Ends the wait of a project that was tried. Returns the changes that have arrived meanwhile.
    pub(super) fn release(&mut self, project: &ProjectId) -> Vec<Change> {
        match self.projects.get(project) {
            Some(Waiting { again_at: None, .. }) => {
                self.projects.remove(project).map_or_else(Vec::new, |waiting| waiting.changes)
            }
            // It is blocked again, or free.
            _ => Vec::new(),
        }
    }

    /// No further change arrives.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }
}
