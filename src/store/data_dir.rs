//! Subtasks on a disk: a log of all changes, with snapshots that take the place of its beginning.
//!
//! One thread, the committer, makes all changes: it takes those that are waiting, plans them, appends what becomes of subtasks to
//! the log, with one flush for all, and only then applies it to memory and answers. No lock is held while the disk works.

mod codec;
mod committer;
mod details;
mod directory;
mod export;
mod open;
mod snapshots;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::codec::Codec;
use self::committer::{Committer, Request, Work};
use self::details::DetailsFiles;
pub use self::details::STORE_DESCRIPTORS;
pub use self::directory::DataDir;
pub use self::export::export;
use super::StoreError;
use super::log::LogError;
use super::memory::{Found, MemoryStore};
use super::pending::Plan;
use crate::domain::JobTypes;

/// How many changes may wait for the committer; one more waits to be let in.
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

impl OpenError {
    fn damaged(file: &Path, reason: &str) -> Self {
        Self::Damaged { file: file.into(), reason: reason.into() }
    }

    fn of_log(path: &Path, error: LogError) -> Self {
        match error {
            LogError::Corrupt { name, reason } => Self::damaged(&path.join(name), reason),
            LogError::Io { name, cause } => Self::Io { path: path.join(name), cause },
        }
    }
}

/// What of a store is on the disk.
#[derive(Debug)]
pub(super) struct DataDirStore {
    path: PathBuf,
    unwritten_before: Option<Duration>,
    /// Until it is opened.
    dir: Mutex<Option<DataDir>>,
    codec: Codec,
    opened: OnceLock<Opened>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Opened {
    queue: SyncSender<Request>,
    /// Whether changes are being refused, as the committer knows.
    is_refusing: Arc<AtomicBool>,
    files: Arc<DetailsFiles>,
}

impl DataDirStore {
    pub(super) fn new(dir: DataDir, job_types: JobTypes) -> Self {
        Self {
            path: dir.path().into(),
            unwritten_before: dir.unwritten_before(),
            dir: Mutex::new(Some(dir)),
            codec: Codec::new(job_types),
            opened: OnceLock::new(),
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
        let Some(dir) = lock_ignoring_poison(&self.dir).take() else { return Err(StoreError::NotStored.into()) };
        let open = open::open(dir, &self.codec, &memory, progress, cancelled)?;
        let (queue, requests) = sync_channel(WAITING);
        let files = open.files.clone();
        let committer = Committer::new(open, self.codec.clone(), memory, requests)?;
        let opened = Opened { queue, is_refusing: committer.is_refusing(), files };
        let thread = std::thread::Builder::new().name("committer".into()).spawn(|| committer.run());
        let thread = thread.map_err(OpenError::Thread)?;
        // In this order, so that whoever closes it finds no committer that cannot be told to stop.
        self.opened.set(opened).map_err(|_| StoreError::NotStored)?;
        *lock_ignoring_poison(&self.committer) = Some(thread);
        Ok(())
    }

    /// From now on, until [`DataDirStore::end_load`], all that is stored is dropped if the process ends. For a directory in which
    /// there is nothing.
    pub(super) fn begin_load(&self) -> Result<(), OpenError> {
        directory::begin_loading(&self.path).map_err(|cause| OpenError::Io { path: self.path.clone(), cause })
    }

    /// All that has been stored stays.
    pub(super) fn end_load(&self) -> Result<(), OpenError> {
        directory::end_loading(&self.path).map_err(|cause| OpenError::Io { path: self.path.clone(), cause })
    }

    /// Hands over a change of about so many subtasks; waits until there is room for it among those that wait.
    pub(super) fn submit(&self, size: usize, plan: Plan) {
        let (plan, error) = match self.opened.get() {
            // It has not been opened yet.
            None => (plan, StoreError::NotStored),
            Some(opened) => match opened.queue.send(Request::Work(Work { size, plan })) {
                Ok(()) => return,
                // It comes back, and with it who is to be told.
                Err(SendError(Request::Work(work))) if self.has_crashed() => (work.plan, StoreError::Broken),
                Err(SendError(Request::Work(work))) => (work.plan, StoreError::NotStored),
                Err(_) => return,
            },
        };
        plan(Err(error))(Ok(()));
    }

    /// Whether changes can be made, as far as the last one tells.
    pub(super) fn takes_changes(&self) -> bool {
        let is_refusing = |opened: &Opened| opened.is_refusing.load(Ordering::Relaxed);
        self.opened.get().is_some_and(|opened| !is_refusing(opened)) && !self.has_crashed()
    }

    /// Makes a snapshot now; whether it has been made.
    pub(super) fn snapshot(&self) -> bool {
        let (done, made) = sync_channel(1);
        let asked = self.opened.get().is_some_and(|opened| opened.queue.send(Request::Snapshot(done)).is_ok());
        asked && made.recv().unwrap_or(false)
    }

    /// Reads the details of subtasks, on a thread that may be held up. Whether they were all where they were said to be; if not,
    /// they have been moved meanwhile.
    pub(super) async fn read_details(&self, found: &mut [Found]) -> Result<bool, StoreError> {
        let locations: Vec<_> = found.iter().map(|found| found.details).collect();
        let Some(opened) = self.opened.get().filter(|_| locations.iter().any(|location| *location > 0)) else {
            return Ok(true);
        };
        let files = opened.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read_all(&locations));
        let Some(all) = read.await.map_err(|_| StoreError::Broken)?? else { return Ok(false) };
        for (found, details) in found.iter_mut().zip(all) {
            found.sub_job.details = details;
        }
        Ok(true)
    }

    /// Whether the committer has ended without having been told to.
    pub(super) fn has_crashed(&self) -> bool {
        lock_ignoring_poison(&self.committer).as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Takes no more changes, finishes those under way, and lets go of the directory.
    pub(super) fn close(&self) {
        let committer = lock_ignoring_poison(&self.committer).take();
        if let Some(opened) = self.opened.get() {
            // It may have ended by itself.
            let _ = opened.queue.send(Request::Stop);
        }
        if committer.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer has crashed");
        }
        drop(lock_ignoring_poison(&self.dir).take());
    }
}

/// What a mutex guards; nothing is ever left half done in these.
fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for DataDirStore {
    fn drop(&mut self) {
        self.close();
    }
}
