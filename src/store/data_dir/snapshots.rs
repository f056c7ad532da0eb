//! When a snapshot is made, and how: on a thread of its own, while reports go on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::codec::Codec;
use super::details::{DetailsFiles, FileNumber, ReadError};
use super::directory::DataDir;
use super::lock_ignoring_poison;
use super::open::SnapshotEnd;
use crate::domain::{ProjectId, SubJobId};
use crate::store::StoreError;
use crate::store::core::Effect;
use crate::store::log::{Cut, Directory, Log, LogError, Recovered, SnapshotReader, SnapshotWriter};
use crate::store::memory::{MemoryStore, Slice};

/// A snapshot is made when the log has grown by so many bytes since the last one began, or by the size of that.
const LEAST_LOG_BYTES: u64 = 64 * 1024 * 1024;

/// How many subtasks are looked at in one step, for which reports wait.
const SLICE: u32 = 1024;

/// How many bytes a frame of a snapshot has, or somewhat more.
const FRAME_BYTES: usize = 256 * 1024;

/// Makes snapshots for the committer.
pub(super) struct Snapshots {
    parts: Arc<Parts>,
    /// How many bytes have been logged since the last snapshot began.
    logged: u64,
    /// Who asked for one that has not begun yet.
    asked: Vec<SyncSender<bool>>,
    under_way: Option<JoinHandle<()>>,
}

struct Parts {
    directory: Arc<dyn Directory>,
    files: Arc<DetailsFiles>,
    memory: Arc<MemoryStore>,
    codec: Codec,
    /// The cut of the last one, whose name no other one takes.
    latest: Mutex<Option<Cut>>,
    /// How many bytes it has.
    bytes: AtomicU64,
    /// Whether one under way is to be given up.
    is_cancelled: AtomicBool,
    /// Whether reports need the space of one under way, which is given up unless it is complete.
    is_space_needed: AtomicBool,
    /// The number of the last frame that has been appended, all of which was acknowledged.
    last_frame: AtomicU64,
    next_revision: AtomicU64,
}

/// Why a snapshot has not been made.
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
    #[error("what has been written is not what is read again")]
    Verification,
    #[error("places have been given anew meanwhile")]
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
            latest: Mutex::new(recovered.snapshot),
            bytes: recovered.snapshot_bytes.into(),
            is_cancelled: AtomicBool::new(false),
            is_space_needed: AtomicBool::new(false),
            last_frame: recovered.log.last().into(),
            next_revision: next_revision.into(),
        };
        Self { parts: Arc::new(parts), logged: recovered.log_bytes, asked: Vec::new(), under_way: None }
    }

    /// So many bytes have been logged, with which a frame is acknowledged that has not been applied yet.
    pub(super) fn note(&mut self, bytes: u64, last_frame: u64, next_revision: u64) {
        self.logged += bytes;
        self.parts.last_frame.store(last_frame, Ordering::Release);
        self.parts.next_revision.store(next_revision, Ordering::Release);
    }

    /// Somebody wants one now.
    pub(super) fn ask(&mut self, done: SyncSender<bool>) {
        self.asked.push(done);
    }

    /// Begins a snapshot, if one is due or wanted and none is under way.
    pub(super) fn begin_if_due(&mut self, log: &mut Log, dir: &DataDir) {
        let is_due = self.logged >= LEAST_LOG_BYTES.max(self.parts.bytes.load(Ordering::Relaxed));
        if !is_due && self.asked.is_empty() || self.under_way.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        if !dir.is_in_place() {
            return;
        }
        // If it fails, the next one is due when as much has been logged again.
        self.logged = 0;
        let asked = std::mem::take(&mut self.asked);
        let begun = log.rotate().and_then(|cut| {
            let (parts, last_old) = (self.parts.clone(), self.parts.files.latest());
            let work = move || {
                crate::priority::lower();
                let is_there = *lock_ignoring_poison(&parts.latest) == Some(cut);
                let is_done = is_there || parts.make(cut, last_old);
                // Whoever asked may have gone.
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

    /// Waits until the one under way has been given up, or has removed what it replaces: so there may be space on the disk.
    /// False if none is under way.
    pub(super) fn give_back_space(&mut self) -> bool {
        if self.under_way.is_none() {
            return false;
        }
        self.parts.is_space_needed.store(true, Ordering::Relaxed);
        self.join();
        self.parts.is_space_needed.store(false, Ordering::Relaxed);
        true
    }

    /// Gives up the one under way.
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
    /// Makes the snapshot of a cut, in which no details are in files up to that number any more; whether it has been made.
    fn make(&self, cut: Cut, last_old: FileNumber) -> bool {
        let made = self.write(cut).and_then(|(mut snapshot, effects)| self.take_over(&mut snapshot, last_old, effects));
        match made {
            Ok(bytes) => {
                self.bytes.store(bytes, Ordering::Relaxed);
                tracing::info!(bytes, "snapshot made");
            }
            Err(Failed::Cancelled) => SnapshotWriter::discard(&*self.directory, cut),
            Err(ref error) => {
                // First, so that whoever reads the line finds the space that it took.
                SnapshotWriter::discard(&*self.directory, cut);
                tracing::warn!(%error, "no snapshot has been made; the log goes on without");
            }
        }
        made.is_ok()
    }

    /// Writes all subtasks, in slices between which reports go on; how many there were.
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
            if frame.position() >= FRAME_BYTES || next == 0 {
                writer.append(&mut std::mem::replace(&mut frame, SnapshotWriter::frame()))?;
            }
            self.go_on_writing()?;
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
            encoder.put(&item.sub_job, item.ended, true, details.is_some());
            if let Some(details) = details {
                encoder.copied_details(&details);
            }
            count += 1;
        }
        encoder.end();
        Ok(count)
    }

    /// Fails if the process is to end.
    fn go_on(&self) -> Result<(), Failed> {
        if self.is_cancelled.load(Ordering::Relaxed) { Err(Failed::Cancelled) } else { Ok(()) }
    }

    /// The same, or if reports need the space that this takes.
    fn go_on_writing(&self) -> Result<(), Failed> {
        if self.is_space_needed.load(Ordering::Relaxed) { Err(Failed::NoSpace) } else { self.go_on() }
    }

    /// Reads all of it again, gives it its name, says where details are from now on, and removes what it replaces. How many bytes
    /// it has.
    fn take_over(&self, snapshot: &mut SnapshotReader, last_old: FileNumber, effects: u64) -> Result<u64, Failed> {
        snapshot.read(|_, _| self.go_on_writing())?;
        snapshot.publish(&*self.directory)?;
        *lock_ignoring_poison(&self.latest) = Some(snapshot.cut());
        // From here on nothing is lost when it is given up: the files before are there until the end.
        let file = self.files.add(snapshot.name(), snapshot.file().clone());
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
            self.go_on()
        })?;
        if found != effects {
            return Err(Failed::Verification);
        }
        snapshot.remove_older(&*self.directory)?;
        self.files.close_to(last_old);
        Ok(snapshot.len())
    }
}
