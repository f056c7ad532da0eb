//! Makes changes durable, and knows what may be done after that has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::directory::DataDir;
use super::engine::{Changes, Engine, WriteError};
use super::ledger::{Ledger, Mark};
use super::restore::{self, Open};
use super::torn::TornOff;
use crate::store::StoreError;

/// How soon after a write has failed the engine is opened anew.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of the disk is left free, beside what the engine may need for what it has taken.
const SLACK: u64 = 4 * 1024 * 1024;

/// Whether changes can be made.
enum Health {
    Good,
    /// There was no room for a write, then; the engine is to be opened anew.
    Failed(Instant),
    /// What is on the disk is no longer known, and only a restart can tell.
    Sealed,
}

/// Writes changes and notes that they are acknowledged.
pub(super) struct Writer {
    /// `None` while it cannot be opened.
    engine: Option<Engine>,
    ledger: Ledger,
    /// What is stored, as it has been acknowledged.
    mark: Mark,
    health: Health,
    /// Whether changes are being refused, which is said once.
    is_refusing: bool,
    /// The same for others to see: whether the last change could be made, and the next one can.
    takes_changes: Arc<AtomicBool>,
    /// Since when there has been something to flush in the ledger.
    unflushed: Option<Instant>,
    /// The last to go, so that nobody else gets hold of it before the engine has let go.
    dir: DataDir,
}

impl Writer {
    pub(super) fn new(open: Open) -> Self {
        let Open { dir, engine, ledger, mark } = open;
        Self {
            engine: Some(engine),
            ledger,
            mark,
            health: Health::Good,
            is_refusing: false,
            takes_changes: Arc::new(AtomicBool::new(true)),
            unflushed: None,
            dir,
        }
    }

    /// A flag that says whether changes can be made.
    pub(super) fn takes_changes(&self) -> Arc<AtomicBool> {
        self.takes_changes.clone()
    }

    fn update_flag(&self) {
        let takes_changes = matches!(self.health, Health::Good) && !self.is_refusing;
        self.takes_changes.store(takes_changes, Ordering::Relaxed);
    }

    /// The engine, and what is stored in it. Opens it anew after a write has found no room, as nothing else lets it go on.
    pub(super) fn ready(&mut self) -> Result<(&Engine, Mark), StoreError> {
        match self.health {
            Health::Good => {}
            Health::Failed(when) if when.elapsed() >= PAUSE => self.reopen()?,
            Health::Failed(_) | Health::Sealed => return Err(StoreError::NotStored),
        }
        let engine = self.engine.as_ref().ok_or(StoreError::NotStored)?;
        Ok((engine, self.mark))
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.health = Health::Failed(Instant::now());
        self.engine = None;
        match restore::reopen(&self.dir, self.mark) {
            Ok(Some(engine)) => {
                self.engine = Some(engine);
                self.health = Health::Good;
                Ok(())
            }
            Ok(None) => {
                tracing::error!(
                    "what is on the disk is not what was acknowledged: no report is stored until a restart"
                );
                self.health = Health::Sealed;
                Err(StoreError::NotStored)
            }
            Err(error) => {
                tracing::debug!(%error, "reports still cannot be stored");
                Err(StoreError::NotStored)
            }
        }
    }

    /// Writes changes and the mark that goes with them; they are durable, or it fails.
    pub(super) fn write(&mut self, changes: Changes, mark: Mark) -> Result<(), StoreError> {
        let written = self.try_write(changes, mark);
        self.update_flag();
        written
    }

    fn try_write(&mut self, changes: Changes, mark: Mark) -> Result<(), StoreError> {
        let engine = self.engine.as_ref().ok_or(StoreError::NotStored)?;
        if !self.dir.is_in_place() {
            let path = self.dir.path().display();
            tracing::error!(%path, "the data directory has been moved or replaced: no report is stored until a restart");
            self.health = Health::Sealed;
            return Err(StoreError::NotStored);
        }
        if !has_room(&self.dir, engine, &changes) {
            if !std::mem::replace(&mut self.is_refusing, true) {
                tracing::error!("the disk is full: no report is stored until it has room");
            }
            return Err(StoreError::NotStored);
        }
        let written = engine.write(changes, mark);
        let noted = written.and_then(|()| self.ledger.write(mark).map_err(|error| WriteError::Unknown(error.into())));
        match noted {
            Ok(()) => {
                self.mark = mark;
                self.unflushed.get_or_insert_with(Instant::now);
                if std::mem::take(&mut self.is_refusing) {
                    tracing::info!("reports are stored again");
                }
                return Ok(());
            }
            Err(error @ WriteError::NoRoom(_)) => {
                if !std::mem::replace(&mut self.is_refusing, true) {
                    tracing::error!(%error, "a report could not be stored: none is until the disk takes them again");
                }
                self.health = Health::Failed(Instant::now());
            }
            Err(error @ WriteError::Unknown(_)) => {
                tracing::error!(%error, "a report could not be stored: none is until a restart");
                self.health = Health::Sealed;
            }
        }
        Err(StoreError::NotStored)
    }

    /// Does what can wait until callers have been told: lets go of an engine that has failed, and flushes the ledger if there
    /// has been something to flush for so long. Until then it has survived this process alone. That it may be behind after a
    /// power cut takes nothing from what the engine has flushed; it only tells less of it.
    pub(super) fn tidy_up(&mut self, after: Duration) {
        if self.unflushed.take_if(|since| since.elapsed() >= after).is_some()
            && let Err(error) = self.ledger.sync()
        {
            tracing::error!(%error, "what has been acknowledged could not be noted: no report is stored until a restart");
            self.health = Health::Sealed;
        }
        if !matches!(self.health, Health::Good) {
            self.let_go();
        }
        self.update_flag();
    }

    /// An engine that has failed has nothing to do any more, and may keep a thread busy. As it closes, it writes the rest of
    /// what it could not write if it then can; that has been refused, and is not left to be found at the next start.
    fn let_go(&mut self) {
        let Some(engine) = self.engine.take() else { return };
        drop(engine);
        if !self.dir.is_in_place() {
            return;
        }
        match restore::cut_back(&self.dir, self.mark) {
            Ok(torn_off) => drop(torn_off.map(TornOff::confirm)),
            Err(error) => tracing::warn!(%error, "a report that was refused may be there after the next start"),
        }
    }
}

/// Whether the disk has room for changes and for all that the engine has yet to write of earlier ones. Without it reports are
/// refused before the engine finds out by itself, which it does not survive.
fn has_room(dir: &DataDir, engine: &Engine, changes: &Changes) -> bool {
    let lengths = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
    // Once in the journal, once in a file, and something for their frames.
    let needed = 3 * lengths.sum::<usize>() as u64 + engine.backlog() + SLACK;
    match rustix::fs::statvfs(dir.path()) {
        // Some file systems do not tell.
        Ok(disk) if disk.f_blocks > 0 => disk.f_bavail.saturating_mul(disk.f_frsize) >= needed,
        _ => true,
    }
}
