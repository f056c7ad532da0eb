//! From the disk into memory, and whether all that was acknowledged is there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::codec::{self, Codec, CodecError, Keys, Stored, fingerprint};
use super::directory::DataDir;
use super::engine::{Engine, EngineError};
use super::journals::{self, Found, Purpose};
use super::ledger::{Ledger, Mark};
use super::torn::TornOff;
use super::{OpenError, damage};
use crate::domain::{ProjectId, SubJob, SubJobId};
use crate::store::memory::{MemoryStore, Restored};

/// How many subtasks memory is handed at once.
const BATCH: usize = 4096;

/// A data directory that is open, and what is in it.
pub(super) struct Open {
    pub(super) dir: DataDir,
    pub(super) engine: Engine,
    pub(super) ledger: Ledger,
    pub(super) mark: Mark,
}

/// Opens the engine, and makes sure that it holds every commit that was acknowledged.
fn open(dir: DataDir) -> Result<(Open, Located), OpenError> {
    let (engine_path, ledger_path) = (dir.engine(), dir.ledger());
    let of_engine = |cause| OpenError::Io { path: engine_path.clone(), cause };
    let of_ledger = |cause| OpenError::Io { path: ledger_path.clone(), cause };
    if dir.forget_half_loaded().map_err(of_engine)? {
        tracing::warn!("an earlier start did not finish loading its files: what it took in is dropped");
    }
    let ledger = Ledger::open(&ledger_path).map_err(of_ledger)?;
    let acknowledged = match &ledger {
        None => Mark::default(),
        Some(ledger) => {
            let damaged = || damaged(&ledger_path, "neither of its slots is as it was written");
            ledger.read().map_err(of_ledger)?.ok_or_else(damaged)?
        }
    };
    match ledger {
        Some(_) => damage::check(&engine_path)?,
        None => forget_half_made(&engine_path)?,
    }
    let torn_off = match journals::look(&engine_path, acknowledged.commit, Purpose::Start).map_err(of_engine)? {
        Found::Damaged(file, reason) => return Err(damaged(&file, reason)),
        Found::Good(cuts) => TornOff::cut(cuts).map_err(of_engine)?,
    };
    let at = Located(engine_path.clone());
    let (engine, mark) = open_engine(&at.0).map_err(|error| at.explain(error))?;
    if ledger.is_none() && mark.is_some() {
        return Err(damaged(&ledger_path, "it is gone"));
    }
    let mark = mark.unwrap_or_default();
    if mark.commit < acknowledged.commit || mark.commit == acknowledged.commit && mark != acknowledged {
        // It writes to its files as it goes.
        drop(engine);
        return Err(match torn_off.path() {
            Some(file) => damaged(file, journals::UNREADABLE),
            None => at.damaged("acknowledged reports are missing"),
        });
    }
    for file in torn_off.confirm() {
        tracing::warn!(file = %file.display(), "a report that a crash cut short has been dropped");
    }
    let ledger = match ledger {
        Some(ledger) => ledger,
        None => Ledger::create(&ledger_path, acknowledged).map_err(of_ledger)?,
    };
    Ok((Open { dir, engine, ledger, mark }, at))
}

fn damaged(file: &Path, reason: &str) -> OpenError {
    OpenError::Damaged { file: file.into(), reason: reason.into() }
}

/// Begins anew where a first start did not come so far that the engine could write anything. Anything else that has no ledger
/// and no version has lost more than one file.
fn forget_half_made(engine: &Path) -> Result<(), OpenError> {
    let io = |cause| OpenError::Io { path: engine.into(), cause };
    if !engine.exists() || damage::has_version(engine) {
        return Ok(());
    }
    if !damage::is_unused(engine) || !journals::are_blank(engine).map_err(io)? {
        return Err(damaged(&engine.join("version"), "it is not as it was written"));
    }
    std::fs::remove_dir_all(engine).map_err(io)
}

fn open_engine(path: &Path) -> Result<(Engine, Option<Mark>), EngineError> {
    let engine = Engine::open(path)?;
    let mark = engine.mark()?;
    Ok((engine, mark))
}

/// Cuts off what has not been acknowledged, when the engine is closed; `None` if not all that was acknowledged is there.
pub(super) fn cut_back(dir: &DataDir, acknowledged: Mark) -> io::Result<Option<TornOff>> {
    match journals::look(&dir.engine(), acknowledged.commit, Purpose::Reopening)? {
        Found::Good(cuts) => TornOff::cut(cuts).map(Some),
        Found::Damaged(..) => Ok(None),
    }
}

/// Opens the engine anew after it could not write, with what was acknowledged and nothing else; `None` if that is not there.
pub(super) fn reopen(dir: &DataDir, acknowledged: Mark) -> Result<Option<Engine>, EngineError> {
    let Some(torn_off) = cut_back(dir, acknowledged)? else { return Ok(None) };
    let (engine, mark) = open_engine(&dir.engine())?;
    if mark.unwrap_or_default() != acknowledged {
        drop(engine);
        return Ok(None);
    }
    torn_off.confirm();
    Ok(Some(engine))
}

