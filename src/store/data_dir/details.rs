//! Reads details from the log or a snapshot, where each has its length and a checksum, which is verified at each read.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use xxhash_rust::xxh3::xxh3_64;

use super::details_codec::{DETAILS_HEADER, decode_details, read_header};
use super::lock::lock_ignoring_poison;
use crate::domain::Details;
use crate::store::log::{Directory, FileHandle};
use crate::store::memory::DetailsReader;
use crate::store::types::StoreError;

/// The bits of a location that are the offset in the file, which has at most 1 TiB. The others are the number of the file.
const OFFSET_BITS: u32 = 40;

/// The maximum length of details in bytes: two objects of 8 KiB, and texts.
const MAX_DETAILS: u32 = 64 * 1024;

/// How many files are open at once.
const MAX_OPEN: usize = 64;

/// The file descriptors of a data directory: those files; the directory, its lock, the commit mark, the current and the next segment,
/// a snapshot that is written and read back, and files that are open for a moment.
pub const STORE_DESCRIPTORS: u64 = MAX_OPEN as u64 + 32;

/// The number of a file in this process, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileNumber(u32);

impl FileNumber {
    /// The location of an offset in the file; never zero.
    pub(super) fn location(self, at: u64) -> u64 {
        u64::from(self.0) << OFFSET_BITS | at
    }

    /// The file of a location.
    pub(super) fn of(location: u64) -> Self {
        Self((location >> OFFSET_BITS) as u32)
    }
}

/// The files that hold details. The most recently opened ones stay open.
#[derive(Debug)]
pub(super) struct DetailsFiles {
    directory: Arc<dyn Directory>,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// By number; `None` for a file that has been removed.
    names: Vec<Option<String>>,
    /// The most recently opened one is last.
    open: VecDeque<(FileNumber, Arc<dyn FileHandle>)>,
}

impl Files {
    fn keep_open(&mut self, number: FileNumber, file: Arc<dyn FileHandle>) {
        if self.open.len() == MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((number, file));
    }
}

/// Why details cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// A snapshot has moved them to another file.
    #[error("they have been moved")]
    Moved,
    /// The operating system has refused a call.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Checksum mismatch.
    #[error("they are not as they were written")]
    Damaged,
}

impl DetailsFiles {
    pub(super) fn new(directory: Arc<dyn Directory>) -> Self {
        Self { directory, files: Mutex::default() }
    }

    /// Gives a file the next number.
    pub(super) fn add(&self, name: &str, file: Arc<dyn FileHandle>) -> FileNumber {
        let mut files = lock_ignoring_poison(&self.files);
        files.names.push(Some(name.into()));
        let number = FileNumber(files.names.len() as u32);
        files.keep_open(number, file);
        number
    }

    /// The highest number.
    pub(super) fn latest(&self) -> FileNumber {
        FileNumber(lock_ignoring_poison(&self.files).names.len() as u32)
    }

    /// Closes all files up to a number. Reads of them that have begun continue.
    pub(super) fn close_to(&self, last: FileNumber) {
        let mut files = lock_ignoring_poison(&self.files);
        files.names.iter_mut().take(last.0 as usize).for_each(|name| *name = None);
        files.open.retain(|(number, _)| *number > last);
    }

    fn file(&self, number: FileNumber) -> Result<Arc<dyn FileHandle>, ReadError> {
        let mut files = lock_ignoring_poison(&self.files);
        if let Some((_, file)) = files.open.iter().find(|(open, _)| *open == number) {
            return Ok(file.clone());
        }
        let name = (number.0 as usize).checked_sub(1).and_then(|at| files.names.get(at));
        let name = name.and_then(Option::as_ref).ok_or(ReadError::Moved)?;
        let file = self.directory.open(name)?;
        files.keep_open(number, file.clone());
        Ok(file)
    }

    /// The encoded details at a location.
    pub(super) fn read_encoded(&self, location: u64) -> Result<Vec<u8>, ReadError> {
        let file = self.file(FileNumber::of(location))?;
        let (at, mut header) = (location & ((1 << OFFSET_BITS) - 1), [0; DETAILS_HEADER]);
        file.read_at(&mut header, at)?;
        let (length, checksum) = read_header(header);
        if length > MAX_DETAILS {
            return Err(ReadError::Damaged);
        }
        let mut encoded = vec![0; length as usize];
        file.read_at(&mut encoded, at + DETAILS_HEADER as u64)?;
        if xxh3_64(&encoded) == checksum { Ok(encoded) } else { Err(ReadError::Damaged) }
    }

    fn read(&self, location: u64) -> Result<Details, ReadError> {
        decode_details(&self.read_encoded(location)?).map_err(|_| ReadError::Damaged)
    }

    /// The details at each location that is not zero; `None` if a snapshot has moved some meanwhile.
    pub(super) fn read_all(&self, locations: &[u64]) -> Result<Option<Vec<Option<Box<Details>>>>, StoreError> {
        let one = |location: &u64| (*location > 0).then(|| self.read(*location).map(Box::new)).transpose();
        match locations.iter().map(one).collect() {
            Ok(all) => Ok(Some(all)),
            Err(ReadError::Moved) => Ok(None),
            Err(error) => {
                tracing::error!(%error, "the details of a subtask cannot be read");
                Err(StoreError::Unreadable)
            }
        }
    }
}

impl DetailsReader for DetailsFiles {
    /// False for details that cannot be read, so that a report replaces them.
    fn has_details(&self, number: u64, details: &Details) -> bool {
        match self.read(number) {
            Ok(stored) => stored == *details,
            Err(error) => {
                tracing::error!(%error, "the details of a subtask cannot be compared");
                false
            }
        }
    }
}
