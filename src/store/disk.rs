//! Subtasks on a disk: everything that memory holds of them, and their details.
//!
//! One thread, the committer, makes all changes: it takes the reports that are waiting, tries them in memory, writes what
//! they change and flushes it with one fsync, and only then lets memory count it and the callers know.

mod codec;
mod committer;
mod damage;
mod directory;
mod draft;
mod engine;
mod journals;
mod ledger;
mod restore;
mod torn;
mod writer;

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use self::codec::Codec;
use self::committer::{Committer, Request, Work};
pub use self::directory::DataDir;
pub use self::engine::ENGINE_DESCRIPTORS;
use super::ended::Ended;
use super::memory::MemoryStore;
use super::{Dropped, Outcome, StoreError};
use crate::domain::{JobTypes, ProjectId, SubJob};

/// How many reports may wait for the committer; one more waits to be let in.
const WAITING: usize = 1024;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not what a data directory can be, or is in a format that this program does not know.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong, as the rest of a sentence.
        reason: String,
    },
    /// Another process has it.
    #[error("{}: another process is using it", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// What was acknowledged is not all there, or not as it was.
    #[error("{}: damaged: {reason}", file.display())]
    Damaged {
        /// Which file, as far as can be told.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system refuses.
    #[error("{}: {cause}", path.display())]
    Io {
        /// What it refuses.
        path: PathBuf,
        /// What it says.
        cause: io::Error,
    },
    /// The system gives no thread to work on it.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Memory does not take them.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody waits for it any more.
    #[error("cancelled")]
    Cancelled,
}

/// Shows every subtask in a data directory, of one project after the other. `progress` is told how many have been shown of
/// how many. Fails in the end if what was shown is not what was stored.
pub fn export<E: From<OpenError>>(
    dir: DataDir,
    job_types: &JobTypes,
    each: impl FnMut(&ProjectId, SubJob) -> Result<(), E>,
    progress: impl FnMut(u64, u64),
) -> Result<(), E> {
    restore::export(dir, &Codec::new(job_types.clone()), each, progress)
}

