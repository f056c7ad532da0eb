//! The data directory: a log of all changes, and snapshots that replace its oldest part.
//!
//! One thread, the committer, makes all changes. It takes a group of changes from the queue, plans them, appends their effects to the
//! log as one frame with one flush, applies them to memory, and replies. It holds no lock while it writes.

mod backup;
mod codec;
mod committer;
mod decode;
mod details;
mod details_codec;
mod directory;
mod error;
mod export;
mod lock;
mod open;
mod snapshots;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SendError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::backup::{Backup, backup};
use self::codec::Codec;
use self::committer::{Committer, Request};
pub(super) use self::decode::unknown_job_type;
use self::details::DetailsFiles;
pub use self::details::STORE_DESCRIPTORS;
pub(super) use self::details_codec::{decode_details, details_to_bytes};
pub use self::directory::DataDir;
pub use self::error::OpenError;
pub use self::export::export;
use self::lock::lock_ignoring_poison;
use super::memory::{ImageJobRow, MemoryStore, Row};
use super::pending::Work;
use super::types::StoreError;
use crate::domain::JobTypes;

/// The capacity of the committer's queue, in changes. A sender blocks while it is full.
const QUEUE_CAPACITY: usize = 1024;

/// The data directory of a store, and the thread that writes to it.
#[derive(Debug)]
pub(super) struct DataDirStore {
    path: PathBuf,
    unwritten_before: Option<Duration>,
    /// `None` after it has been opened.
    dir: Mutex<Option<DataDir>>,
    codec: Codec,
    opened: OnceLock<Opened>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Opened {
    queue: SyncSender<Request>,
    /// Whether the committer refuses changes.
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

    /// The time between the last write to the directory and its opening, by the wall clock.
    pub(super) fn unwritten_before(&self) -> Option<Duration> {
        self.unwritten_before
    }

    /// Recovers the directory into memory and starts the committer. Calls `progress` with the number of subtasks read so far and in
    /// all.
    pub(super) fn open(
        &self,
        memory: Arc<MemoryStore>,
        progress: impl FnMut(u64, u64),
        cancelled: &AtomicBool,
    ) -> Result<(), OpenError> {
        let Some(dir) = lock_ignoring_poison(&self.dir).take() else { return Err(StoreError::NotStored.into()) };
        let open = open::open(dir, &self.codec, &memory, progress, cancelled)?;
        let (queue, requests) = sync_channel(QUEUE_CAPACITY);
        let files = open.files.clone();
        let committer = Committer::new(open, self.codec.clone(), memory, requests)?;
        let opened = Opened { queue, is_refusing: committer.is_refusing(), files };
        let run = || {
            crate::priority::lower();
            committer.run();
        };
        let thread = std::thread::Builder::new().name("committer".into()).spawn(run);
        let thread = thread.map_err(OpenError::Thread)?;
        // In this order, so that `close` can stop every committer that it finds.
        self.opened.set(opened).map_err(|_| StoreError::NotStored)?;
        *lock_ignoring_poison(&self.committer) = Some(thread);
        Ok(())
    }

    /// If the process ends before [`DataDirStore::end_load`], the next start discards everything. For a directory without subtasks.
    pub(super) fn begin_load(&self) -> Result<(), OpenError> {
        directory::begin_loading(&self.path).map_err(|cause| OpenError::Io { path: self.path.clone(), cause })
    }

    /// What has been stored since [`DataDirStore::begin_load`] stays.
    pub(super) fn end_load(&self) -> Result<(), OpenError> {
        directory::end_loading(&self.path).map_err(|cause| OpenError::Io { path: self.path.clone(), cause })
    }

    /// Enqueues a change; blocks while the queue is full.
    pub(super) fn submit(&self, work: Work) {
        match self.opened.get().map(|opened| &opened.queue) {
            None => self.refuse(work),
            // The committer has ended. The channel returns the change.
            Some(queue) => {
                if let Err(SendError(Request::Work(work))) = queue.send(Request::Work(work)) {
                    self.refuse(work);
                }
            }
        }
    }

    /// The same without blocking. Returns the change if the queue is full.
    pub(super) fn try_submit(&self, work: Work) -> Result<(), Work> {
        match self.opened.get().map(|opened| &opened.queue) {
            None => self.refuse(work),
            Some(queue) => match queue.try_send(Request::Work(work)) {
                Err(TrySendError::Full(Request::Work(work))) => return Err(work),
                Err(TrySendError::Disconnected(Request::Work(work))) => self.refuse(work),
                Ok(()) | Err(_) => {}
            },
        }
        Ok(())
    }

    /// Answers a change that no committer will process: none has been started, or it has ended.
    fn refuse(&self, work: Work) {
        let has_crashed = self.opened.get().is_some() && self.has_crashed();
        (work.plan)(Err(if has_crashed { StoreError::Broken } else { StoreError::NotStored }))(Ok(()));
    }

    /// Whether changes are accepted, as far as the last one tells.
    pub(super) fn takes_changes(&self) -> bool {
        let is_refusing = |opened: &Opened| opened.is_refusing.load(Ordering::Relaxed);
        self.opened.get().is_some_and(|opened| !is_refusing(opened)) && !self.has_crashed()
    }

    /// Writes a snapshot now. Returns whether it has been written.
    pub(super) fn snapshot(&self) -> bool {
        let (done, made) = sync_channel(1);
        let asked = self.opened.get().is_some_and(|opened| opened.queue.send(Request::Snapshot(done)).is_ok());
        asked && made.recv().unwrap_or(false)
    }

    /// Reads the details of rows, on a blocking thread. False if a snapshot has moved some meanwhile.
    pub(super) async fn read_details(&self, rows: &mut [Row]) -> Result<bool, StoreError> {
        let locations: Vec<_> = rows.iter().map(|row| row.details).collect();
        let Some(opened) = self.opened.get().filter(|_| locations.iter().any(|location| *location > 0)) else {
            return Ok(true);
        };
        let files = opened.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read_all(&locations));
        let Some(all) = read.await.map_err(|_| StoreError::Broken)?? else { return Ok(false) };
        for (row, details) in rows.iter_mut().zip(all) {
            row.sub_job.details = details;
        }
        Ok(true)
    }

