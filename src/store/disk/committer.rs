//! The one thread that changes what is stored: group after group, each durable before it counts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::codec::{self, Codec, fingerprint};
use super::directory::DataDir;
use super::engine::{Changes, Engine, EngineError, WriteError};
use super::journals;
use super::ledger::Ledger;
use super::ledger::Mark;
use super::restore::Open;
use crate::domain::{Details, ProjectId, SubJob, Timestamp};
use crate::store::ended::Ended;
use crate::store::journal::{Journal, Key, State};
use crate::store::memory::{MemoryStore, Rules, Transaction};
use crate::store::{Dropped, Outcome, StoreError};

/// The most subtasks of a group, but for those of the report that comes last into it.
const GROUP: usize = 16 * 1024;

/// How often what has been acknowledged is flushed to the disk, and a disk that was full is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How much must be free on the disk for a failure in the background not to be one for want of room.
const ROOM: u64 = 256 * 1024 * 1024;

/// Where an answer goes; one that is dropped says that nothing has been stored.
type Reply<A> = oneshot::Sender<Result<A, StoreError>>;

/// A change to be made, and who is to be told.
pub(super) enum Work {
    Report {
        project: ProjectId,
        batch: Vec<SubJob>,
        /// Whether subtasks that were there when the directory was opened are left as they are.
        only_new: bool,
        reply: Reply<Outcome>,
    },
    Expire {
        moment: Ended,
        numbers: Range<u32>,
        reply: Reply<Dropped>,
    },
}

impl Work {
    fn size(&self) -> usize {
        match self {
            Self::Report { batch, .. } => batch.len().max(1),
            Self::Expire { .. } => GROUP,
        }
    }
}

/// A change that has been made, and who is to be told once it is durable.
enum Done {
    Report(Reply<Outcome>, Outcome),
    Expire(Reply<Dropped>, Dropped),
}

/// What the committer is asked.
pub(super) enum Request {
    Work(Work),
    Stop,
}

/// Whether changes can be made.
enum Health {
    Good,
    /// A write has failed, then; the engine is to be opened anew.
    Failed(Instant),
    /// What is on the disk is no longer known, and only a restart can tell.
    Sealed,
}

/// Makes the changes that are asked for.
pub(super) struct Committer {
    /// `None` while it cannot be opened.
    engine: Option<Engine>,
    ledger: Ledger,
    codec: Codec,
    memory: Arc<MemoryStore>,
    queue: Receiver<Request>,
    /// What is stored, as it has been acknowledged.
    mark: Mark,
    health: Health,
    /// Records with numbers below this were there when the directory was opened.
    settled: u32,
    /// Since when there has been something to flush in the ledger.
    unflushed: Option<Instant>,
    /// The last to go, so that nobody else gets hold of it before the engine has let go.
    dir: DataDir,
}

impl Committer {
    pub(super) fn new(
        open: Open,
        codec: Codec,
        memory: Arc<MemoryStore>,
        queue: Receiver<Request>,
    ) -> Result<Self, StoreError> {
        let settled = memory.end()?;
        let Open { dir, engine, ledger, mark } = open;
        let (engine, health) = (Some(engine), Health::Good);
        Ok(Self { engine, ledger, codec, memory, queue, mark, health, settled, unflushed: None, dir })
    }

