//! The storage engine: a log-structured merge tree with a journal. How it is used stands here and nowhere else; how its files
//! look is known to `damage`, `journals` and `torn` too, so raising its version means looking at all four.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::FilterPolicy;
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};

use super::ledger::Mark;

/// What is written at once: under each key a value, or nothing where there was one.
pub(super) type Changes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The key of the mark, which comes before all others.
pub(super) const MARK: &[u8] = &[0];

/// How much is held in memory before it becomes a file.
const MEMTABLE: u64 = 16 * 1024 * 1024;

/// How much of the files is held in memory: they are read at the start, in order, and then hardly ever.
const CACHE: u64 = 4 * 1024 * 1024;

/// How much of the journal there may be, which bounds how long it takes to read at the start.
const JOURNAL: u64 = 256 * 1024 * 1024;

/// How many files may lie beside each other before they are merged. Identifiers are random, so each merge takes all there is:
/// thrice the engine's own number makes for a quarter less to be written.
const FILES_BEFORE_MERGE: u8 = 12;

/// One thread merges while the other goes on making files of what is in memory: with one alone, reports wait for merges. While
/// it has nothing else to do, that other one hands the next merge on and on, and keeps a core busy.
const THREADS: usize = 2;

/// How many files that are to be merged, and how much of what is to become one, make a write wait. The engine itself makes it
/// wait at 30 and at 4, and one write adds a few at most.
const RUNS: usize = 24;
const SEALED: usize = 3;

/// How soon a write that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How many tables it keeps open for look-ups.
const CACHED_FILES: usize = 32;

/// How many descriptors it may hold: those tables; while it merges, one for each run of a level and two for what it writes;
/// journals, locks and what it opens for a moment. Tests have seen no more than half.
pub const ENGINE_DESCRIPTORS: u64 = 96;

/// Why the engine did not do something.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// What it holds is not what it once wrote.
    #[error("{0}")]
    Damaged(String),
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An earlier write failed, perhaps in the background, and the engine takes no other.
    #[error("an earlier write has failed")]
    Refusing,
}

/// Why changes are not on the disk.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// There is no room for them; what was written before is as it was. The engine is to be opened anew.
    #[error("cannot write: {0}")]
    NoRoom(io::Error),
    /// A write or a flush has failed, perhaps in the background, and what is on the disk is no longer known.
    #[error("cannot tell what is on the disk: {0}")]
    Unknown(EngineError),
}

impl From<fjall::Error> for EngineError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.into(),
            fjall::Error::Poisoned => Self::Refusing,
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<fjall::LsmError> for EngineError {
    fn from(error: fjall::LsmError) -> Self {
        fjall::Error::from(error).into()
    }
}

/// An open engine.
pub(super) struct Engine {
    database: Database,
    sub_jobs: Keyspace,
}

impl Engine {
    /// Opens what is in a directory, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        guarded(|| {
            if path.join("version").exists() {
                // The engine does not open without this file, which is empty and therefore easily left out of a copy.
                OpenOptions::new().create(true).append(true).open(path.join("lock"))?;
            }
            let database = Database::builder(path)
                .cache_size(CACHE)
                .max_journaling_size(JOURNAL)
                .worker_threads(THREADS)
                .max_cached_files(Some(CACHED_FILES))
                .manual_journal_persist(true)
                .open()?;
            let options = || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(MEMTABLE)
                    .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(FILES_BEFORE_MERGE)))
                    // A key that is asked for is always there, so a filter would only take memory.
                    .filter_policy(FilterPolicy::disabled())
            };
            let sub_jobs = database.keyspace("subtasks", options)?;
            flush_directories(path)?;
            Ok(Self { database, sub_jobs })
        })
    }

    /// The mark of the latest commit, if there has been any.
    pub(super) fn mark(&self) -> Result<Option<Mark>, EngineError> {
        let Some(bytes) = self.get(MARK)? else { return Ok(None) };
        Mark::from_bytes(&bytes).map(Some).ok_or_else(|| EngineError::Damaged("the mark cannot be read".into()))
    }

    /// Makes files of all that it holds in memory; for tests of what stands in them.
    #[cfg(test)]
    pub(super) fn flush(&self) {
        self.sub_jobs.rotate_memtable_and_wait().unwrap();
    }

    /// What stands under a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, EngineError> {
        guarded(|| Ok(self.sub_jobs.get(key)?))
    }

    /// Shows every key but the mark's, and its value, in the order of the keys.
    pub(super) fn scan<E: From<EngineError>>(
        &self,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = self.sub_jobs.range([1]..);
        loop {
            let next = guarded(|| Ok(entries.next().map(fjall::Guard::into_inner).transpose()?))?;
            let Some((key, value)) = next else { return Ok(()) };
            each(&key, &value)?;
        }
    }

    /// Waits until the engine has caught up so far that a write will not have to wait in it: there it would wait for ever if
    /// what it waits for has failed.
    fn catch_up(&self) -> Result<(), EngineError> {
        while self.sub_jobs.tree.l0_run_count() >= RUNS || self.sub_jobs.sealed_memtable_count() >= SEALED {
            let is_idle = self.database.active_compactions() == 0;
            thread::sleep(LOOK_AGAIN);
            // Fails as soon as anything has failed in the background.
            self.database.persist(PersistMode::Buffer)?;
            if is_idle && self.database.active_compactions() == 0 {
                // The engine thinks of merging only when it has made a file or has just been opened, and then merges once.
                self.sub_jobs.tree.compact(self.sub_jobs.config.compaction_strategy.clone(), 0)?;
            }
        }
        Ok(())
    }

    /// How many bytes the engine may yet write of what it has taken: what is not in files, and all that is in some when they
    /// are being merged or soon will be.
    pub(super) fn backlog(&self) -> u64 {
        let files = self.sub_jobs.l0_table_count() + self.sub_jobs.sealed_memtable_count();
        let merges = files + 1 >= FILES_BEFORE_MERGE.into();
        self.database.write_buffer_size() + if merges { self.sub_jobs.disk_space() } else { 0 }
    }

    /// Writes changes and the mark that goes with them, all or nothing, and flushes them to the disk.
    pub(super) fn write(&self, changes: Changes, mark: Mark) -> Result<(), WriteError> {
        let write = || {
            self.catch_up()?;
            // Written and flushed in one go: the engine's own threads flush the same file, and of two who do so only the
            // first is told that it has failed.
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(&self.sub_jobs, key, value),
                    None => batch.remove(&self.sub_jobs, key),
                }
            }
            batch.insert(&self.sub_jobs, MARK, mark.to_bytes());
            Ok(batch.commit()?)
        };
        guarded(write).map_err(|error| match error {
            EngineError::Io(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                WriteError::NoRoom(error)
            }
            error => WriteError::Unknown(error),
        })
    }
}

