//! The committer: the one thread that makes changes, group after group. Each group is durable before it is applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::codec::Codec;
use super::details::{DetailsFiles, FileNumber};
use super::directory::DataDir;
use super::open::Open;
use super::snapshots::Snapshots;
use crate::store::core::{Changes, Draft, Effect};
use crate::store::log::{AppendError, Appended, FileHandle, FrameBuffer, Log};
use crate::store::memory::MemoryStore;
use crate::store::pending::{Plan, Reply, Work};
use crate::store::types::StoreError;

/// The number of subtasks after which no further report is added to a group.
const MAX_GROUP: usize = 16 * 1024;

/// How often the commit mark is flushed.
const MARK_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A request to the committer.
pub(super) enum Request {
    Work(Work),
    /// Begin a snapshot, and report whether it has been written.
    Snapshot(std::sync::mpsc::SyncSender<bool>),
    Stop,
}

/// Makes changes durable and applies them.
pub(super) struct Committer {
    log: Log,
    codec: Codec,
    memory: Arc<MemoryStore>,
    queue: Receiver<Request>,
    snapshots: Snapshots,
    files: Arc<DetailsFiles>,
    /// The segment that was appended to last.
    segment: Option<(Arc<dyn FileHandle>, FileNumber)>,
    next_revision: u64,
    /// The number of subtasks.
    sub_jobs: u64,
    /// Whether changes are refused; shared with the store.
    is_refusing: Arc<AtomicBool>,
    /// The last field, so that the lock is released after everything has been written.
    dir: DataDir,
}

impl Committer {
    pub(super) fn new(
        open: Open,
        codec: Codec,
        memory: Arc<MemoryStore>,
        queue: Receiver<Request>,
    ) -> Result<Self, StoreError> {
        let Open { dir, directory, recovered, files, next_revision } = open;
        let sub_jobs = memory.sub_jobs()?;
        let (of_files, of_memory) = (files.clone(), memory.clone());
        let snapshots = Snapshots::new(directory, of_files, of_memory, codec.clone(), &recovered, next_revision);
        let (log, segment, is_refusing) = (recovered.log, None, Arc::<AtomicBool>::default());
        Ok(Self { log, codec, memory, queue, snapshots, files, segment, next_revision, sub_jobs, is_refusing, dir })
    }

    /// The flag that tells whether changes are refused.
    pub(super) fn is_refusing(&self) -> Arc<AtomicBool> {
        self.is_refusing.clone()
    }

