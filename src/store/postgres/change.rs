//! A change as data, since it is planned again if its transaction must be repeated.

use tokio::sync::oneshot;

use super::locked::Locked;
use crate::domain::{JobTypeSet, ProjectId, SubJob, SubJobId, Timestamp};
use crate::store::core::{Draft, NotDeletable, Rules};
use crate::store::end_time::EndTime;
use crate::store::types::{Outcome, StoreError};

/// The planned result of a change, and where it is sent.
#[derive(Debug)]
pub(in crate::store) struct Reply<A> {
    planned: Option<Result<A, StoreError>>,
    sender: oneshot::Sender<Result<A, StoreError>>,
}

impl<A> Reply<A> {
    /// A reply, and the receiver of the result.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<A, StoreError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { planned: None, sender }, receiver)
    }

    fn send(self, committed: Result<(), StoreError>) {
        let planned = self.planned.unwrap_or(Err(StoreError::Unavailable));
        // The receiver may have gone.
        let _ = self.sender.send(committed.and(planned));
    }
}

/// A change of what is stored.
#[derive(Debug)]
pub(in crate::store) enum Change {
    /// `only_new`: of a load file, which leaves stored subtasks unchanged.
    Report {
        project: ProjectId,
        batch: Vec<SubJob>,
        only_new: bool,
        reply: Reply<Outcome>,
    },
    Delete {
        project: ProjectId,
        ids: Vec<SubJobId>,
        job_types: JobTypeSet,
        reply: Reply<Result<u64, NotDeletable>>,
    },
    Reset {
        project: ProjectId,
        reply: Reply<u64>,
    },
    Expire {
        project: ProjectId,
        ids: Vec<SubJobId>,
        moment: EndTime,
        reply: Reply<u64>,
    },
}

impl Change {
    pub(super) fn project(&self) -> &ProjectId {
        match self {
            Self::Report { project, .. }
            | Self::Delete { project, .. }
            | Self::Reset { project, .. }
            | Self::Expire { project, .. } => project,
        }
    }

    /// The subtasks that it concerns; those of a reset are all of the project.
    pub(super) fn ids(&self) -> Box<dyn Iterator<Item = &SubJobId> + Send + '_> {
        match self {
            Self::Report { batch, .. } => Box::new(batch.iter().map(|sub_job| &sub_job.id)),
            Self::Delete { ids, .. } | Self::Expire { ids, .. } => Box::new(ids.iter()),
            Self::Reset { .. } => Box::new(std::iter::empty()),
        }
    }

    /// The number of subtasks that it concerns.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Report { batch, .. } => batch.len(),
            Self::Delete { ids, .. } | Self::Expire { ids, .. } => ids.len(),
            Self::Reset { .. } => 1,
        }
    }

    /// Whether the caller no longer waits for it.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Report { reply, .. } => reply.sender.is_closed(),
            Self::Delete { reply, .. } => reply.sender.is_closed(),
            Self::Reset { reply, .. } | Self::Expire { reply, .. } => reply.sender.is_closed(),
        }
    }

    /// Plans it after the changes before it.
    pub(super) fn plan(&mut self, draft: &mut Draft<'_, Locked>) {
        match self {
            Self::Report { project, batch, only_new, reply } => {
                let rules = Rules { now: EndTime::new(Timestamp::now()), only_new: *only_new };
                reply.planned = Some(draft.report(project, batch.clone(), rules));
            }
            Self::Delete { project, ids, job_types, reply } => {
                reply.planned = Some(Ok(draft.delete(project, ids, *job_types)));
            }
            Self::Reset { project, reply } => reply.planned = Some(Ok(draft.reset(project))),
            Self::Expire { project, ids, moment, reply } => {
                reply.planned = Some(Ok(draft.expire(project, ids.clone(), *moment)));
            }
        }
    }

    /// Sends the planned result, or the error of the commit.
    pub(super) fn finish(self, committed: Result<(), StoreError>) {
        match self {
            Self::Report { reply, .. } => reply.send(committed),
            Self::Delete { reply, .. } => reply.send(committed),
            Self::Reset { reply, .. } | Self::Expire { reply, .. } => reply.send(committed),
        }
    }
}
