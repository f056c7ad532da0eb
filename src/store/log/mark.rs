//! The commit mark: which frame was acknowledged last, in a small file of four slots.
//!
//! Slots 0 and 1 are written in turn, one with each frame, so the mark survives the end of the process. Slots 2 and 3 are written in
//! turn before each flush of the file, which comes within a second or so. Whatever a power cut leaves of the writes since the last
//! flush, one of slots 2 and 3 is intact: the mark may then be behind the log, and is never ahead of it.

use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::files::{Directory, FileHandle};
use super::frame::{Link, u64_at};
use super::names::{MARK, NEW};

/// The distance of the slots in bytes: a write that fails half-way damages one slot only.
const SLOT: u64 = 4096;

const SLOTS: u64 = 4;

/// The length of a mark in bytes.
const MARK_BYTES: usize = 32;

/// What has been acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitMark {
    /// The last frame.
    pub(super) last: Link,
    /// The number of subtasks after it.
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
        let last = Link { number: u64_at(bytes, 0), checksum: u64_at(bytes, 8) };
        let mark = Self { last, sub_jobs: u64_at(bytes, 16) };
        (*bytes == mark.to_bytes()).then_some(mark)
    }
}

/// The file of the commit mark.
#[derive(Debug)]
pub(super) struct CommitMarkFile {
    file: Arc<dyn FileHandle>,
    mark: CommitMark,
    /// Which of slots 2 and 3 is written next: 0 or 1.
    next_flushed: u64,
    is_flushed: bool,
}

impl CommitMarkFile {
    /// Creates the file with a mark in every slot; after a crash it is there whole or not at all.
    pub(super) fn create(directory: &dyn Directory, mark: CommitMark) -> io::Result<()> {
        let draft = format!("{MARK}{NEW}");
        let file = directory.create(&draft)?;
        // All blocks are allocated now, so that a mark can be written when the disk is full.
        let mut bytes = vec![0; (SLOTS * SLOT) as usize];
        bytes.chunks_mut(SLOT as usize).for_each(|slot| slot[..MARK_BYTES].copy_from_slice(&mark.to_bytes()));
        file.write_at(&bytes, 0)?;
        file.sync()?;
        directory.rename(&draft, MARK)?;
        directory.sync()
    }

    /// Opens the file and reads the latest mark; `None` if there is no file, or no intact slot.
    pub(super) fn open(directory: &dyn Directory) -> io::Result<Option<(Self, CommitMark)>> {
        let file = match directory.open(MARK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let marks = read_slots(&*file)?;
        // The later one of slots 2 and 3 is kept.
        let next_flushed = u64::from(number(&marks[2]) > number(&marks[3]));
        Ok(latest(marks).map(|mark| (Self { file, mark, next_flushed, is_flushed: true }, mark)))
    }

    /// Reads the latest mark while another process may write the file: a slot that is being written counts as not intact, and another
    /// one is. `None` if no slot is.
    pub(super) fn read(file: &dyn FileHandle) -> io::Result<Option<CommitMark>> {
        Ok(latest(read_slots(file)?))
    }

    /// Writes a mark over the last but one.
    pub(super) fn write(&mut self, mark: CommitMark) -> io::Result<()> {
        (self.mark, self.is_flushed) = (mark, false);
        self.file.write_at(&mark.to_bytes(), mark.last.number % 2 * SLOT)
    }

    /// Makes the mark that was written last durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.is_flushed {
            self.file.write_at(&self.mark.to_bytes(), (2 + self.next_flushed) * SLOT)?;
            self.file.sync()?;
            (self.next_flushed, self.is_flushed) = (1 - self.next_flushed, true);
        }
        Ok(())
    }
}

/// The mark in each slot that is intact.
fn read_slots(file: &dyn FileHandle) -> io::Result<[Option<CommitMark>; SLOTS as usize]> {
    let (len, mut marks) = (file.len()?, [None; SLOTS as usize]);
    for (slot, mark) in (0..).zip(&mut marks) {
        let mut bytes = [0; MARK_BYTES];
        if slot * SLOT + MARK_BYTES as u64 <= len {
            file.read_at(&mut bytes, slot * SLOT)?;
        }
        *mark = CommitMark::from_bytes(&bytes);
    }
    Ok(marks)
}

fn number(mark: &Option<CommitMark>) -> Option<u64> {
    mark.map(|mark| mark.last.number)
}

fn latest(marks: [Option<CommitMark>; SLOTS as usize]) -> Option<CommitMark> {
    marks.into_iter().max_by_key(number).flatten()
}
