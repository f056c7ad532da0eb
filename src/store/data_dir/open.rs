//! Recovers a data directory into memory: one thread reads and decodes it, another thread applies it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::codec::Codec;
use super::decode::CodecError;
use super::details::{DetailsFiles, FileNumber};
use super::directory::DataDir;
use super::error::OpenError;
use crate::store::core::Changes;
use crate::store::log::{Directory, LogError, Recovered, Source, SystemDirectory, Visitor, recover};
use crate::store::memory::MemoryStore;
use crate::store::types::StoreError;

/// The capacity of the queue between the two threads, in frames: decoded, one may take some 3 MB.
const QUEUE_CAPACITY: usize = 8;

/// A recovered data directory.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) dir: DataDir,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) recovered: Recovered,
    pub(super) files: Arc<DetailsFiles>,
    pub(super) next_revision: u64,
}

/// The last payload of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotEnd {
    /// The last frame of the log that it contains changes of.
    pub(super) last: u64,
    /// The number of its effects.
    pub(super) effects: u64,
    /// A revision that is higher than any so far.
    pub(super) next_revision: u64,
}

impl SnapshotEnd {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.last, self.effects, self.next_revision].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 24] = bytes.try_into().ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        Some(Self { last: number(0)?, effects: number(1)?, next_revision: number(2)? })
    }
}

/// Recovers a data directory into memory. Calls `progress` with the number of subtasks read so far and in all.
pub(super) fn open(
    dir: DataDir,
    codec: &Codec,
    memory: &MemoryStore,
    progress: impl FnMut(u64, u64),
    cancelled: &AtomicBool,
) -> Result<Open, OpenError> {
    let io = |cause| OpenError::Io { path: dir.path().into(), cause };
    if dir.discard_unfinished_load().map_err(io)? {
        tracing::warn!("loading was interrupted: the subtasks that it had loaded are deleted");
    }
    let path = dir.path().to_owned();
    let directory: Arc<dyn Directory> = Arc::new(SystemDirectory::new(&path));
    let files = Arc::new(DetailsFiles::new(directory.clone()));
    let (sender, queue) = sync_channel(QUEUE_CAPACITY);
    let (recovered, next_revision) = thread::scope(|scope| {
        let applier = thread::Builder::new().name("applier".into());
        applier.spawn_scoped(scope, || apply(memory, queue)).map_err(OpenError::Thread)?;
        let mut reader = Reader {
            path: &path,
            codec,
            memory,
            files: &files,
            file: None,
            queue: sender,
            expected: 0,
            effects: 0,
            next_revision: 1,
            progress,
            cancelled,
        };
        let recovered = recover(&directory, &mut reader).map_err(|stop| stop.explain(&path))?;
        Ok::<_, OpenError>((recovered, reader.next_revision))
    })?;
    if let Some(name) = &recovered.truncated {
        tracing::warn!(file = %path.join(name).display(), "a report that a crash cut short has been dropped");
    }
    memory.settle()?;
    Ok(Open { dir, directory, recovered, files, next_revision })
}

/// Why a recovery has stopped.
#[derive(Debug)]
enum Stop {
    Log(LogError),
    Open(OpenError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl<E: Into<OpenError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Open(error.into())
    }
}

impl Stop {
    fn explain(self, path: &Path) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Log(error) => OpenError::of_log(path, error),
        }
    }
}

/// A request to the thread that applies changes.
enum Request {
    Apply(Vec<Changes>),
    /// Report whether everything so far has been applied.
    Report(SyncSender<Result<(), StoreError>>),
}

fn apply(memory: &MemoryStore, queue: Receiver<Request>) {
    let mut applied = Ok(());
    for request in queue {
        match request {
            Request::Apply(changes) if applied.is_ok() => {
                applied = changes.into_iter().try_for_each(|changes| memory.apply_again(changes));
            }
            Request::Apply(_) => {}
            // The sender waits for it.
            Request::Report(reply) => {
                let _ = reply.send(applied);
            }
        }
    }
}

struct Reader<'a, P> {
    path: &'a Path,
    codec: &'a Codec,
    memory: &'a MemoryStore,
    files: &'a DetailsFiles,
    /// The file that is read.
    file: Option<(String, FileNumber)>,
    queue: SyncSender<Request>,
    expected: u64,
    effects: u64,
    next_revision: u64,
    progress: P,
    cancelled: &'a AtomicBool,
}

impl<P: FnMut(u64, u64)> Reader<'_, P> {
    fn decode(&mut self, source: Source<'_>, payload: &[u8]) -> Result<(), OpenError> {
        let file = match &self.file {
            Some((name, number)) if name == source.name => *number,
            _ => {
                let number = self.files.add(source.name, source.file.clone());
                self.file = Some((source.name.into(), number));
                number
            }
        };
        let (mut batch, mut effects, mut latest) = (Vec::new(), 0, 0);
        let decoded = self.codec.decode(
            payload,
            |at| file.location(source.at + at as u64),
            |changes| {
                effects += changes.effects.len() as u64;
                latest = changes.revision.max(latest);
                batch.push(changes);
            },
        );
        decoded.map_err(|error| match error {
            CodecError::JobType(_) => OpenError::Unusable { path: self.path.into(), reason: error.to_string() },
            CodecError::Record => OpenError::damaged(&self.path.join(source.name), &error.to_string()),
        })?;
        self.next_revision = self.next_revision.max(latest + 1);
        self.effects += effects;
        self.send(Request::Apply(batch))?;
        (self.progress)(self.effects.min(self.expected), self.expected);
        if self.cancelled.load(Ordering::Relaxed) { Err(OpenError::Cancelled) } else { Ok(()) }
    }

    fn send(&self, request: Request) -> Result<(), OpenError> {
        self.queue.send(request).map_err(|_| StoreError::Broken.into())
    }
}

impl<P: FnMut(u64, u64)> Visitor for Reader<'_, P> {
    type Error = Stop;

    fn expect(&mut self, sub_jobs: u64) {
        self.expected = sub_jobs;
    }

    fn end_snapshot(&mut self, end: &[u8]) -> Result<u64, Stop> {
        let name = self.file.as_ref().map_or("snapshot", |(name, _)| name);
        let damaged = || OpenError::damaged(&self.path.join(name), "the snapshot is not as it was written");
        let end = SnapshotEnd::from_bytes(end).filter(|end| end.effects == self.effects).ok_or_else(damaged)?;
        self.next_revision = self.next_revision.max(end.next_revision);
        Ok(end.last)
    }

    fn frame(&mut self, source: Source<'_>, payload: &[u8]) -> Result<(), Stop> {
        Ok(self.decode(source, payload)?)
    }

    fn end(&mut self) -> Result<u64, Stop> {
        let (reply, applied) = sync_channel(1);
        self.send(Request::Report(reply))?;
        applied.recv().map_err(|_| StoreError::Broken).flatten()?;
        let sub_jobs = self.memory.sub_jobs()?;
        (self.progress)(sub_jobs, sub_jobs);
        Ok(sub_jobs)
    }
}