    /// Works until it is told to stop, or nobody is left who could ask.
    pub(super) fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            let mut group = Vec::new();
            match self.queue.recv_timeout(PAUSE) {
                Ok(Request::Work(work)) => group.push(work),
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => goes_on = false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut size: usize = group.iter().map(Work::size).sum();
            while goes_on && size > 0 && size < GROUP {
                match self.queue.try_recv() {
                    Ok(Request::Work(work)) => {
                        size += work.size();
                        group.push(work);
                    }
                    Ok(Request::Stop) => goes_on = false,
                    Err(_) => break,
                }
            }
            if !group.is_empty() {
                self.take(group);
            }
            if !goes_on || self.unflushed.is_some_and(|since| since.elapsed() >= PAUSE) {
                self.flush_ledger();
            }
        }
    }

    /// Makes changes, and tells those who asked. Where that fails they learn it from their reply being dropped.
    fn take(&mut self, group: Vec<Work>) {
        for done in self.make(group).unwrap_or_default() {
            // Whoever asked may have gone.
            match done {
                Done::Report(reply, outcome) => drop(reply.send(Ok(outcome))),
                Done::Expire(reply, dropped) => drop(reply.send(Ok(dropped))),
            }
        }
    }

    fn make(&mut self, group: Vec<Work>) -> Result<Vec<Done>, StoreError> {
        self.recover()?;
        let memory = self.memory.clone();
        let mut transaction = memory.begin()?;
        let (done, changes, mark) = self.attempt(group, &mut transaction)?;
        // What changes nothing has been durable before.
        if !changes.is_empty() {
            self.write(changes, mark)?;
        }
        transaction.commit()?;
        Ok(done)
    }

    /// Makes changes in a transaction; what of them is to be written.
    fn attempt(
        &self,
        group: Vec<Work>,
        transaction: &mut Transaction<'_>,
    ) -> Result<(Vec<Done>, Changes, Mark), StoreError> {
        let engine = self.engine.as_ref().ok_or(StoreError::NotStored)?;
        let mark = Mark { commit: self.mark.commit + 1, ..self.mark };
        let mut draft = Draft { engine, codec: &self.codec, changes: Changes::new(), mark };
        let now = Ended::at(Timestamp::now());
        let mut done = Vec::with_capacity(group.len());
        for work in group {
            done.push(match work {
                Work::Report { project, batch, only_new, reply } => {
                    let rules = Rules { now, settled: if only_new { self.settled } else { 0 } };
                    Done::Report(reply, transaction.report(&project, batch, rules, &mut draft)?)
                }
                Work::Expire { moment, numbers, reply } => {
                    Done::Expire(reply, transaction.expire(moment, numbers, &mut draft)?)
                }
            });
        }
        Ok((done, draft.changes, draft.mark))
    }

    /// Writes changes; if it fails, what may be done from then on follows from how.
    fn write(&mut self, changes: Changes, mark: Mark) -> Result<(), StoreError> {
        let engine = self.engine.as_ref().ok_or(StoreError::NotStored)?;
        let (health, error) = match engine.write(changes, mark) {
            Ok(()) => match self.ledger.write(mark) {
                Ok(()) => {
                    self.mark = mark;
                    self.unflushed.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => (Health::Sealed, error.to_string()),
            },
            Err(error @ WriteError::NotWritten(EngineError::Io(_))) => {
                (Health::Failed(Instant::now()), error.to_string())
            }
            // In the background a write has failed, or a flush.
            Err(error @ WriteError::NotWritten(EngineError::Refusing)) if !self.has_room() => {
                (Health::Failed(Instant::now()), error.to_string())
            }
            Err(error) => (Health::Sealed, error.to_string()),
        };
        match health {
            Health::Sealed => tracing::error!(error, "a report could not be stored: none is taken until a restart"),
            _ => tracing::error!(error, "a report could not be stored: none is taken until the disk has room again"),
        }
        if matches!(health, Health::Sealed) {
            // It has nothing to do any more, and what has failed in it may keep a thread busy.
            self.engine = None;
        }
        self.health = health;
        Err(StoreError::NotStored)
    }

    /// Opens the engine anew after a write has failed, as nothing else lets it go on; not too often.
    fn recover(&mut self) -> Result<(), StoreError> {
        match self.health {
            Health::Good => return Ok(()),
            Health::Failed(when) if when.elapsed() >= PAUSE => {}
            Health::Failed(_) | Health::Sealed => return Err(StoreError::NotStored),
        }
        self.health = Health::Failed(Instant::now());
        self.engine = None;
        let opened = journals::cut_after(&self.dir.engine(), self.mark.commit)
            .map_err(EngineError::from)
            .and_then(|()| Engine::open(&self.dir.engine()))
            .and_then(|engine| Ok((engine.mark()?.unwrap_or_default(), engine)));
        match opened {
            Ok((mark, engine)) if mark == self.mark => {
                tracing::info!("reports are stored again");
                self.engine = Some(engine);
                self.health = Health::Good;
                Ok(())
            }
            Ok(_) => {
                tracing::error!("what could not be stored is there after all: no report is taken until a restart");
                self.health = Health::Sealed;
                Err(StoreError::NotStored)
            }
            Err(error) => {
                tracing::warn!(%error, "reports still cannot be stored");
                Err(StoreError::NotStored)
            }
        }
    }

    /// Whether the disk has so much room that no failure can come from there being too little.
    fn has_room(&self) -> bool {
        rustix::fs::statvfs(self.dir.path()).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= ROOM)
    }

    /// Until now the ledger has survived this process alone. That it may be behind after a power cut takes nothing from what
    /// the engine has flushed; it only tells less of it.
    fn flush_ledger(&mut self) {
        if self.unflushed.take().is_some()
            && let Err(error) = self.ledger.sync()
        {
            tracing::error!(%error, "what has been acknowledged could not be noted: no report is taken until a restart");
            self.health = Health::Sealed;
        }
    }
}

/// What a group changes on the disk.
struct Draft<'a> {
    engine: &'a Engine,
    codec: &'a Codec,
    changes: Changes,
    mark: Mark,
}

impl Draft<'_> {
    fn take(&mut self, encoded: &[u8], state: State<'_>) {
        let mut head = Vec::with_capacity(64);
        self.codec.head(state, &mut head);
        self.mark.take(fingerprint(encoded, &head));
    }
}

impl Journal for Draft<'_> {
    fn has_details(&mut self, key: Key<'_>, details: &Details) -> Result<bool, StoreError> {
        let mut encoded = Vec::with_capacity(64);
        codec::key(key, &mut encoded);
        let mut wanted = Vec::new();
        codec::details(details, &mut wanted);
        let is_wanted = |value: &[u8]| self.codec.read(value).map(|stored| stored.details == wanted);
        let answer = match self.changes.get(&encoded) {
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
            self.take(&encoded, old);
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
        self.take(&encoded, old);
        self.changes.insert(encoded, None);
    }
}
