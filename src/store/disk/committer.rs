//! The one thread that changes what is stored: group after group, each durable before it counts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::codec::Codec;
use super::draft::Draft;
use super::restore::Open;
use super::writer::Writer;
use crate::domain::{ProjectId, SubJob, Timestamp};
use crate::store::ended::Ended;
use crate::store::memory::{MemoryStore, Rules, Transaction};
use crate::store::{Dropped, Outcome, StoreError};

/// The most subtasks of a group, but for those of the report that comes last into it.
const GROUP: usize = 16 * 1024;

/// How often what has been acknowledged is flushed to the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Where an answer goes.
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

/// Makes the changes that are asked for.
pub(super) struct Committer {
    writer: Writer,
    codec: Codec,
    memory: Arc<MemoryStore>,
    queue: Receiver<Request>,
    /// Records with numbers below this were there when the directory was opened.
    settled: u32,
}

impl Committer {
    pub(super) fn new(
        open: Open,
        codec: Codec,
        memory: Arc<MemoryStore>,
        queue: Receiver<Request>,
    ) -> Result<Self, StoreError> {
        let settled = memory.end()?;
        Ok(Self { writer: Writer::new(open), codec, memory, queue, settled })
    }

    /// A flag that says whether changes can be made, while this works.
    pub(super) fn takes_changes(&self) -> Arc<AtomicBool> {
        self.writer.takes_changes()
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
                self.commit(group);
            }
            self.writer.tidy_up(PAUSE);
        }
        // That nobody is told is only to mean that this has crashed.
        for request in self.queue.try_iter() {
            if let Request::Work(work) = request {
                work.refuse(StoreError::NotStored);
            }
        }
        self.writer.tidy_up(Duration::ZERO);
    }

    /// Makes changes durable, then lets them count, and tells those who asked.
    fn commit(&mut self, group: Vec<Work>) {
        let memory = self.memory.clone();
        let begun = self.writer.ready().and_then(|ready| Ok((memory.begin()?, ready)));
        let (mut transaction, (engine, mark)) = match begun {
            Ok(begun) => begun,
            Err(error) => return group.into_iter().for_each(|work| work.refuse(error)),
        };
        let mut draft = Draft::new(engine, &self.codec, mark.next());
        let mut done = Vec::with_capacity(group.len());
        for work in group {
            let latest = attempt(work, self.settled, &mut transaction, &mut draft);
            draft.settle(latest.is_taken());
            done.push(latest);
        }
        let (changes, mark) = draft.into_changes();
        // What changes nothing has been durable before.
        let written = if changes.is_empty() { Ok(()) } else { self.writer.write(changes, mark) };
        let durable = written.and_then(|()| transaction.commit());
        done.into_iter().for_each(|done| done.tell(durable));
    }
}

/// Takes a change into a transaction, whole or not at all, and what of it is to be written into a draft.
fn attempt(work: Work, settled: u32, transaction: &mut Transaction<'_>, draft: &mut Draft<'_>) -> Done {
    match work {
        Work::Report { project, batch, only_new, reply } => {
            let settled = if only_new { settled } else { 0 };
            let rules = Rules { now: Ended::at(Timestamp::now()), settled };
            Done::Report(reply, transaction.report(&project, batch, rules, draft))
        }
        Work::Expire { moment, numbers, reply } => Done::Expire(reply, transaction.expire(moment, numbers, draft)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::sync_channel;

    use super::super::directory::DataDir;
    use super::super::restore;
    use super::*;
    use crate::domain::{CountFilter, Details, JobId, JobTypes, Status, SubJobId, Version};

    fn committer(path: &Path) -> Committer {
        with_queue(path, sync_channel(1).1)
    }

    fn with_queue(path: &Path, queue: Receiver<Request>) -> Committer {
        let (codec, memory) = (Codec::new(JobTypes::default()), Arc::new(MemoryStore::new(JobTypes::default().len())));
        let dir = DataDir::claim(path).unwrap();
        let open = restore::restore(dir, &codec, &memory, |_, _| (), &AtomicBool::new(false)).unwrap();
        Committer::new(open, codec, memory, queue).unwrap()
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

    /// A report, and where it will be answered.
    fn report(ids: &[&str]) -> (Work, oneshot::Receiver<Result<Outcome, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        let batch = ids.iter().map(|id| sub_job(id)).collect();
        (Work::Report { project: project(), batch, only_new: false, reply }, answer)
    }

    /// Reports taken as one group; what each is told.
    fn take(committer: &mut Committer, reports: &[&[&str]]) -> Vec<Result<Outcome, StoreError>> {
        let (works, answers): (Vec<_>, Vec<_>) = reports.iter().map(|ids| report(ids)).unzip();
        committer.commit(works);
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
        let put = |committer: &mut Committer, value| {
            let (engine, mark) = committer.writer.ready().unwrap();
            let before = engine.get(&key).unwrap().map(|value| value.to_vec());
            engine.write([(key.clone(), value)].into(), mark).unwrap();
            before
        };
        let good = put(&mut committer, None);
        let reports: [&[_]; 5] = [&["c", "a"], &["d", "b"], &["e"], &["b"], &["d", "c"]];
        let told = take(&mut committer, &reports);
        let refused = Err(StoreError::NotStored);
        assert_eq!(told, [outcome(1, 1), refused, outcome(1, 0), refused, outcome(1, 1)]);
        assert_eq!(count(&committer), 5);
        put(&mut committer, good);
        drop(committer);
        let mut committer = self::committer(dir.path());
        let mark = committer.writer.ready().unwrap().1;
        assert_eq!((count(&committer), mark.sub_jobs, mark.commit), (5, 5, 2));
    }

    #[test]
    fn what_waits_is_one_commit_and_what_comes_after_the_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, queue) = sync_channel(100);
        let mut answers = Vec::new();
        let mut send = |id: usize| {
            let (work, answer) = report(&[&id.to_string()]);
            sender.send(Request::Work(work)).unwrap();
            answers.push(answer);
        };
        (0..64).for_each(&mut send);
        sender.send(Request::Stop).unwrap();
        send(64);
        with_queue(dir.path(), queue).run();
        let mut told: Vec<_> = answers.into_iter().map(|answer| answer.blocking_recv().unwrap()).collect();
        assert_eq!(told.pop(), Some(Err(StoreError::NotStored)));
        assert_eq!(told, [outcome(1, 0); 64]);
        let mut committer = committer(dir.path());
        let mark = committer.writer.ready().unwrap().1;
        assert_eq!((count(&committer), mark.sub_jobs, mark.commit), (64, 64, 1));
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
