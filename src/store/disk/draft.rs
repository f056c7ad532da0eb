//! What a group of changes writes to the disk, gathered as memory takes them.

use super::codec::{self, Codec, fingerprint};
use super::engine::{Changes, Engine};
use super::ledger::Mark;
use crate::domain::Details;
use crate::store::StoreError;
use crate::store::journal::{Journal, Key, State};

/// The changes of a group, and of the one that is being taken, which may yet turn out not to be possible.
pub(super) struct Draft<'a> {
    engine: &'a Engine,
    codec: &'a Codec,
    /// Of those that have been taken, with the mark that goes with them.
    group: (Changes, Mark),
    /// With those of the one that is being taken.
    changes: Changes,
    mark: Mark,
}

impl<'a> Draft<'a> {
    /// Nothing yet; the mark is to be that of the next commit, with what is stored before it.
    pub(super) fn new(engine: &'a Engine, codec: &'a Codec, mark: Mark) -> Self {
        Self { engine, codec, group: (Changes::new(), mark), changes: Changes::new(), mark }
    }

    /// Settles what the latest one has changed: it becomes the group's, or is forgotten.
    pub(super) fn settle(&mut self, is_taken: bool) {
        let changes = std::mem::take(&mut self.changes);
        if !is_taken {
            self.mark = self.group.1;
        } else if self.group.0.is_empty() {
            self.group = (changes, self.mark);
        } else {
            self.group.0.extend(changes);
            self.group.1 = self.mark;
        }
    }

    /// What is to be written.
    pub(super) fn into_changes(self) -> (Changes, Mark) {
        self.group
    }

    fn remove(&mut self, encoded: &[u8], state: State<'_>) {
        let mut head = Vec::with_capacity(64);
        self.codec.head(state, &mut head);
        self.mark.remove(fingerprint(encoded, &head));
    }
}

impl Journal for Draft<'_> {
    fn has_details(&mut self, key: Key<'_>, details: &Details) -> Result<bool, StoreError> {
        let mut encoded = Vec::with_capacity(64);
        codec::key(key, &mut encoded);
        let mut wanted = Vec::new();
        codec::details(details, &mut wanted);
        let is_wanted = |value: &[u8]| self.codec.read(value).map(|stored| stored.details == wanted);
        let answer = match self.changes.get(&encoded).or_else(|| self.group.0.get(&encoded)) {
            Some(value) => is_wanted(value.as_deref().unwrap_or_default()),
            None => {
                let value = self.engine.get(&encoded).map_err(|error| {
                    tracing::error!(%error, "a subtask cannot be read");
                    StoreError::NotStored
                })?;
                is_wanted(&value.unwrap_or_default())
            }
        };
        answer.map_err(|error| {
            tracing::error!(%error, "a subtask is not as it was stored");
            StoreError::NotStored
        })
    }

    fn stored(&mut self, key: Key<'_>, old: Option<State<'_>>, new: State<'_>, details: Option<Box<Details>>) {
        let mut encoded = Vec::with_capacity(64);
        codec::key(key, &mut encoded);
        if let Some(old) = old {
            self.remove(&encoded, old);
        }
        let mut value = Vec::with_capacity(64);
        self.codec.head(new, &mut value);
        self.mark.add(fingerprint(&encoded, &value));
        if let Some(details) = details {
            codec::details(&details, &mut value);
        }
        self.changes.insert(encoded, Some(value));
    }

    fn dropped(&mut self, key: Key<'_>, old: State<'_>) {
        let mut encoded = Vec::with_capacity(64);
        codec::key(key, &mut encoded);
        self.remove(&encoded, old);
        self.changes.insert(encoded, None);
    }
}