/// Flushes a directory and those in it. The engine does not flush all that it makes, and if it failed to, what it then finds
/// there need not be on the disk.
fn flush_directories(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => flush_directories(&entry.path())?,
            // The engine deletes files meanwhile.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    File::open(path)?.sync_all()
}

/// The engine panics on some kinds of damage, which must not end the process without a word on which file it is.
fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(EngineError::Damaged(format!("the engine failed: {}", text.unwrap_or("it does not say why"))))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn mark(commit: u64) -> Mark {
        Mark { commit, ..Mark::default() }
    }

    fn entries(engine: &Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        engine
            .scan(|key, value| {
                found.push((key.to_vec(), value.to_vec()));
                Ok::<_, EngineError>(())
            })
            .unwrap();
        found
    }

    #[test]
    fn changes_and_their_mark_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        assert_eq!(engine.mark().unwrap(), None);
        let both = [(vec![1, 7], Some(vec![1])), (vec![3], Some(vec![2]))];
        engine.write(both.into_iter().collect(), mark(1)).unwrap();
        engine.write([(vec![1, 7], None), (vec![2], Some(vec![3]))].into_iter().collect(), mark(2)).unwrap();
        drop(engine);
        let engine = Engine::open(dir.path()).unwrap();
        assert_eq!(engine.mark().unwrap(), Some(mark(2)));
        assert_eq!(entries(&engine), [(vec![2], vec![3]), (vec![3], vec![2])]);
        assert_eq!(engine.get(&[1, 7]).unwrap(), None);
    }

    #[test]
    fn what_is_in_files_is_no_backlog_until_they_are_to_be_merged() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        assert_eq!(engine.backlog(), 0);
        // The first file goes where merged ones are, as it finds nothing there.
        for number in 1..=12u8 {
            let changes = (0..10u8).map(|i| (vec![1, i, number], Some(vec![i; 1000])));
            engine.write(changes.collect(), mark(number.into())).unwrap();
            assert!((10_000..12_000).contains(&engine.backlog()), "{number}: {}", engine.backlog());
            engine.flush();
            // The engine says so a moment after it has made the file.
            let expected = if number < 12 { 0..1 } else { 120_000..130_000 };
            let end = Instant::now() + Duration::from_secs(30);
            while !expected.contains(&engine.backlog()) {
                assert!(Instant::now() < end, "{number}: {}", engine.backlog());
                thread::sleep(LOOK_AGAIN);
            }
        }
    }

    #[test]
    fn files_that_the_engine_does_not_think_of_merging_hold_up_no_write() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        let (told, writes) = std::sync::mpsc::channel();
        let writer = thread::spawn(move || {
            for number in 1..=3 * RUNS as u8 {
                let changes = (0..10u8).map(|i| (vec![1, i, number], Some(vec![i; 10])));
                engine.write(changes.collect(), mark(number.into())).unwrap();
                // Without the message to merge that follows when the engine does it.
                engine.sub_jobs.tree.flush_active_memtable(0).unwrap();
                told.send(number).unwrap();
            }
            assert_eq!((entries(&engine).len(), engine.mark().unwrap()), (30 * RUNS, Some(mark(3 * RUNS as u64))));
        });
        for number in 1..=3 * RUNS as u8 {
            assert_eq!(writes.recv_timeout(Duration::from_secs(30)), Ok(number));
        }
        writer.join().unwrap();
    }
}
