//! The one thread that changes what is stored: group after group, each durable before it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::codec::Codec;
use super::details::{DetailsFiles, FileNumber};
use super::directory::DataDir;
use super::open::Open;
use super::snapshots::Snapshots;
use crate::store::StoreError;
use crate::store::core::{Changes, Draft, Effect};
use crate::store::log::{AppendError, Appended, FileHandle, FrameBuffer, Log};
use crate::store::memory::MemoryStore;
use crate::store::pending::{Plan, Reply};

/// The most subtasks of a group, but for those of the report that comes last into it.
const GROUP: usize = 16 * 1024;

/// How often the commit mark is flushed to the disk.
const MARK_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A change to be made, of about so many subtasks.
pub(super) struct Work {
    pub(super) size: usize,
    pub(super) plan: Plan,
}

/// What the committer is asked.
pub(super) enum Request {
    Work(Work),
    /// To begin a snapshot; told when it is complete, or cannot be made.
    Snapshot(std::sync::mpsc::SyncSender<bool>),
    Stop,
}

/// Makes the changes that are asked for.
pub(super) struct Committer {
    log: Log,
    codec: Codec,
    memory: Arc<MemoryStore>,
    queue: Receiver<Request>,
    snapshots: Snapshots,
    files: Arc<DetailsFiles>,
    /// The file that was appended to last.
    segment: Option<(Arc<dyn FileHandle>, FileNumber)>,
    next_revision: u64,
    /// How many subtasks there are.
    sub_jobs: u64,
    /// Whether changes are being refused, which is said once, and for others to see.
    is_refusing: Arc<AtomicBool>,
    /// The last to go, so that nobody else gets hold of it before everything has been written.
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

    /// A flag that says whether changes are being refused, while this works.
    pub(super) fn is_refusing(&self) -> Arc<AtomicBool> {
        self.is_refusing.clone()
    }

    /// Works until it is told to stop, or nobody is left who could ask.
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
        // That nobody is told is only to mean that this has crashed.
        for request in self.queue.try_iter() {
            if let Request::Work(work) = request {
                (work.plan)(Err(StoreError::NotStored))(Ok(()));
            }
        }
        self.snapshots.stop();
        self.flush_mark(Duration::ZERO);
    }

    /// Waits for work and takes what there is; whether to go on after it.
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
            request = if size < GROUP { self.queue.try_recv().ok() } else { None };
        }
        true
    }

    /// Makes changes durable, then lets them count, and tells those who asked.
    fn commit(&mut self, group: Vec<Plan>) {
        let (replies, changes) = self.plan(group);
        // What changes nothing has been durable before.
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
        self.snapshots.note(frame.position() as u64, self.log.last(), self.next_revision);
        changes.into_iter().try_for_each(|changes| self.memory.apply(changes))
    }

    fn append(&mut self, frame: &mut FrameBuffer, sub_jobs: u64) -> Result<Appended, StoreError> {
        if !self.dir.is_in_place() {
            let path = self.dir.path().display();
            if !self.is_refusing.swap(true, Ordering::Relaxed) {
                tracing::error!(%path, "the data directory has been moved or replaced: no report is stored until a restart");
            }
            self.log.refuse();
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

    /// The number of the file of details that is appended to.
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
            tracing::error!(%error, "what has been acknowledged could not be noted: no report is stored until a restart");
        }
    }
}