/// Where a store keeps its subtasks when it is not in memory only.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    unwritten_before: Option<Duration>,
    /// Until it is opened.
    dir: Mutex<Option<DataDir>>,
    codec: Codec,
    queue: OnceLock<SyncSender<Request>>,
    /// Whether changes can be made, as the committer knows.
    takes_changes: OnceLock<Arc<AtomicBool>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl Disk {
    pub(super) fn new(dir: DataDir, job_types: JobTypes) -> Self {
        let (path, codec) = (dir.path().into(), Codec::new(job_types));
        let unwritten_before = dir.unwritten_before();
        Self {
            path,
            unwritten_before,
            dir: Mutex::new(Some(dir)),
            codec,
            queue: OnceLock::new(),
            takes_changes: OnceLock::new(),
            committer: Mutex::default(),
        }
    }

    /// How long before this process took the directory an earlier one last wrote to it, by the wall clock.
    pub(super) fn unwritten_before(&self) -> Option<Duration> {
        self.unwritten_before
    }

    /// Takes what is on the disk into memory, and from then on changes. `progress` is told how many subtasks have been taken
    /// of how many.
    pub(super) fn open(
        &self,
        memory: Arc<MemoryStore>,
        progress: impl FnMut(u64, u64),
        cancelled: &AtomicBool,
    ) -> Result<(), OpenError> {
        let Some(dir) = held(&self.dir).take() else { return Err(StoreError::NotStored.into()) };
        let restored = restore::restore(dir, &self.codec, &memory, progress, cancelled)?;
        let (sender, queue) = sync_channel(WAITING);
        let committer = Committer::new(restored, self.codec.clone(), memory, queue)?;
        self.takes_changes.set(committer.takes_changes()).map_err(|_| StoreError::NotStored)?;
        let thread = std::thread::Builder::new().name("committer".into()).spawn(|| committer.run());
        let thread = thread.map_err(OpenError::Thread)?;
        // In this order, so that whoever closes it finds no committer that cannot be told to stop.
        self.queue.set(sender).map_err(|_| StoreError::NotStored)?;
        *held(&self.committer) = Some(thread);
        Ok(())
    }

    /// From now on, until [`Disk::end_load`], all that is stored is dropped if the process ends. For a directory in which there
    /// is nothing.
    pub(super) fn begin_load(&self) -> Result<(), OpenError> {
        directory::begin_loading(&self.path).map_err(|cause| OpenError::Io { path: self.path.clone(), cause })
    }

    /// All that has been stored stays.
    pub(super) fn end_load(&self) -> Result<(), OpenError> {
        directory::end_loading(&self.path).map_err(|cause| OpenError::Io { path: self.path.clone(), cause })
    }

    /// Hands over a report; of one of a file, what was there when the directory was opened is left as it is.
    pub(super) fn report(&self, project: ProjectId, batch: Vec<SubJob>, only_new: bool) -> Answer<Outcome> {
        self.submit(|reply| Work::Report { project, batch, only_new, reply })
    }

    /// Hands over that subtasks which ended before that moment are to be dropped, among the records with those numbers.
    pub(super) fn expire(&self, moment: Ended, numbers: Range<u32>) -> Answer<Dropped> {
        self.submit(|reply| Work::Expire { moment, numbers, reply })
    }

    /// Waits for room among what waits for the committer.
    fn submit<A>(&self, work: impl FnOnce(oneshot::Sender<Result<A, StoreError>>) -> Work) -> Answer<A> {
        let (reply, answer) = oneshot::channel();
        match self.queue.get().map(|queue| queue.send(Request::Work(work(reply)))) {
            Some(Ok(())) => Answer::Coming(answer),
            Some(Err(_)) if self.has_crashed() => Answer::There(Err(StoreError::Broken)),
            // It has not been opened yet, or has been closed.
            _ => Answer::There(Err(StoreError::NotStored)),
        }
    }

    /// Whether changes can be made, as far as the last one tells.
    pub(super) fn takes_changes(&self) -> bool {
        self.takes_changes.get().is_some_and(|takes| takes.load(Ordering::Relaxed)) && !self.has_crashed()
    }

    /// Whether the committer has ended without having been told to.
    pub(super) fn has_crashed(&self) -> bool {
        held(&self.committer).as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Takes no more changes, finishes those under way, and lets go of the directory.
    pub(super) fn close(&self) {
        let committer = held(&self.committer).take();
        if let Some(queue) = self.queue.get() {
            // It may have ended by itself.
            let _ = queue.send(Request::Stop);
        }
        if committer.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer has crashed");
        }
        drop(held(&self.dir).take());
    }
}

/// What a mutex guards; nothing is ever left half done in these.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

/// What has become, or will become, of something submitted. Of what is never answered, a crash has come between.
#[derive(Debug)]
pub(super) enum Answer<A> {
    There(Result<A, StoreError>),
    Coming(oneshot::Receiver<Result<A, StoreError>>),
}

impl<A> Answer<A> {
    /// Waits on a thread that may be held up.
    pub(super) fn wait(self) -> Result<A, StoreError> {
        match self {
            Self::There(answer) => answer,
            Self::Coming(answer) => answer.blocking_recv().unwrap_or(Err(StoreError::Broken)),
        }
    }

    /// Waits without a thread.
    pub(super) async fn get(self) -> Result<A, StoreError> {
        match self {
            Self::There(answer) => answer,
            Self::Coming(answer) => answer.await.unwrap_or(Err(StoreError::Broken)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committer_that_has_crashed_is_no_disk_that_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(DataDir::claim(dir.path()).unwrap(), JobTypes::default());
        let report = || disk.report(ProjectId::parse("p").unwrap(), Vec::new(), false);
        let (sender, queue) = sync_channel(1);
        disk.queue.set(sender).unwrap();
        let under_way = report();
        let crash = std::thread::spawn(|| {
            let _queue = queue;
            panic!("a test's own");
        });
        assert_eq!(under_way.wait(), Err(StoreError::Broken));
        while !crash.is_finished() {
            std::thread::yield_now();
        }
        *held(&disk.committer) = Some(crash);
        assert_eq!(report().wait(), Err(StoreError::Broken));
        disk.close();
        assert_eq!(report().wait(), Err(StoreError::NotStored));
    }
}
