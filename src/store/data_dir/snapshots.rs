//! Decides when a snapshot is due, and writes it on a thread of its own while reports go on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::codec::Codec;
use super::details::{DetailsFiles, FileNumber, ReadError};
use super::directory::DataDir;
use super::lock::lock_ignoring_poison;
use super::open::SnapshotEnd;
use crate::domain::{ProjectId, SubJobId};
use crate::store::core::Effect;
use crate::store::log::{Cut, Directory, Log, LogError, Recovered, SnapshotReader, SnapshotWriter};
use crate::store::memory::{MemoryStore, Slice};
use crate::store::types::StoreError;

/// A snapshot is due when the log has grown by as many bytes since the last one began, and by the size of the last one.
const MIN_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// How many subtasks are read in one step, during which no report is applied.
const SLICE: u32 = 1024;

/// The length in bytes after which a frame of a snapshot is complete.
const FRAME_BYTES: usize = 256 * 1024;

/// Writes snapshots for the committer.
pub(super) struct Snapshots {
    parts: Arc<Parts>,
    /// The bytes appended to the log since the last snapshot began.
    logged: u64,
    /// Requests for a snapshot that has not begun yet.
    asked: Vec<SyncSender<bool>>,
    under_way: Option<JoinHandle<()>>,
}

struct Parts {
    directory: Arc<dyn Directory>,
    files: Arc<DetailsFiles>,
    memory: Arc<MemoryStore>,
    codec: Codec,
    /// The cut of the last one.
    latest: Mutex<Option<Cut>>,
    /// Its length in bytes.
    bytes: AtomicU64,
    /// Whether the process ends, so that a snapshot under way must be cancelled.
    is_cancelled: AtomicBool,
    /// Whether reports need the space of a snapshot under way, which is then cancelled unless it is complete.
    is_space_needed: AtomicBool,
    /// The number of the last acknowledged frame.
    last_frame: AtomicU64,
    next_revision: AtomicU64,
}

/// Why a snapshot has not been written.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the details of a subtask cannot be read: {0}")]
    Details(#[from] ReadError),
    #[error("it is read back otherwise than it was written")]
    Verification,
    #[error("a project has been renumbered meanwhile")]
    Renumbered,
    #[error("reports need the space on the disk")]
    NoSpace,
    #[error("cancelled")]
    Cancelled,
}

impl Snapshots {
    pub(super) fn new(
        directory: Arc<dyn Directory>,
        files: Arc<DetailsFiles>,
        memory: Arc<MemoryStore>,
        codec: Codec,
        recovered: &Recovered,
        next_revision: u64,
    ) -> Self {
        let parts = Parts {
            directory,
            files,
            memory,
            codec,
            latest: Mutex::new(recovered.snapshot.map(|(cut, _)| cut)),
            bytes: recovered.snapshot.map_or(0, |(_, bytes)| bytes).into(),
            is_cancelled: AtomicBool::new(false),
            is_space_needed: AtomicBool::new(false),
            last_frame: recovered.log.last().into(),
            next_revision: next_revision.into(),
        };
        Self { parts: Arc::new(parts), logged: recovered.log_bytes, asked: Vec::new(), under_way: None }
    }

    /// Records that a frame has been acknowledged, before it is applied.
    pub(super) fn note(&mut self, bytes: u64, last_frame: u64, next_revision: u64) {
        self.logged += bytes;
        self.parts.last_frame.store(last_frame, Ordering::Release);
        self.parts.next_revision.store(next_revision, Ordering::Release);
    }

    /// Requests a snapshot now.
    pub(super) fn ask(&mut self, done: SyncSender<bool>) {
        self.asked.push(done);
    }

    /// Begins a snapshot if one is due or requested, and none is under way.
    pub(super) fn begin_if_due(&mut self, log: &mut Log, dir: &DataDir) {
        let is_due = self.logged >= MIN_LOG_BYTES.max(self.parts.bytes.load(Ordering::Relaxed));
        if !is_due && self.asked.is_empty() || self.under_way.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        if !dir.is_in_place() {
            return;
        }
        // If it fails, the next one is due after as many bytes again.
        self.logged = 0;
        let asked = std::mem::take(&mut self.asked);
        let begun = log.rotate().and_then(|cut| {
            let (parts, last_old) = (self.parts.clone(), self.parts.files.latest());
            let work = move || {
                crate::priority::lower();
                let is_there = *lock_ignoring_poison(&parts.latest) == Some(cut);
                let is_done = is_there || parts.make(cut, last_old);
                // The receiver may have been dropped.
                for done in asked {
                    let _ = done.send(is_done);
                }
            };
            thread::Builder::new().name("snapshot".into()).spawn(work)
        });
        match begun {
            Ok(thread) => self.under_way = Some(thread),
            Err(error) => tracing::warn!(%error, "no snapshot can be begun"),
        }
    }

    /// Cancels the snapshot under way, or waits until it has removed what it replaces: either frees space on the disk. False if no
    /// snapshot is under way.
    pub(super) fn give_back_space(&mut self) -> bool {
        if self.under_way.is_none() {
            return false;
        }
        self.parts.is_space_needed.store(true, Ordering::Relaxed);
        self.join();
        self.parts.is_space_needed.store(false, Ordering::Relaxed);
        true
    }