    /// Reads the times of image jobs whose details are not in memory. `None` if a snapshot has moved some meanwhile.
    pub(super) async fn read_times(&self, mut jobs: Vec<ImageJobRow>) -> Result<Option<Vec<ImageJobRow>>, StoreError> {
        let Some(opened) = self.opened.get().filter(|_| jobs.iter().any(|job| !job.details.is_empty())) else {
            return Ok(Some(jobs));
        };
        let files = opened.files.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Job by job, since the details of a page of jobs together may be large.
            for job in &mut jobs {
                let Some(all) = files.read_all(&job.details)? else { return Ok(None) };
                all.iter().flatten().for_each(|details| job.times.include(details));
            }
            Ok(Some(jobs))
        });
        read.await.map_err(|_| StoreError::Broken)?
    }

    /// Whether the committer has ended by a panic.
    pub(super) fn has_crashed(&self) -> bool {
        lock_ignoring_poison(&self.committer).as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Refuses further changes, finishes those that are enqueued, and closes the directory.
    pub(super) fn close(&self) {
        let committer = lock_ignoring_poison(&self.committer).take();
        if let Some(opened) = self.opened.get() {
            // This fails if the committer has crashed.
            let _ = opened.queue.send(Request::Stop);
        }
        if committer.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the committer has crashed");
        }
        drop(lock_ignoring_poison(&self.dir).take());
    }
}

impl Drop for DataDirStore {
    fn drop(&mut self) {
        self.close();
    }
}
