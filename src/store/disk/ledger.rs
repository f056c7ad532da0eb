//! What has been acknowledged, kept beside the engine: a small file of two slots, written in turn.
//!
//! Engines take damage near the end of their journal for a write that a crash cut short, and drop it and all that follows.
//! Only something outside the journal can tell that it had been acknowledged.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// What the store holds after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Counts the commits.
    pub(super) commit: u64,
    /// How many subtasks there are.
    pub(super) sub_jobs: u64,
    /// The sum of all their fingerprints, modulo 2^64.
    pub(super) sum: u64,
}

impl Mark {
    /// That of the next commit, before anything has changed.
    pub(super) fn next(self) -> Self {
        Self { commit: self.commit + 1, ..self }
    }

    /// A subtask has come.
    pub(super) fn add(&mut self, fingerprint: u64) {
        self.sub_jobs += 1;
        self.sum = self.sum.wrapping_add(fingerprint);
    }

    /// A subtask has gone.
    pub(super) fn remove(&mut self, fingerprint: u64) {
        self.sub_jobs = self.sub_jobs.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(fingerprint);
    }

    /// The three numbers and a checksum over them.
    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (at, number) in [self.commit, self.sub_jobs, self.sum].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..24]);
        bytes[24..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` unless they are exactly what [`Mark::to_bytes`] gave.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        let mark = Self { commit: number(0)?, sub_jobs: number(1)?, sum: number(2)? };
        (bytes == mark.to_bytes()).then_some(mark)
    }
}

/// How far apart the slots are, so that one write that fails half-way cannot hurt both.
const SLOT: u64 = 4096;

/// The file that holds the mark of the latest acknowledged commit.
#[derive(Debug)]
pub(super) struct Ledger {
    file: File,
    path: PathBuf,
}

impl Ledger {
    /// Makes the file, with a mark in it; it is there whole or not at all.
    pub(super) fn create(path: &Path, mark: Mark) -> io::Result<Self> {
        let draft = path.with_extension("new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&draft)?;
        let ledger = Self { file, path: path.into() };
        ledger.write_both(mark)?;
        std::fs::rename(&draft, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(ledger)
    }

    /// Opens the file; `None` if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Ok(Some(Self { file, path: path.into() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The latest mark; `None` if neither slot holds one.
    pub(super) fn read(&self) -> io::Result<Option<Mark>> {
        let mut latest: Option<Mark> = None;
        for slot in 0..2 {
            let mut bytes = [0; 32];
            let whole = match self.file.read_exact_at(&mut bytes, slot * SLOT) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            };
            let mark = Mark::from_bytes(&bytes).filter(|_| whole);
            latest = [latest, mark].into_iter().flatten().max_by_key(|mark| mark.commit);
        }
        Ok(latest)
    }

    /// Writes a mark over the older one. It survives the process at once, and the machine after [`Ledger::sync`].
    pub(super) fn write(&self, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(&mark.to_bytes(), mark.commit % 2 * SLOT)
    }

    pub(super) fn write_both(&self, mark: Mark) -> io::Result<()> {
        for slot in 0..2 {
            self.file.write_all_at(&mark.to_bytes(), slot * SLOT)?;
        }
        self.file.sync_all()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(commit: u64) -> Mark {
        Mark { commit, sub_jobs: commit * 3, sum: u64::MAX - commit }
    }

    #[test]
    fn the_latest_mark_is_read_and_one_damaged_slot_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        assert!(Ledger::open(&path).unwrap().is_none());
        let ledger = Ledger::create(&path, mark(0)).unwrap();
        for commit in 1..=4 {
            ledger.write(mark(commit)).unwrap();
            ledger.sync().unwrap();
            assert_eq!(Ledger::open(&path).unwrap().unwrap().read().unwrap(), Some(mark(commit)));
        }
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len() as u64, SLOT + 32);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The file lives on, as the ledger has it open.
            ledger.file.write_all_at(&bad, 0).unwrap();
            let expected = if bit < 256 { mark(3) } else { mark(4) };
            assert_eq!(ledger.read().unwrap(), Some(expected), "bit {bit}");
        }
        for (length, expected) in [(SLOT + 31, Some(mark(4))), (32, Some(mark(4))), (31, None), (0, None)] {
            ledger.file.write_all_at(&good, 0).unwrap();
            ledger.file.set_len(length).unwrap();
            assert_eq!(ledger.read().unwrap(), expected, "cut to {length}");
        }
    }
}