    /// Cancels the snapshot under way.
    pub(super) fn stop(&mut self) {
        self.parts.is_cancelled.store(true, Ordering::Relaxed);
        self.join();
    }

    fn join(&mut self) {
        if self.under_way.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes snapshots has crashed");
        }
    }
}

impl Parts {
    /// Writes the snapshot of a cut, after which no details are in files up to `last_old`. Returns whether it has been written.
    fn make(&self, cut: Cut, last_old: FileNumber) -> bool {
        let made = self.write(cut).and_then(|(mut snapshot, effects)| self.publish(&mut snapshot, last_old, effects));
        match made {
            Ok(bytes) => {
                self.bytes.store(bytes, Ordering::Relaxed);
                tracing::info!(bytes, "snapshot made");
            }
            Err(Failed::Cancelled) => SnapshotWriter::discard(&*self.directory, cut),
            Err(ref error) => {
                // Before the log line, so that the space is free when it is read.
                SnapshotWriter::discard(&*self.directory, cut);
                tracing::warn!(%error, "no snapshot has been made; the log goes on without");
            }
        }
        made.is_ok()
    }

    /// Writes all subtasks, in slices between which reports go on. Returns their number.
    fn write(&self, cut: Cut) -> Result<(SnapshotReader, u64), Failed> {
        let mut writer = SnapshotWriter::create(&*self.directory, cut)?;
        let (mut from, mut effects, mut renumbered, mut frame) = (0, 0, None, SnapshotWriter::frame());
        loop {
            let (slice, next, so_far) = self.memory.slice(from, SLICE)?;
            if *renumbered.get_or_insert(so_far) != so_far {
                return Err(Failed::Renumbered);
            }
            if let Some(slice) = slice {
                effects += self.encode(&slice, frame.payload())?;
            }
            if frame.payload_len() >= FRAME_BYTES || next == 0 {
                writer.append(&mut std::mem::replace(&mut frame, SnapshotWriter::frame()))?;
            }
            self.check_space()?;
            if next == 0 {
                break;
            }
            from = next;
        }
        let end = SnapshotEnd {
            last: self.last_frame.load(Ordering::Acquire),
            effects,
            next_revision: self.next_revision.load(Ordering::Acquire),
        };
        Ok((writer.finish(&end.to_bytes())?, effects))
    }

    fn encode(&self, slice: &Slice, out: &mut Vec<u8>) -> Result<u64, Failed> {
        let mut encoder = self.codec.begin(&slice.project, slice.revision, out);
        let mut count = 0;
        for item in &slice.items {
            let details = match item.details {
                0 => None,
                location => Some(self.files.read_encoded(location)?),
            };
            encoder.put(&item.sub_job, item.end_time, true, details.is_some());
            if let Some(details) = details {
                encoder.copied_details(&details);
            }
            count += 1;
        }
        encoder.end();
        Ok(count)
    }

    /// Fails if the process ends.
    fn check_running(&self) -> Result<(), Failed> {
        if self.is_cancelled.load(Ordering::Relaxed) { Err(Failed::Cancelled) } else { Ok(()) }
    }

    /// Fails if the process ends, or if reports need the space.
    fn check_space(&self) -> Result<(), Failed> {
        if self.is_space_needed.load(Ordering::Relaxed) { Err(Failed::NoSpace) } else { self.check_running() }
    }

    /// Reads the snapshot back, renames it, changes the locations of details to those in it, and removes what it replaces. Returns its
    /// length in bytes.
    fn publish(&self, snapshot: &mut SnapshotReader, last_old: FileNumber, effects: u64) -> Result<u64, Failed> {
        snapshot.read(|_, _| self.check_space())?;
        snapshot.publish(&*self.directory)?;
        *lock_ignoring_poison(&self.latest) = Some(snapshot.cut);
        // From here on it may be cancelled at any time: older files are removed last.
        let file = self.files.add(&snapshot.name, snapshot.file.clone());
        let is_old = |location: u64| location > 0 && FileNumber::of(location) <= last_old;
        let mut found = 0;
        snapshot.read(|at, payload| {
            let mut moved: Vec<(ProjectId, Vec<(SubJobId, u64)>)> = Vec::new();
            let location = |in_payload: usize| file.location(at + in_payload as u64);
            let decoded = self.codec.decode(payload, location, |changes| {
                found += changes.effects.len() as u64;
                let with_details = changes.effects.into_iter().filter_map(|effect| match effect {
                    Effect::Put(put) if put.details > 0 => Some((put.sub_job.id, put.details)),
                    _ => None,
                });
                moved.push((changes.project, with_details.collect()));
            });
            decoded.map_err(|_| Failed::Verification)?;
            for (project, details) in moved {
                for step in details.chunks(SLICE as usize / 4) {
                    self.memory.move_details(&project, step, is_old)?;
                }
            }
            self.check_running()
        })?;
        if found != effects {
            return Err(Failed::Verification);
        }
        snapshot.remove_older(&*self.directory)?;
        self.files.close_to(last_old);
        Ok(snapshot.len)
    }
}