    /// Runs until it receives [`Request::Stop`], or the store has gone.
    pub(super) fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            let mut group = Vec::new();
            goes_on = self.collect(&mut group);
            if !group.is_empty() {
                self.commit(group);
            }
            self.snapshots.begin_if_due(&mut self.log, &self.dir);
            self.flush_mark(MARK_FLUSH_INTERVAL);
        }
        // Every change gets a reply, so that a missing reply means a crash.
        for request in self.queue.try_iter() {
            if let Request::Work(work) = request {
                (work.plan)(Err(StoreError::NotStored))(Ok(()));
            }
        }
        self.snapshots.stop();
        self.flush_mark(Duration::ZERO);
    }

    /// Waits for a request and collects what is enqueued. False if the committer must stop afterwards.
    fn collect(&mut self, group: &mut Vec<Plan>) -> bool {
        let mut size = 0;
        let mut request = match self.queue.recv_timeout(MARK_FLUSH_INTERVAL) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(taken) = request {
            match taken {
                Request::Work(work) => {
                    size += work.size.max(1);
                    group.push(work.plan);
                }
                Request::Snapshot(done) => self.snapshots.ask(done),
                Request::Stop => return false,
            }
            request = if size < MAX_GROUP { self.queue.try_recv().ok() } else { None };
        }
        true
    }

    /// Plans a group, appends it, applies it, and replies.
    fn commit(&mut self, group: Vec<Plan>) {
        let (replies, changes) = self.plan(group);
        // A group without effects has nothing to append.
        let durable = if changes.is_empty() { Ok(()) } else { self.write(changes) };
        replies.into_iter().for_each(|reply| reply(durable));
    }

    fn plan(&self, group: Vec<Plan>) -> (Vec<Reply>, Vec<Changes>) {
        match self.memory.view(Some(&*self.files)) {
            Ok(view) => {
                let mut draft = Draft::new(&view, self.next_revision);
                let replies = group.into_iter().map(|plan| plan(Ok(&mut draft))).collect();
                (replies, draft.into_changes())
            }
            Err(error) => (group.into_iter().map(|plan| plan(Err(error))).collect(), Vec::new()),
        }
    }

    fn write(&mut self, mut changes: Vec<Changes>) -> Result<(), StoreError> {
        let mut frame = FrameBuffer::default();
        let (mut details, base) = (Vec::new(), frame.payload().len());
        let mut sub_jobs = self.sub_jobs;
        for (number, of) in changes.iter().enumerate() {
            self.codec.encode(of, frame.payload(), |effect, at| details.push((number, effect, at - base)));
            for effect in &of.effects {
                match effect {
                    Effect::Put(put) => sub_jobs += u64::from(put.is_new),
                    Effect::Remove(_) => sub_jobs -= 1,
                }
            }
        }
        let appended = self.append(&mut frame, sub_jobs)?;
        let file = self.number_of(&appended.file);
        for (number, effect, at) in details {
            if let Effect::Put(put) = &mut changes[number].effects[effect] {
                put.details = file.location(appended.payload + at as u64);
            }
        }
        self.next_revision += changes.len() as u64;
        self.sub_jobs = sub_jobs;
        self.snapshots.note(frame.payload_len() as u64, self.log.last(), self.next_revision);
        changes.into_iter().try_for_each(|changes| self.memory.apply(changes))
    }

    fn append(&mut self, frame: &mut FrameBuffer, sub_jobs: u64) -> Result<Appended, StoreError> {
        if !self.dir.is_in_place() {
            let path = self.dir.path().display();
            if !self.is_refusing.swap(true, Ordering::Relaxed) {
                tracing::error!(%path, "the data directory has been moved or replaced: no report is stored until a restart");
            }
            self.log.seal();
            return Err(StoreError::NotStored);
        }
        let mut appended = self.log.append(frame, sub_jobs);
        if matches!(appended, Err(AppendError::DiskFull(_))) && self.snapshots.give_back_space() {
            appended = self.log.append(frame, sub_jobs);
        }
        match appended {
            Ok(appended) => {
                if self.is_refusing.swap(false, Ordering::Relaxed) {
                    tracing::info!("reports are stored again");
                }
                return Ok(appended);
            }
            Err(AppendError::SealedBefore) => {}
            Err(error @ AppendError::Sealed(_)) => {
                self.is_refusing.store(true, Ordering::Relaxed);
                tracing::error!(%error, "a report could not be stored: none is until a restart");
            }
            Err(error @ AppendError::DiskFull(_)) => {
                if !self.is_refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "a report could not be stored: none is until the disk has space");
                }
            }
            Err(error @ AppendError::NotWritten(_)) => {
                if !self.is_refusing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "a report could not be stored: none is until a write succeeds");
                }
            }
        }
        Err(StoreError::NotStored)
    }

    /// The file number of the segment that was appended to.
    fn number_of(&mut self, file: &Arc<dyn FileHandle>) -> FileNumber {
        match &self.segment {
            Some((known, number)) if Arc::ptr_eq(known, file) => *number,
            _ => {
                let number = self.files.add(self.log.segment_name().as_str(), file.clone());
                self.segment = Some((file.clone(), number));
                number
            }
        }
    }

    fn flush_mark(&mut self, after: Duration) {
        if let Err(error) = self.log.flush_mark_after(after) {
            self.is_refusing.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the commit mark could not be flushed: no report is stored until a restart");
        }
    }
}