/// Opens a data directory and takes all of it into memory.
pub(super) fn restore(
    dir: DataDir,
    codec: &Codec,
    memory: &MemoryStore,
    mut progress: impl FnMut(u64, u64),
    cancelled: &AtomicBool,
) -> Result<Open, OpenError> {
    let (open, at) = open(dir)?;
    let (mut batch, mut done): (Option<(ProjectId, Vec<Restored>)>, u64) = (None, 0);
    let mut hand_over = |(project, batch): (ProjectId, Vec<Restored>)| {
        done += batch.len() as u64;
        let mut transaction = memory.begin()?;
        transaction.restore(&project, batch)?;
        transaction.commit()?;
        progress(done, open.mark.sub_jobs);
        if cancelled.load(Ordering::Relaxed) { Err(OpenError::Cancelled) } else { Ok(()) }
    };
    let shown = read(&open, codec, |project, id, stored| {
        let restored = Restored {
            id,
            job_id: stored.job_id,
            job_type: stored.job_type,
            status: stored.status,
            version: stored.version,
            has_details: !stored.details.is_empty(),
            ended: stored.ended,
        };
        if let Some(full) = batch.take_if(|(of, batch)| of != project || batch.len() == BATCH) {
            hand_over(full)?;
        }
        batch.get_or_insert_with(|| (project.clone(), Vec::with_capacity(BATCH))).1.push(restored);
        Ok(())
    });
    let taken = shown.and_then(|()| Ok(batch.map_or(Ok(()), hand_over)?));
    let open = at.explain_all(open, taken)?;
    let io = |cause| OpenError::Io { path: open.ledger.path().into(), cause };
    open.ledger.write_both(open.mark).map_err(io)?;
    Ok(open)
}

/// Opens a data directory and shows every subtask in it, of one project after the other.
pub(super) fn export<E: From<OpenError>>(
    dir: DataDir,
    codec: &Codec,
    mut each: impl FnMut(&ProjectId, SubJob) -> Result<(), E>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), E> {
    let (open, at) = open(dir)?;
    let (mut done, mut failed) = (0, None);
    let shown = read(&open, codec, |project, id, stored| {
        let Stored { job_id, job_type, status, version, details, .. } = stored;
        let details = codec::read_details(details)?;
        let sub_job = SubJob { id, job_id, job_type, status, version, details };
        each(project, sub_job).map_err(|error| {
            failed = Some(error);
            Stop::Open(OpenError::Cancelled)
        })?;
        done += 1;
        if done % BATCH as u64 == 0 {
            progress(done, open.mark.sub_jobs);
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => {
            let open = at.explain_all(open, shown)?;
            progress(done, open.mark.sub_jobs);
            Ok(())
        }
    }
}

/// Shows every subtask that is stored, and in the end makes sure that it was neither more nor less than there should be.
fn read(
    open: &Open,
    codec: &Codec,
    mut each: impl FnMut(&ProjectId, SubJobId, Stored<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let (mut found, mut keys) = (Mark { commit: open.mark.commit, ..Mark::default() }, Keys::default());
    open.engine.scan(|key, value| {
        let stored = codec.read(value)?;
        let (project, id) = keys.read(key)?;
        found.add(fingerprint(key, &value[..stored.head]));
        each(project, id, stored)
    })?;
    if found == open.mark { Ok(()) } else { Err(Stop::Mismatch) }
}

/// Why not everything has been shown, or taken.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Record(#[from] CodecError),
    #[error("the subtasks in it are not those that were stored")]
    Mismatch,
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Where the engine's files are, to say which of them an error is about.
struct Located(PathBuf);

impl Located {
    fn explain(&self, error: EngineError) -> OpenError {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
        match error {
            // What the engine misses in its own files has been taken from them.
            EngineError::Io(cause)
                if !matches!(cause.kind(), InvalidData | InvalidInput | NotFound | UnexpectedEof) =>
            {
                OpenError::Io { path: self.0.clone(), cause }
            }
            error => self.damaged(&error.to_string()),
        }
    }

    /// Gives back what is open, unless not everything in it could be shown or taken. Its files are looked at when the engine
    /// no longer changes them.
    fn explain_all(&self, open: Open, taken: Result<(), Stop>) -> Result<Open, OpenError> {
        let Err(stop) = taken else { return Ok(open) };
        let Open { dir: _dir, engine, .. } = open;
        drop(engine);
        Err(match stop {
            Stop::Engine(error) => self.explain(error),
            Stop::Record(CodecError::JobType(_)) => {
                OpenError::Unusable { path: self.0.clone(), reason: stop.to_string() }
            }
            Stop::Record(_) | Stop::Mismatch => self.damaged(&stop.to_string()),
            Stop::Open(error) => error,
        })
    }

    fn damaged(&self, reason: &str) -> OpenError {
        let file = match damage::check(&self.0) {
            Err(OpenError::Damaged { file, .. }) => file,
            _ => self.0.clone(),
        };
        damaged(&file, reason)
    }
}
