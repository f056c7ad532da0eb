//! The one thread that changes what is stored: group after group, each durable before it counts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::codec::Codec;
use super::directory::DataDir;
use super::draft::Draft;
use super::engine::{Changes, Engine, WriteError};
use super::ledger::{Ledger, Mark};
use super::restore::{self, Open};
use crate::domain::{ProjectId, SubJob, Timestamp};
use crate::store::ended::Ended;
use crate::store::memory::{MemoryStore, Rules, Transaction};
use crate::store::{Dropped, Outcome, StoreError};

/// The most subtasks of a group, but for those of the report that comes last into it.
const GROUP: usize = 16 * 1024;

/// How often what has been acknowledged is flushed to the disk, and a disk that was full is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of the disk is left free, beside what the engine may need for what it has taken.
const SLACK: u64 = 4 * 1024 * 1024;

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

    /// Answers that it has not been made.
    fn refuse(self, error: StoreError) {
        // Whoever asked may have gone.
        match self {
            Self::Report { reply, .. } => drop(reply.send(Err(error))),
            Self::Expire { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// What has become of a change, and who is to be told once it is durable.
enum Done {
    Report(Reply<Outcome>, Result<Outcome, StoreError>),
    Expire(Reply<Dropped>, Result<Dropped, StoreError>),
}

impl Done {
    fn is_taken(&self) -> bool {
        match self {
            Self::Report(_, outcome) => outcome.is_ok(),
            Self::Expire(_, dropped) => dropped.is_ok(),
        }
    }

    /// Answers, if all that has been taken is durable.
    fn tell(self, durable: Result<(), StoreError>) {
        // Whoever asked may have gone.
        match self {
            Self::Report(reply, outcome) => drop(reply.send(durable.and(outcome))),
            Self::Expire(reply, dropped) => drop(reply.send(durable.and(dropped))),
        }
    }
}

/// What the committer is asked.
pub(super) enum Request {
    Work(Work),
    Stop,
}

/// Whether changes can be made.
enum Health {
    Good,
    /// As soon as the disk has room.
    Full,
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

    /// Makes changes, and tells those who asked.
    fn take(&mut self, group: Vec<Work>) {
        let memory = self.memory.clone();
        let begun =
            self.recover().and_then(|()| Ok((memory.begin()?, self.engine.as_ref().ok_or(StoreError::NotStored)?)));
        let (mut transaction, engine) = match begun {
            Ok(begun) => begun,
            Err(error) => return group.into_iter().for_each(|work| work.refuse(error)),
        };
        let mark = Mark { commit: self.mark.commit + 1, ..self.mark };
        let mut draft = Draft::new(engine, &self.codec, mark);
        let mut done = Vec::with_capacity(group.len());
        for work in group {
            let latest = self.attempt(work, &mut transaction, &mut draft);
            draft.settle(latest.is_taken());
            done.push(latest);
        }
        let (changes, mark) = draft.into_changes();
        // What changes nothing has been durable before.
        let written = if changes.is_empty() { Ok(()) } else { self.write(changes, mark) };
        let durable = written.and_then(|()| transaction.commit());
        done.into_iter().for_each(|done| done.tell(durable));
    }

    /// Takes a change into a transaction, whole or not at all, and what of it is to be written.
    fn attempt(&self, work: Work, transaction: &mut Transaction<'_>, draft: &mut Draft<'_>) -> Done {
        match work {
            Work::Report { project, batch, only_new, reply } => {
                let settled = if only_new { self.settled } else { 0 };
                let rules = Rules { now: Ended::at(Timestamp::now()), settled };
                Done::Report(reply, transaction.report(&project, batch, rules, draft))
            }
            Work::Expire { moment, numbers, reply } => Done::Expire(reply, transaction.expire(moment, numbers, draft)),
        }
    }

    /// Writes changes; if it fails, what may be done from then on follows from how.
    fn write(&mut self, changes: Changes, mark: Mark) -> Result<(), StoreError> {
        let engine = self.engine.as_ref().ok_or(StoreError::NotStored)?;
        match (has_room(&self.dir, engine, &changes), &self.health) {
            (true, Health::Full) => {
                tracing::info!("the disk has room: reports are stored again");
                self.health = Health::Good;
            }
            (true, _) => {}
            (false, Health::Full) => return Err(StoreError::NotStored),
            (false, _) => {
                tracing::error!("the disk is full: no report is stored until it has room");
                self.health = Health::Full;
                return Err(StoreError::NotStored);
            }
        }
        let written = engine.write(changes, mark);
        let noted = written.and_then(|()| self.ledger.write(mark).map_err(|error| WriteError::Unknown(error.into())));
        match noted {
            Ok(()) => {
                self.mark = mark;
                self.unflushed.get_or_insert_with(Instant::now);
                return Ok(());
            }
            Err(error @ WriteError::NotWritten(_)) => {
                tracing::error!(%error, "a report could not be stored: none is until the disk takes them again");
                self.health = Health::Failed(Instant::now());
            }
            Err(error @ WriteError::Unknown(_)) => {
                tracing::error!(%error, "a report could not be stored: none is until a restart");
                // It has nothing to do any more, and what has failed in it may keep a thread busy.
                self.engine = None;
                self.health = Health::Sealed;
            }
        }
        Err(StoreError::NotStored)
    }

    /// Opens the engine anew after a write has failed, as nothing else lets it go on; not too often.
    fn recover(&mut self) -> Result<(), StoreError> {
        match self.health {
            Health::Good | Health::Full => return Ok(()),
            Health::Failed(when) if when.elapsed() >= PAUSE => {}
            Health::Failed(_) | Health::Sealed => return Err(StoreError::NotStored),
        }
        self.health = Health::Failed(Instant::now());
        self.engine = None;
        match restore::reopen(&self.dir, self.mark) {
            Ok(Some(engine)) => {
                tracing::info!("reports are stored again");
                self.engine = Some(engine);
                self.health = Health::Good;
                Ok(())
            }
            Ok(None) => {
                tracing::error!(
                    "what is on the disk is not what was acknowledged: no report is stored until a restart"
                );
                self.health = Health::Sealed;
                Err(StoreError::NotStored)
            }
            Err(error) => {
                tracing::warn!(%error, "reports still cannot be stored");
                Err(StoreError::NotStored)
            }
        }
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

/// Whether the disk has room for changes and for all that the engine has yet to write of earlier ones. Without it reports are
/// refused before the engine finds out by itself, which it does not survive.
fn has_room(dir: &DataDir, engine: &Engine, changes: &Changes) -> bool {
    let lengths = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
    // Once in the journal, once in a file, and something for their frames.
    let needed = 3 * lengths.sum::<usize>() as u64 + engine.backlog() + SLACK;
    match rustix::fs::statvfs(dir.path()) {
        // Some file systems do not tell.
        Ok(disk) if disk.f_blocks > 0 => disk.f_bavail.saturating_mul(disk.f_frsize) >= needed,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::domain::{CountFilter, Details, JobId, JobTypes, Status, SubJobId, Version};

    fn committer(path: &Path) -> Committer {
        let (codec, memory) = (Codec::new(JobTypes::default()), Arc::new(MemoryStore::new(JobTypes::default().len())));
        let dir = DataDir::claim(path).unwrap();
        let open = restore::restore(dir, &codec, &memory, |_, _| (), &AtomicBool::new(false)).unwrap();
        Committer::new(open, codec, memory, sync_channel(1).1).unwrap()
    }

    fn project() -> ProjectId {
        ProjectId::parse("p").unwrap()
    }

    fn sub_job(id: &str) -> SubJob {
        SubJob {
            id: SubJobId::parse(id).unwrap(),
            job_id: JobId::parse(&format!("job-of-{id}")).unwrap(),
            job_type: JobTypes::default().iter().next().unwrap(),
            status: Status::Running,
            version: Version::try_from(1).unwrap(),
            details: Some(Box::new(Details { error_code: Some("x".into()), ..Details::default() })),
        }
    }

    /// Reports taken as one group; what each is told.
    fn take(committer: &mut Committer, reports: &[&[&str]]) -> Vec<Result<Outcome, StoreError>> {
        let (works, answers): (Vec<_>, Vec<_>) = reports
            .iter()
            .map(|ids| {
                let (reply, answer) = oneshot::channel();
                let batch = ids.iter().map(|id| sub_job(id)).collect();
                (Work::Report { project: project(), batch, only_new: false, reply }, answer)
            })
            .unzip();
        committer.take(works);
        answers.into_iter().map(|answer| answer.blocking_recv().unwrap()).collect()
    }

    fn count(committer: &Committer) -> u64 {
        committer.memory.count(&project(), &CountFilter::default()).unwrap()
    }

    fn outcome(created: u64, unchanged: u64) -> Result<Outcome, StoreError> {
        Ok(Outcome { created, unchanged, ..Outcome::default() })
    }

    #[test]
    fn a_report_that_cannot_be_taken_takes_none_of_its_group_along() {
        let dir = tempfile::tempdir().unwrap();
        let mut committer = committer(dir.path());
        assert_eq!(take(&mut committer, &[&["a", "b"]]), [outcome(2, 0)]);
        // What is stored of one subtask cannot be read for a while.
        let mut key = Vec::new();
        super::super::codec::key(
            crate::store::journal::Key { project: &project(), id: &SubJobId::parse("b").unwrap(), number: 1 },
            &mut key,
        );
        let put = |committer: &Committer, value| {
            let engine = committer.engine.as_ref().unwrap();
            let before = engine.get(&key).unwrap().map(|value| value.to_vec());
            engine.write([(key.clone(), value)].into(), committer.mark).unwrap();
            before
        };
        let good = put(&committer, None);
        let reports: [&[_]; 5] = [&["c", "a"], &["d", "b"], &["e"], &["b"], &["d", "c"]];
        let told = take(&mut committer, &reports);
        let refused = Err(StoreError::NotStored);
        assert_eq!(told, [outcome(1, 1), refused, outcome(1, 0), refused, outcome(1, 1)]);
        assert_eq!(count(&committer), 5);
        put(&committer, good);
        drop(committer);
        let committer = self::committer(dir.path());
        assert_eq!((count(&committer), committer.mark.sub_jobs, committer.mark.commit), (5, 5, 2));
    }

    #[test]
    fn what_broke_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut committer = committer(dir.path());
        let memory = committer.memory.clone();
        let broken = std::thread::spawn(move || {
            let _transaction = memory.begin().unwrap();
            panic!("a test's own");
        });
        broken.join().unwrap_err();
        assert_eq!(take(&mut committer, &[&["a"], &["b"]]), [Err(StoreError::Broken); 2]);
    }
}
