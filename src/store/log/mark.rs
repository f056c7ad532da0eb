//! The commit mark: how far the log has been acknowledged, in a small file of four slots.
//!
//! Two are written in turn, once a frame. So the mark survives the process at once. The other two are written in turn whenever the
//! file is flushed, which is done within a second or so. So whatever a power cut makes of what was not flushed, one of these is
//! whole: the mark may be behind the log then, and is never ahead.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::files::{Directory, FileHandle};
use super::frame::Link;
use super::{MARK, NEW};

/// How far apart the slots are, so that one write that fails half-way hurts one of them only.
const SLOT: u64 = 4096;

const SLOTS: u64 = 4;

/// How many bytes a mark has.
const MARK_BYTES: usize = 32;

/// What has been acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitMark {
    /// The last frame.
    pub(super) last: Link,
    /// How many subtasks there are after it.
    pub(super) sub_jobs: u64,
}

impl CommitMark {
    fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        for (at, number) in [self.last.number, self.last.checksum, self.sub_jobs].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..24]);
        bytes[24..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; MARK_BYTES]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        let mark = Self { last: Link { number: number(0)?, checksum: number(1)? }, sub_jobs: number(2)? };
        (*bytes == mark.to_bytes()).then_some(mark)
    }
}

/// The file of the commit mark.
#[derive(Debug)]
pub(super) struct CommitMarkFile {
    file: Arc<dyn FileHandle>,
    mark: CommitMark,
    /// Which of the last two slots is written next.
    next_flushed: u64,
    is_flushed: bool,
}

impl CommitMarkFile {
    /// Makes the file, with a mark in it; it is there whole or not at all.
    pub(super) fn create(directory: &dyn Directory, mark: CommitMark) -> io::Result<()> {
        let draft = format!("{MARK}{NEW}");
        let file = directory.create(&draft)?;
        // All of it has its place on the disk from the beginning, so that it can be written when that is full.
        let mut bytes = vec![0; (SLOTS * SLOT) as usize];
        bytes.chunks_mut(SLOT as usize).for_each(|slot| slot[..MARK_BYTES].copy_from_slice(&mark.to_bytes()));
        file.write_at(&bytes, 0)?;
        file.sync()?;
        directory.rename(&draft, MARK)?;
        directory.sync()
    }

    /// Opens the file, with the latest mark in it; nothing if there is none, or no slot holds one.
    pub(super) fn open(directory: &dyn Directory) -> io::Result<Option<(Self, CommitMark)>> {
        let file = match directory.open(MARK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (len, mut marks) = (file.len()?, [None; SLOTS as usize]);
        for (slot, mark) in (0..).zip(&mut marks) {
            let mut bytes = [0; MARK_BYTES];
            if slot * SLOT + MARK_BYTES as u64 <= len {
                file.read_at(&mut bytes, slot * SLOT)?;
            }
            *mark = CommitMark::from_bytes(&bytes);
        }
        let number = |mark: &Option<CommitMark>| mark.map(|mark| mark.last.number);
        let latest = marks.into_iter().max_by_key(number).flatten();
        // The better one of the last two is not written over.
        let next_flushed = u64::from(number(&marks[2]) > number(&marks[3]));
        Ok(latest.map(|mark| (Self { file, mark, next_flushed, is_flushed: true }, mark)))
    }

    /// Writes a mark over an older one.
    pub(super) fn write(&mut self, mark: CommitMark) -> io::Result<()> {
        (self.mark, self.is_flushed) = (mark, false);
        self.file.write_at(&mark.to_bytes(), mark.last.number % 2 * SLOT)
    }

    /// Flushes what has been written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.is_flushed {
            self.file.write_at(&self.mark.to_bytes(), (2 + self.next_flushed) * SLOT)?;
            self.file.sync()?;
            (self.next_flushed, self.is_flushed) = (1 - self.next_flushed, true);
        }
        Ok(())
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.is_flushed
    }
}
