//! Turns at the connections for lists: projects share them fairly, and none holds all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::domain::ProjectId;

/// How many turns there are at once.
const TURNS: usize = 4;

/// How many of them one project has at most, so that slow lists of one leave others a connection.
const TURNS_OF_PROJECT: usize = 2;

/// The turns, and those that wait for one.
#[derive(Debug)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// How many turns a project has; no number is 0.
    held: HashMap<ProjectId, usize>,
    /// In the order of arrival. The number of requests bounds them.
    waiting: VecDeque<(ProjectId, oneshot::Sender<Turn>)>,
}

impl State {
    fn held(&self, project: &ProjectId) -> usize {
        self.held.get(project).copied().unwrap_or(0)
    }

    fn can_take(&self, project: &ProjectId) -> bool {
        self.free > 0 && self.held(project) < TURNS_OF_PROJECT
    }

    fn take(&mut self, project: &ProjectId) {
        self.free -= 1;
        *self.held.entry(project.clone()).or_default() += 1;
    }

    fn give_back(&mut self, project: &ProjectId) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(project) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(project);
            }
        }
    }

    /// The one that waits longest of the project that has the fewest turns.
    fn next(&mut self) -> Option<(ProjectId, oneshot::Sender<Turn>)> {
        self.waiting.retain(|(_, sender)| !sender.is_closed());
        let can_take = self.waiting.iter().enumerate().filter(|(_, (project, _))| self.can_take(project));
        let (at, _) = can_take.min_by_key(|(_, (project, _))| self.held(project))?;
        self.waiting.remove(at)
    }
}

impl Turns {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { free: TURNS, held: HashMap::new(), waiting: VecDeque::new() })))
    }

    /// Waits for a turn.
    pub(super) async fn acquire(self: &Arc<Self>, project: &ProjectId) -> Turn {
        loop {
            let wait = {
                let mut state = self.lock();
                if state.can_take(project) {
                    state.take(project);
                    return Turn { turns: self.clone(), project: project.clone() };
                }
                let (sender, receiver) = oneshot::channel();
                state.waiting.push_back((project.clone(), sender));
                receiver
            };
            if let Ok(turn) = wait.await {
                return turn;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn, which passes to the next one when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    project: ProjectId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.give_back(&self.project);
        let Some((project, sender)) = state.next() else { return };
        state.take(&project);
        drop(state);
        // If the receiver was dropped in this moment, the drop of the returned turn passes it on.
        drop(sender.send(Self { turns: self.turns.clone(), project }));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn project(id: &str) -> ProjectId {
        ProjectId::parse(id).unwrap()
    }

    #[test]
    fn a_project_leaves_turns_to_others() {
        let (turns, [a, b, c]) = (Turns::new(), ["a", "b", "c"].map(project));
        let take = |project| turns.acquire(project).now_or_never();
        let of_a: Vec<_> = [&a, &a].into_iter().filter_map(take).collect();
        assert_eq!(of_a.len(), TURNS_OF_PROJECT);
        assert!(take(&a).is_none());
        let of_b: Vec<_> = [&b, &b].into_iter().filter_map(take).collect();
        assert!(of_b.len() == 2 && take(&c).is_none());
        drop(of_b);
        assert!(take(&c).is_some());
        drop(of_a);
        let state = turns.lock();
        assert!(state.free == TURNS && state.held.is_empty());
    }

    #[test]
    fn a_turn_passes_to_the_project_that_has_the_fewest() {
        let (turns, [a, b, c]) = (Turns::new(), ["a", "b", "c"].map(project));
        let mut held: Vec<_> =
            [&a, &a, &b, &b].into_iter().map(|project| turns.acquire(project).now_or_never().unwrap()).collect();
        let mut waits: Vec<_> = [&a, &a, &b, &c].into_iter().map(|project| Box::pin(turns.acquire(project))).collect();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        // One that no longer waits gets none.
        drop(waits.remove(0));
        held.remove(0);
        let turn_of_c = waits[2].as_mut().now_or_never().unwrap();
        assert!(waits[..2].iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        drop(turn_of_c);
        assert!(waits[0].as_mut().now_or_never().is_some());
    }
}
