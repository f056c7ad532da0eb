//! Watches of projects: a change of this replica wakes at once, those of others are found by one poll for all watched projects.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::sleep;

use super::PostgresStore;
use super::upkeep;
use crate::domain::ProjectId;
use crate::store::watch::Watch;

/// The time between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a poll may take.
const POLL_LIMIT: Duration = Duration::from_secs(2);

impl PostgresStore {
    pub(in crate::store) fn watch(&self, project: &ProjectId) -> Watch {
        // The waiting tasks look themselves: their counts are read together, in one statement.
        self.watches.watch(project, None)
    }

    pub(in crate::store) fn end_watches(&self) {
        self.watches.end();
    }

    pub(in crate::store) async fn wake_watchers(&self) {
        tokio::join!(self.watches.run(|_, _| true), self.poll());
    }

    async fn poll(&self) {
        let mut known: HashMap<ProjectId, i64> = HashMap::new();
        loop {
            sleep(POLL_INTERVAL).await;
            let watched = self.watches.watched();
            known.retain(|project, _| watched.contains(project));
            if watched.is_empty() || self.health.is_down() {
                continue;
            }
            let read =
                self.polls.run(&self.target, POLL_LIMIT, async |client| upkeep::revisions(client, &watched).await);
            for (project, revision) in read.await.unwrap_or_default() {
                // A project that is new here may have changed before this poll.
                if known.insert(project.clone(), revision) != Some(revision) {
                    self.watches.mark(&project);
                }
            }
        }
    }
}
